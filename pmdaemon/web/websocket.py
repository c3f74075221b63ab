"""The WebSocket itself: one Autobahn protocol instance per connection, between its session and the daemon.

Autobahn swallows exceptions of ``onConnect`` and loses those of ``onOpen``; what can go wrong is therefore done, and
answered, in ``onMessage``.
"""

# mypy: disallow-untyped-calls=False
# (autobahn has few annotations)

from collections.abc import Awaitable
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pmdaemon.core.access import check
from pmdaemon.core.commands import Authenticate, Subscribe, Unsubscribe
from pmdaemon.core.times import rfc3339
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.describe import Describer
from pmdaemon.daemon.dispatch import Dispatcher, Reply
from pmdaemon.daemon.ids import aside, id_of
from pmdaemon.errors import InternalError, InvalidMessage, PMDaemonError
from pmdaemon.protocol.codec import Incoming, encode
from pmdaemon.web.catchup import Archive
from pmdaemon.web.channels import Channels
from pmdaemon.web.delivery import Delivery
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import Outbox, Pool
from pmdaemon.web.visit import Visit

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

RECHECK: Final = 2.0
"""Seconds within which a connection ends whose token was taken back."""

MAX_PENDING: Final = 64
"""Commands of one connection that may wait; while there are as many, its socket is not read [F3]."""

_LAST_MOMENT: Final = 253_402_300_799
"""Unix seconds of the last moment that can be written as a date."""

_UNSUPPORTED, _GOING_AWAY, _RESTART = 1003, 1001, 1012


