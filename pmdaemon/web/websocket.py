"""The WebSocket itself: one Autobahn protocol instance per connection, between its session and the daemon.

Autobahn swallows exceptions of ``onConnect`` and loses those of ``onOpen``; what can go wrong is therefore done, and
answered, in ``onMessage``.
"""

# mypy: disallow-untyped-calls=False
# (autobahn has few annotations)

from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pmdaemon.core.commands import Subscribe, Unsubscribe
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.describe import Describer, page
from pmdaemon.daemon.dispatch import Dispatcher
from pmdaemon.daemon.ids import id_of, seq_of
from pmdaemon.errors import InternalError, InvalidMessage, PMDaemonError
from pmdaemon.protocol.codec import Incoming, encode
from pmdaemon.protocol.session import Session
from pmdaemon.web.catchup import Archive, CatchUp, replayed
from pmdaemon.web.channels import Channels
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import Outbox, Pool

__all__ = ["MAX_MESSAGE", "OPTIONS", "DaemonProtocol", "DaemonSocketFactory"]

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of a client's message; a longer one closes with 1009 [E4]."""

OPTIONS: Final = {
    "versions": [13],
    "webStatus": False,
    "maxFramePayloadSize": MAX_MESSAGE,
    "maxMessagePayloadSize": MAX_MESSAGE,
    "utf8validateIncoming": True,
    "failByDrop": False,
    "openHandshakeTimeout": 10,
    "closeHandshakeTimeout": 1,
    "autoPingInterval": 0,
    "perMessageCompressionAccept": lambda offers: None,
    "allowedOrigins": ["*"],
    "allowNullOrigin": True,
    "maxConnections": 0,
    "trustXForwardedFor": 0,
}
"""Set in one call: any later call that leaves ``allowNullOrigin`` out would change it.

Origins are the guard's business, and pings are ours: Autobahn's would end a client whose ping cannot leave yet [F2].
"""

BEAT: Final = 20.0
"""Seconds between pings, and for a pong to come [F2]."""

MAX_PENDING: Final = 64
"""Commands of one connection that may wait; while there are as many, its socket is not read [F3]."""

_UNSUPPORTED, _GOING_AWAY = 1003, 1001


