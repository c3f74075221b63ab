"""All sockets that want the same, served as one: an event is matched, encoded and framed once for all of them.

What is published in a turn leaves as one write to each socket. A channel is known by its subscription.
"""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from pmdaemon.core.events import LogMessage
from pmdaemon.core.lines import Stream
from pmdaemon.core.logfilter import Matcher
from pmdaemon.core.selection import Identity, Selection
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.log import STREAMS
from pmdaemon.daemon.sampler import Sampler
from pmdaemon.protocol.codec import encode
from pmdaemon.protocol.subscription import Subscription
from pmdaemon.web.figures import Figures, Measure
from pmdaemon.web.frames import frame
from pmdaemon.web.lane import Lane
from pmdaemon.web.outbox import Frame, Kind, Outbox
from pmdaemon.web.routes import Routes

__all__ = ["Channel", "Channels", "Member"]

Stamp = Callable[[], tuple[str, float]]


class Member(Protocol):
    """Somebody on a channel: one connection."""

    outbox: Outbox


class Channel:
    """One subscription and who has it; ``streams`` are those of which log lines may be wanted."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.waiting: list[Frame] = []
        self.lane = Lane()
        want = subscription.get(LogMessage.type)
        lines = None if want is None else want.lines
        self._matcher: Matcher | None = None if lines is None else lines.matcher()
        self.streams: tuple[Stream, ...] = STREAMS
        if want is None:
            self.streams = ()
        elif lines is not None and lines.stream is not None:
            self.streams = tuple(stream for stream in STREAMS if stream == lines.stream)

    def wants(self, type_: str, who: Identity) -> bool:
        """Tell whether events of *type_* about *who* are wanted."""
        want = self.subscription.get(type_)
        return want is not None and who in want.selection

    def passes(self, message: LogMessage) -> bool:
        """Tell whether a line passes the filter [S9]."""
        return self._matcher is None or self._matcher(message.message, message.level, message.stream)


class Channels:
    """Every channel; a sink of the event bus.

    *settle* has everything published so far committed and sent; *follow_logs* is told of
    which processes which streams are wanted now.
    """

    def __init__(
        self,
        *,
        stamp: Stamp,
        settle: Callable[[], None],
        sampler: Sampler,
        measure: Measure,
        follow_logs: Callable[[Selection, Collection[str]], None],
    ) -> None:
        self._stamp = stamp
        self._settle = settle
        self._follow_logs = follow_logs
        self._figures: Figures[Channel] = Figures(sampler, measure, self._deliver)
        self._channels: dict[Subscription, Channel] = {}
        self._routes: Routes[Channel] = Routes()
        self._dirty: list[Channel] = []
        self._of: dict[Member, Channel] = {}
        self._held: dict[Member, Channel] = {}
        self._held_routes: Routes[Channel] = Routes()

    # Who is on which

    def join(self, member: Member, subscription: Subscription) -> None:
        """Put *member* on the channel of *subscription*, off whatever it was on; an empty one is none."""
        before = self._of.get(member)
        if before is None or before.subscription != subscription:
            if subscription:
                self._open(subscription).lane.add(member.outbox)
                self._of[member] = self._channels[subscription]
            else:
                self._of.pop(member, None)
            self._leave(member, before)
        self._release(member)

    def hold(self, member: Member, subscription: Subscription, begin: Callable[[Channel], object]) -> Channel:
        """Take *member* off its channel, and have the logs of *subscription* followed while it is catching up.

        Returns a channel that only matches; *begin* is called with it before its logs are followed from where they end.
        """
        held = Channel(subscription)
        self._held_routes.add(held)
        begin(held)
        self._follow(held)
        self._release(member)
        self._held[member] = held
        self._leave(member, self._of.pop(member, None))
        return held

    def gone(self, member: Member) -> None:
        """Take a closed connection off everything."""
        self._release(member)
        self._leave(member, self._of.pop(member, None))

    def _open(self, subscription: Subscription) -> Channel:
        channel = self._channels.get(subscription)
        if channel is None:
            channel = self._channels[subscription] = Channel(subscription)
            self._routes.add(channel)
            self._figures.add(channel, subscription)
            self._follow(channel)
        return channel

    def _follow(self, channel: Channel) -> None:
        want = channel.subscription.get(LogMessage.type)
        if want is not None:
            self._follow_logs(want.selection, channel.streams)

    def _leave(self, member: Member, channel: Channel | None) -> None:
        """Take *member* off *channel*, which ends with its last member."""
        if channel is None:
            return
        channel.lane.discard(member.outbox)
        if not channel.lane:
            del self._channels[channel.subscription]
            self._routes.remove(channel)
            self._figures.remove(channel, channel.subscription)

    def _release(self, member: Member) -> None:
        """End ``hold``."""
        held = self._held.pop(member, None)
        if held is not None:
            self._held_routes.remove(held)

    def wants_log(self, who: Identity, stream: str) -> bool:
        """Tell whether anybody wants lines of a log."""
        return any(
            stream in channel.streams
            for routes in (self._routes, self._held_routes)
            for channel in routes.of(LogMessage.type, who)
        )

    # What they are sent

    def offer(self, message: Message) -> None:
        """Take one event from the bus."""
        event, made = message.event, None
        for channel in self._routes.of(event.type, message.who):
            if isinstance(event, LogMessage) and not channel.passes(event):
                continue
            if made is None:
                made = _framed(message)
            if not channel.waiting:
                self._dirty.append(channel)
            channel.waiting.append(made)

    def flush(self) -> None:
        """Send each channel's events of this turn as one write to each member."""
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            frames, channel.waiting = channel.waiting, []
            channel.lane.send(frames)

    def first_figures(self, subscription: Subscription, types: list[str]) -> list[tuple[str, Any]]:
        """Return type and data of the figures that follow an acknowledgement at once [S4], of those of *types*."""
        return self._figures.now(subscription, types)

    def _deliver(self, type_: str, data: object, channels: list[Channel]) -> None:
        self._settle()
        id_, at = self._stamp()
        made = [Frame(Kind.METRICS, type_, frame(encode(type_, data, id=id_, at=at)))]
        for channel in channels:
            channel.lane.send(made)


def _framed(message: Message) -> Frame:
    framed = frame(message.payload)
    if message.event.type == LogMessage.type:
        return Frame(Kind.LOG, message.who.name, framed, message.seq)
    return Frame(Kind.KEPT, "", framed)