class DaemonProtocol(WebSocketServerProtocol):
    """One connection: a member of a channel."""

    factory: "DaemonSocketFactory"
    outbox: Outbox
    transport: Any
    visit: Visit
    """Set before the connection is made; without it nothing is answered."""

    CONFIG_ATTRS = []  # noqa: RUF012  # typed so by Autobahn
    """Autobahn would copy the options to each connection, and word them for a log; they are the class's."""

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Accept every handshake that the guard let through; the subprotocol of ours where it is offered."""
        return "pmdaemon.v1" if "pmdaemon.v1" in request.protocols else None

    def onOpen(self) -> None:
        """Get ready to talk; nothing is said before the client asks [S1]."""
        factory = self.factory
        self.http_request_data, self.http_headers = b"", {}  # kept by Autobahn for as long as the connection
        self._pending = 0
        self._unanswered = False
        self.delivery = Delivery(factory.archive, factory.channels, factory.describer, factory.clock)
        self.delivery.outbox = self.outbox = Outbox(
            self.transport,
            factory.clock,
            factory.pool,
            encode_gap=self._gap,
            close=self._close,
            drained=self.delivery.go_on,
        )
        self.session = self.delivery.session
        factory.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Answer one message."""
        if self.state != self.STATE_OPEN:  # what the client sent before it saw our close
            return
        if isBinary:
            self._close(_UNSUPPORTED, "send text frames of JSON")
            return
        if not self.still_welcome():
            return
        incoming = self.session.receive(payload)
        try:
            far_too_many = self.visit.spend()
            if far_too_many is not None:
                self._close(far_too_many, "too many messages")
                return
            self._answer(incoming)
        except Exception as error:  # the door to the client, see _refusal
            self.delivery.reply(self._refusal(incoming, error))

    def _refusal(self, incoming: Incoming, error: Exception) -> bytes:
        """Word what went wrong: the door to the client, where a defect becomes a logged one-line answer."""
        if not isinstance(error, PMDaemonError):
            self.log_defects.failure("cannot answer {about}", Failure(error), about=dict(incoming.about))
            error = InternalError(
                "cannot answer this: the daemon has a defect", hint="the daemon's log has the details"
            )
        return self.session.refuse(incoming, error)

    log_defects = Logger()

    def _answer(self, incoming: Incoming) -> None:
        if incoming.error is not None:
            raise incoming.error
        request = incoming.request
        if isinstance(request, Subscribe):
            check(self.visit.caller, request)
            self.delivery.subscribe(incoming, request, self.visit.within)
        elif isinstance(request, Unsubscribe):
            self.delivery.unsubscribe(incoming, request)
        elif isinstance(request, Authenticate):
            self._authenticate(incoming, request)
        elif request is not None:
            self._pending += 1
            if self._pending == MAX_PENDING:
                self.transport.pauseProducing()
            work = self.factory.dispatcher.execute(request, self.visit.caller)
            Deferred.fromCoroutine(self._finish(incoming, work))

    def _authenticate(self, incoming: Incoming, request: Authenticate) -> None:
        """Go on as another caller, who sees other processes: so nothing may be subscribed to."""
        if self.session.subscription:
            raise InvalidMessage("cannot authenticate now: something is subscribed to", hint="authenticate first")
        caller = self.visit.authenticate(request.token)
        expires = None if caller.expires is None else rfc3339(min(caller.expires, _LAST_MOMENT))
        told = {"scope": caller.scope, "processes": caller.processes.listed(), "expires": expires}
        self.factory.watch(self)
        self.delivery.reply(self.session.reply(incoming, "authenticated", told))

    def still_welcome(self) -> bool:
        """Whether the caller may stay; where not, the connection is being closed."""
        ended = self.visit.recheck()
        if ended is not None:
            self._close(*ended)
        return ended is None

    async def _finish(self, incoming: Incoming, work: Awaitable[Reply]) -> None:
        try:
            reply = await work
            answer = self.session.reply(incoming, reply.type, reply.data)
        except Exception as error:  # the door to the client, see _refusal
            answer = self._refusal(incoming, error)
        self._pending -= 1
        if self._pending == MAX_PENDING - 1 and self.state == self.STATE_OPEN:
            self.transport.resumeProducing()
        self.delivery.reply(answer)

    # The connection

    def beat(self) -> None:
        """Ping the client, or drop it where it did not answer the last ping.

        Not one that is behind, which its outbox judges, nor one that is not read just now, whose pong is not seen.
        """
        if self.outbox.congested or self._pending >= MAX_PENDING:
            self._unanswered = False
        elif self._unanswered:
            self.dropConnection(abort=True)
        else:
            self._unanswered = True
            self.sendPing(b"pmdaemon")

    def onPong(self, payload: bytes) -> None:
        """The client is there."""
        self._unanswered = False

    def leave(self, *, restart: bool) -> None:
        """Say that the daemon stops, or that another one takes its place at once."""
        if restart:
            self._close(_RESTART, "the daemon is being replaced")
        else:
            self._close(_GOING_AWAY, "the daemon stops")

    def _close(self, code: int, reason: str) -> None:
        """Close with any code; Autobahn's own ``sendClose`` takes only those for applications."""
        self.sendCloseFrame(code, reason.encode())

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Close, also where Autobahn wants it: nothing is sent behind that."""
        self.delivery.stop()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Have Autobahn's frames, pings and pongs, take their place behind what waits for the client."""
        if self.state == self.STATE_OPEN and not self.outbox.ended:
            self.outbox.write(data)
        else:
            super().sendData(data, sync, chopsize)

    def _gap(self, process: str, dropped: int, seq: int) -> bytes:
        """Word the notice of lost lines, the first of them numbered *seq*: who goes on from its id is told them."""
        data = {"process": process, "dropped": dropped}
        return frame(encode("log_gap", data, id=aside(seq - 1, id_of(seq)), at=self.factory.bus.now()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended, however far it had come."""
        super().connectionLost(reason)
        self.visit.over()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Forget the connection; its subscription ends with it."""
        if self in self.factory.connections:
            self.delivery.stop()
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
        super().__init__(reactor=reactor, server="PMDaemon")
        self.setProtocolOptions(**OPTIONS)
        for name in WebSocketServerProtocol.CONFIG_ATTRS:
            value = getattr(self, name)
            setattr(DaemonProtocol, name, staticmethod(value) if callable(value) else value)
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
        self._watched: set[DaemonProtocol] = set()
        self._watch = LoopingCall(self._recheck)
        self._watch.clock = reactor

    def opened(self, connection: DaemonProtocol) -> None:
        """Take a connection up."""
        self.connections.add(connection)
        self.watch(connection)
        if not self._heart.running:
            self._heart.start(BEAT, now=False)

    def closed(self, connection: DaemonProtocol) -> None:
        """Drop a connection."""
        self.connections.discard(connection)
        self._watched.discard(connection)
        if self._watch.running and not self._watched:
            self._watch.stop()
        if self.connections:
            return
        if self._heart.running:
            self._heart.stop()
        if self._empty is not None and not self._empty.called:
            self._empty.callback(None)

    def watch(self, connection: DaemonProtocol) -> None:
        """Look now and then whether a caller may stay whose right to may come to an end."""
        if connection.visit.may_end:
            self._watched.add(connection)
            if not self._watch.running:
                self._watch.start(RECHECK, now=False)

    def _recheck(self) -> None:
        for connection in list(self._watched):
            if connection.state == connection.STATE_OPEN:
                connection.still_welcome()

    def _beat(self) -> None:
        for connection in list(self.connections):
            connection.beat()

    def leave(self, *, restart: bool = False) -> "Deferred[None]":
        """Close every connection, as the daemon stops or is replaced; fires when the last one is closed."""
        self._empty = Deferred()
        for connection in list(self.connections):
            connection.leave(restart=restart)
        return self._empty