class DaemonProtocol(WebSocketServerProtocol):
    """One connection: a member of a channel."""

    factory: "DaemonSocketFactory"
    outbox: Outbox
    transport: Any

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Accept every handshake that the guard let through; the subprotocol of ours where it is offered."""
        return "pmdaemon.v1" if "pmdaemon.v1" in request.protocols else None

    def onOpen(self) -> None:
        """Get ready to talk; nothing is said before the client asks [S1]."""
        self._catching_up: CatchUp | None = None
        self._pending = 0
        self._unanswered = False
        self.session = Session(self.factory.bus.stamp)
        self.outbox = Outbox(
            self.transport,
            self.factory.clock,
            self.factory.pool,
            encode_gap=self._gap,
            close=self._close,
            drained=self._continue,
        )
        self.factory.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer one message."""
        if isBinary:
            self._close(_UNSUPPORTED, "send text frames of JSON")
            return
        incoming = self.session.receive(payload)
        try:
            self._answer(incoming)
        except PMDaemonError as error:
            self._send_reply(self.session.refuse(incoming, error))
        except Exception:  # the door to the client: a defect becomes a logged one-line answer
            self.log_defects.failure("cannot answer {about}", about=dict(incoming.about))
            defect = InternalError(
                "cannot answer this: the daemon has a defect", hint="the daemon's log has the details"
            )
            self._send_reply(self.session.refuse(incoming, defect))

    log_defects = Logger()

    def _answer(self, incoming: Incoming) -> None:
        if incoming.error is not None:
            raise incoming.error
        request = incoming.request
        if isinstance(request, Subscribe):
            self._subscribe(incoming, request)
        elif isinstance(request, Unsubscribe):
            self.factory.bus.flush()
            ack = self.session.unsubscribe(request)
            self._go_live()
            self._send_reply(self.session.reply(incoming, "unsubscribed", ack))
        elif request is not None:
            self._begin(incoming, self.factory.dispatcher.execute(request))

    # Requests that take time

    def _begin(self, incoming: Incoming, work: Any) -> None:
        self._pending += 1
        if self._pending == MAX_PENDING:
            self.transport.pauseProducing()
        Deferred.fromCoroutine(self._finish(incoming, work))

    async def _finish(self, incoming: Incoming, work: Any) -> None:
        try:
            reply = await work
            answer = self.session.reply(incoming, reply.type, reply.data)
        except PMDaemonError as error:
            answer = self.session.refuse(incoming, error)
        finally:
            self._pending -= 1
            if self._pending == MAX_PENDING - 1 and self.transport is not None:
                self.transport.resumeProducing()
        self._send_reply(answer)

    def _send_reply(self, answer: bytes) -> None:
        """Send an answer behind the events that were published before it [P11]."""
        self.factory.bus.flush()
        self.outbox.write(frame(answer))

    # Subscribing

    def _subscribe(self, incoming: Incoming, request: Subscribe) -> None:
        if request.since is not None and request.tail is not None:
            raise InvalidMessage(
                "cannot subscribe with both since and tail",
                hint="since resumes after a message, tail starts with the last lines",
                details={"path": "data.tail"},
            )
        factory = self.factory
        since = None if request.since is None else seq_of(request.since)
        before = list(self.session.subscription)
        ack = self.session.subscribe(request)
        factory.bus.flush()
        present = factory.bus.last
        self._acknowledge(incoming, ack, request)
        starts = replayed(
            {**dict.fromkeys(before, present), **dict.fromkeys(ack["events"], present if since is None else since)}
            if since is not None or request.tail
            else {}
        )
        if since is not None:
            self._tell_gap(since, "log_message" in request.events)
        if starts or self._catching_up is not None:
            self._catch_up(starts, since, request.tail)
        else:
            self._go_live()
        self.outbox.offer(factory.channels.first_figures(self, self.session.subscription, request.events))

    def _acknowledge(self, incoming: Incoming, ack: dict[str, Any], request: Subscribe) -> None:
        """Answer with the matching processes as they are in this turn [S3], on as many messages as it takes [E6]."""
        describer, selection = (
            self.factory.describer,
            next(want.selection for want in map(self.session.subscription.get, request.events) if want is not None),
        )
        matching = [each for each in self.factory.archive.supervisor.select(None) if each in selection]
        objects = describer.processes(matching) if matching else []
        snapshot, cursor = page(objects)
        more = {} if cursor is None else {"more": True, "cursor": cursor}
        self.outbox.write(frame(self.session.reply(incoming, "subscribed", {**ack, "snapshot": snapshot, **more})))
        while cursor is not None:
            objects = objects[len(snapshot) :]
            snapshot, cursor = page(objects)
            more = {} if cursor is None else {"more": True, "cursor": cursor}
            self.outbox.write(frame(self.session.reply(incoming, "snapshot", {"processes": snapshot, **more})))

    def _tell_gap(self, since: int, logs: bool) -> None:
        gap = self.factory.archive.journal.gap(since, logs=logs)
        if gap is not None:
            data = {"from": id_of(since), "to": id_of(gap.to), "dropped": gap.dropped}
            self.outbox.write(frame(self.session.tell("gap", data)))

    def _catch_up(self, starts: dict[str, int], since: int | None, tail: int | None) -> None:
        archive = self.factory.archive
        channel = self.factory.channels.hold(
            self, self.session.subscription, lambda held: since is None or CatchUp.begin(archive, held, since)
        )
        self._catching_up = CatchUp(archive, channel, starts, tail)
        self._continue()

    def _continue(self) -> None:
        """Send what was missed as fast as the client takes it, then go live in the same turn [S7]."""
        while self._catching_up is not None and not self.outbox.congested:
            frames = self._catching_up.next()
            if frames:
                self.outbox.offer(frames)
            else:
                self._go_live()

    def _go_live(self) -> None:
        self._catching_up = None
        self.factory.channels.join(self, self.session.subscription)

    # The connection

    def beat(self) -> None:
        """Ping the client, or drop it where it did not answer the last ping; one that is behind is its outbox's."""
        if self.outbox.congested:
            self._unanswered = False
        elif self._unanswered:
            self.dropConnection(abort=True)
        else:
            self._unanswered = True
            self.sendPing(b"pmdaemon")

    def onPong(self, payload: bytes) -> None:
        """The client is there."""
        self._unanswered = False

    def leave(self) -> None:
        """Say that the daemon stops."""
        self._close(_GOING_AWAY, "the daemon stops")

    def _close(self, code: int, reason: str) -> None:
        """Close with any code; Autobahn's own ``sendClose`` takes only those for applications."""
        self.sendCloseFrame(code, reason.encode())

    def _gap(self, process: str, dropped: int, seq: int) -> bytes:
        data = {"process": process, "dropped": dropped}
        return frame(encode("log_gap", data, id=id_of(seq), at=self.factory.bus.now()))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Forget the connection; its subscription ends with it."""
        if self in self.factory.connections:
            self._catching_up = None
            self.outbox.stop()
            self.factory.closed(self)


class DaemonSocketFactory(WebSocketServerFactory):
    """Makes the protocol instances and holds what they share."""

    protocol = DaemonProtocol  # type: ignore[assignment]  # typed for plain protocols

    def __init__(
        self,
        reactor: Any,
        *,
        bus: EventBus,
        dispatcher: Dispatcher,
        describer: Describer,
        channels: Channels,
        archive: Archive,
    ) -> None:
        super().__init__(reactor=reactor)
        self.setProtocolOptions(**OPTIONS)
        self.clock: IReactorTime = reactor
        self.bus = bus
        self.dispatcher = dispatcher
        self.describer = describer
        self.channels = channels
        self.archive = archive
        self.pool = Pool()
        self.connections: set[DaemonProtocol] = set()
        self._empty: Deferred[None] | None = None
        self._heart = LoopingCall(self._beat)
        self._heart.clock = reactor

    def opened(self, connection: DaemonProtocol) -> None:
        """Take a connection up."""
        self.connections.add(connection)
        if not self._heart.running:
            self._heart.start(BEAT, now=False)

    def closed(self, connection: DaemonProtocol) -> None:
        """Drop a connection."""
        self.connections.discard(connection)
        self.channels.gone(connection)
        if self.connections:
            return
        if self._heart.running:
            self._heart.stop()
        if self._empty is not None and not self._empty.called:
            self._empty.callback(None)

    def _beat(self) -> None:
        for connection in list(self.connections):
            connection.beat()

    def leave(self) -> "Deferred[None]":
        """Close every connection, as the daemon stops; fires when the last one is closed."""
        self._empty = Deferred()
        for connection in list(self.connections):
            connection.leave()
        return self._empty
