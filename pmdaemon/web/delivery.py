"""What one connection is sent, in order, whether it is live or is still catching up.

It subscribes, and words the answers to that. What carries the frames is the outbox.
"""

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pmdaemon.core.commands import Subscribe, Unsubscribe
from pmdaemon.core.events import EVENTS, JOURNALED, LogMessage
from pmdaemon.core.selection import Identity, Selection
from pmdaemon.daemon.backfill import Stretch
from pmdaemon.daemon.describe import Describer, page
from pmdaemon.daemon.ids import aside, id_of, seq_of
from pmdaemon.daemon.journal import Gap
from pmdaemon.errors import InvalidMessage
from pmdaemon.protocol.codec import Incoming
from pmdaemon.protocol.session import Session
from pmdaemon.web.catchup import Archive, CatchUp
from pmdaemon.web.channels import Channel, Channels
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import CLIENT_LIMIT, Outbox

__all__ = ["Delivery"]

_TURN: Final = 0.02
"""Seconds for which one connection is caught up before others have their turn."""

_KEPT: Final = JOURNALED | {LogMessage.type}
"""The event types that can be told again [S7]."""


class Delivery:
    """One connection's place among the channels; ``outbox`` has to be set before anything is delivered."""

    outbox: Outbox

    def __init__(self, archive: Archive, channels: Channels, describer: Describer, clock: IReactorTime) -> None:
        self._archive = archive
        self._bus = archive.bus
        self._channels = channels
        self._describer = describer
        self._clock = clock
        self._catching_up: CatchUp | None = None
        self._fillers: list[Stretch] = []
        self._next_turn: IDelayedCall | None = None
        self._aside: int | None = None
        self.session = Session(self._stamp)

    def _stamp(self) -> tuple[str, float]:
        own, at = self._bus.stamp()
        return (own if self._aside is None else aside(self._aside, own)), at

    def reply(self, answer: bytes) -> None:
        """Send an answer, behind the events that were published before it [P11]."""
        self._bus.flush()
        self._say(answer)

    def _say(self, payload: bytes) -> None:
        """Send what has just been stamped; while catching up in its place, unless it is told aside."""
        if self._catching_up is None or self._aside is not None:
            self.outbox.write(frame(payload))
            return
        self._catching_up.reply(self._bus.last, frame(payload))
        if self._catching_up.size > CLIENT_LIMIT:
            self.outbox.overflow()

    # Subscribing

    def subscribe(self, incoming: Incoming, request: Subscribe, within: Selection | None = None) -> None:
        """Answer the request, then send what it asks for of the past, then what happens. Raises InvalidMessage.

        *within* are the only processes that exist for who asks, None for all.
        """
        since = self._since(request)
        names = [name for name in request.events if name in EVENTS]
        self._bus.flush()
        told = self._positions()
        ack = self.session.subscribe(request, within)
        told |= dict.fromkeys(names, self._bus.last if since is None else since)
        tail = request.tail if LogMessage.type in names else None
        if not _KEPT.isdisjoint(names) and (since is not None or tail):
            self._aside = min(seq for name, seq in told.items() if name in _KEPT)
        # Before the answer: a line that its reader has printed is one of those that it is told of.
        channel, whole = None, True
        if self._aside is not None or self._catching_up is not None:
            channel, whole = self._hold(since if LogMessage.type in names else None)
        else:
            self._go_live()
        try:
            self._acknowledge(incoming, ack, names)
            if channel is not None and since is not None:
                self._tell_gap(since, names, whole)
            for type_, data in self._channels.first_figures(self.session.subscription, names):
                self._say(self.session.tell(type_, data))
        finally:
            self._aside = None
            if channel is not None:
                self._catch_up(channel, told, names, tail)

    def _since(self, request: Subscribe) -> int | None:
        if request.since is None:
            return None
        if request.tail is not None:
            raise InvalidMessage(
                "cannot subscribe with both since and tail",
                hint="since resumes after a message, tail starts with the last lines",
                details={"path": "data.tail"},
            )
        return seq_of(request.since, self._bus.last)

    def _positions(self) -> dict[str, int]:
        """Return up to which id everything of each event type was told that is subscribed to."""
        present, catching_up = self._bus.last, self._catching_up
        return {
            type_: present if catching_up is None else catching_up.position(type_)
            for type_ in self.session.subscription
        }

    def _acknowledge(self, incoming: Incoming, ack: dict[str, Any], names: list[str]) -> None:
        """Answer with the matching processes as they are in this turn [S3], on as many messages as it takes [E6]."""
        want = self.session.subscription.get(names[0])
        matching = [
            each for each in self._archive.supervisor.select(None) if want is not None and each in want.selection
        ]
        objects = self._describer.processes(matching) if matching else []
        beside = len(self.session.reply(incoming, "subscribed", ack))
        snapshot, cursor = page(objects, beside=beside)
        self._say(self.session.reply(incoming, "subscribed", {**ack, "snapshot": snapshot, **_more(cursor)}))
        while cursor is not None:
            objects = objects[len(snapshot) :]
            snapshot, cursor = page(objects)
            self._say(self.session.reply(incoming, "snapshot", {"processes": snapshot, **_more(cursor)}))

    def _tell_gap(self, since: int, names: list[str], whole: bool) -> None:
        def wants(type_: str, who: Identity) -> bool:
            want = self.session.subscription.get(type_) if type_ in names else None
            return want is not None and who in want.selection

        gap = self._archive.journal.lost(since, wants, logs=LogMessage.type in names)
        if not whole:
            gap = Gap(self._bus.last, None)
        if gap is not None:
            data = {"from": id_of(since), "to": id_of(gap.to), "dropped": gap.dropped}
            self._say(self.session.tell("gap", data))

    def unsubscribe(self, incoming: Incoming, request: Unsubscribe) -> None:
        """Send nothing more of the request's events, and answer. Raises InvalidMessage."""
        self._bus.flush()
        told = self._positions()
        ack = self.session.unsubscribe(request)
        if self._catching_up is None:
            self._go_live()
        else:
            self._catch_up(self._hold(None)[0], told, [], None)
        self._say(self.session.reply(incoming, "unsubscribed", ack))

    # Catching up

    def _hold(self, since: int | None) -> tuple[Channel, bool]:
        """Have what the present subscription wants followed, log lines from id *since* on where that is given.

        The second value is False where there are more lines than can be told.
        """
        whole = True

        def fill(held: Channel) -> None:
            nonlocal whole
            if since is not None:
                self._fillers, whole = self._archive.fill(held, since)

        return self._channels.hold(self, self.session.subscription, fill), whole

    def _catch_up(self, channel: Channel, told: Mapping[str, int], names: list[str], tail: int | None) -> None:
        """Send everything that was not *told* of the present subscription; *names* are the types asked for just now."""
        subscription, before = self.session.subscription, self._catching_up
        starts = {type_: told[type_] for type_ in subscription if type_ in _KEPT}
        self._catching_up = CatchUp(self._archive, channel, starts)
        if before is not None:
            logs_go_on = LogMessage.type in subscription and LogMessage.type not in names
            self._catching_up.go_on(before, tails=logs_go_on)
        if tail:
            self._catching_up.begin_with(tail)
        self.go_on()

    def go_on(self) -> None:
        """Send what was missed as fast as the client takes it, then go live in the same turn [S7].

        It begins when lines that were never published have their ids: a client that has seen something newer than
        these would never ask for them, should the daemon end before they have.
        """
        catching_up = self._catching_up
        if catching_up is None:
            return
        self._fillers = [filler for filler in self._fillers if filler.behind]
        if self._fillers:
            self._in_next_turn()
            return
        self._bus.flush()
        until = self._clock.seconds() + _TURN
        while catching_up is self._catching_up and not self.outbox.congested:
            framed = catching_up.next()
            if framed:
                self.outbox.write(framed)
            if catching_up.done:
                self._go_live()
            elif self._clock.seconds() >= until:
                self._in_next_turn()
                return

    def _in_next_turn(self) -> None:
        if self._next_turn is None:
            self._next_turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._next_turn = None
        self.go_on()

    def _cancel_turn(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def _go_live(self) -> None:
        self._catching_up = None
        self._cancel_turn()
        self._channels.join(self, self.session.subscription)

    def stop(self) -> None:
        """Send nothing any more: the connection is lost, or is being closed."""
        self._catching_up = None
        self._cancel_turn()
        self._channels.gone(self)
        self.outbox.stop()


def _more(cursor: int | None) -> dict[str, Any]:
    return {} if cursor is None else {"more": True, "cursor": cursor}
