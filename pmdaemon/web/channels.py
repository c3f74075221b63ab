"""All sockets that want the same, served as one: an event is matched, encoded and framed once for all of them.

What is published in a turn leaves as one write to each socket. A channel is known by its subscription.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from pmdaemon.core.events import LogMessage, ProcessMetrics, SystemMetrics
from pmdaemon.core.logfilter import Matcher
from pmdaemon.core.samples import Sample, system_metrics
from pmdaemon.core.selection import Identity, Selection
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.sampler import Sampler, Watcher
from pmdaemon.protocol.codec import encode
from pmdaemon.protocol.subscription import Subscription
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import CHUNK, Frame, Kind, Outbox

__all__ = ["Channel", "Channels", "Measure", "Member"]

Measure = Callable[[Selection, Sample, Sample | None], ProcessMetrics]
"""Works out the process figures of a selection between two samples."""

Stamp = Callable[[], tuple[str, float]]


class Member(Protocol):
    """Somebody on a channel: one connection."""

    outbox: Outbox


class Channel:
    """One subscription and who has it."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.members: set[Member] = set()
        self.waiting: list[Frame] = []
        self.watchers: list[Watcher] = []
        self.before: dict[str, Sample] = {}
        self._selected: dict[tuple[str, int, str], bool] = {}
        lines = subscription.get(LogMessage.type)
        self._matcher: Matcher | None = None if lines is None or lines.lines is None else lines.lines.matcher()

    def wants(self, type_: str, who: Identity) -> bool:
        """Tell whether events of *type_* about *who* are wanted; asked for each event, so remembered."""
        key = (type_, who.id, who.namespace)
        known = self._selected.get(key)
        if known is None:
            want = self.subscription.get(type_)
            known = self._selected[key] = want is not None and who in want.selection
        return known

    def passes(self, message: LogMessage) -> bool:
        """Tell whether a line passes the filter [S9]."""
        return self._matcher is None or self._matcher(message.message, message.level, message.stream)

    def wants_log(self, who: Identity, stream: str) -> bool:
        """Tell whether any line of a log may be wanted."""
        want = self.subscription.get(LogMessage.type)
        return (
            want is not None
            and self.wants(LogMessage.type, who)
            and (want.lines is None or want.lines.stream in (None, stream))
        )


class Channels:
    """Every channel; a sink of the event bus.

    *settle* has everything published so far committed and sent; *logs_wanted* is called with a new question whenever
    who wants which logs may have changed.
    """

    def __init__(
        self,
        *,
        stamp: Stamp,
        settle: Callable[[], None],
        sampler: Sampler,
        measure: Measure,
        logs_wanted: Callable[[Callable[[Identity, str], bool]], None],
    ) -> None:
        self._stamp = stamp
        self._settle = settle
        self._sampler = sampler
        self._measure = measure
        self._logs_wanted = logs_wanted
        self._channels: dict[Subscription, Channel] = {}
        self._held: dict[Member, Channel] = {}
        self._of: dict[Member, Channel] = {}

    # Who is on which

    def join(self, member: Member, subscription: Subscription) -> None:
        """Put *member* on the channel of *subscription*, off the one it was on; an empty one is none."""
        if member in self._of and self._of[member].subscription == subscription:
            self.release(member)
            return
        self.leave(member)
        if subscription:
            channel = self._channels.get(subscription)
            if channel is None:
                channel = self._channels[subscription] = Channel(subscription)
                self._measure_for(channel)
            channel.members.add(member)
            self._of[member] = channel
        self._logs_changed()

    def leave(self, member: Member) -> None:
        """Take *member* off its channel, which ends with its last member."""
        self._held.pop(member, None)
        channel = self._of.pop(member, None)
        if channel is None:
            return
        channel.members.discard(member)
        if not channel.members:
            del self._channels[channel.subscription]
            for watcher in channel.watchers:
                self._sampler.unwatch(watcher)

    def hold(self, member: Member, subscription: Subscription, begin: Callable[[Channel], object]) -> Channel:
        """Have the logs of *subscription* followed for a member that is still catching up.

        Returns a channel that only matches; *begin* is called with it before its logs are followed from where they end.
        """
        self.leave(member)
        held = self._held[member] = Channel(subscription)
        begin(held)
        self._logs_changed()
        return held

    def release(self, member: Member) -> None:
        """End ``hold``."""
        if self._held.pop(member, None) is not None:
            self._logs_changed()

    def gone(self, member: Member) -> None:
        """Take a closed connection off everything."""
        self.leave(member)
        self._logs_changed()

    def _logs_changed(self) -> None:
        channels = [*self._channels.values(), *self._held.values()]
        following = [each for each in channels if each.subscription.get(LogMessage.type) is not None]
        self._logs_wanted(lambda who, stream: any(channel.wants_log(who, stream) for channel in following))

    # What they are sent

    def offer(self, message: Message) -> None:
        """Take one event from the bus."""
        type_, data = message.event.type, None
        for channel in self._channels.values():
            if not channel.wants(type_, message.who):
                continue
            if isinstance(message.event, LogMessage):
                if not channel.passes(message.event):
                    continue
                data = data or Frame(Kind.LOG, message.who.name, frame(message.payload), message.seq)
            data = data or Frame(Kind.KEPT, "", frame(message.payload))
            channel.waiting.append(data)

    def flush(self) -> None:
        """Send each channel's events of this turn as one write to each member."""
        for channel in list(self._channels.values()):
            if channel.waiting:
                frames, channel.waiting = channel.waiting, []
                _send(channel, frames)

    # Metrics

    def _measure_for(self, channel: Channel) -> None:
        for type_, measure in self._measures(channel.subscription).items():
            interval = getattr(channel.subscription.get(type_), "interval", None)
            if interval is not None:
                deliver = partial(self._deliver, channel, type_, measure)
                channel.watchers.append(self._sampler.watch(interval, deliver))

    def _measures(self, subscription: Subscription) -> dict[str, Callable[[Sample, Sample | None], object]]:
        processes, system = subscription.get(ProcessMetrics.type), subscription.get(SystemMetrics.type)
        measures: dict[str, Callable[[Sample, Sample | None], object]] = {}
        if processes is not None:
            measures[ProcessMetrics.type] = partial(self._measure, processes.selection)
        if system is not None:
            measures[SystemMetrics.type] = lambda now, before: system_metrics(
                now.system, None if before is None else before.system
            )
        return measures

    def _deliver(
        self, channel: Channel, type_: str, measure: Callable[[Sample, Sample | None], object], sample: Sample
    ) -> None:
        data = measure(sample, channel.before.get(type_))
        channel.before[type_] = sample
        self._settle()
        _send(channel, [self._metrics(type_, data)])

    def _metrics(self, type_: str, data: object) -> Frame:
        id_, at = self._stamp()
        return Frame(Kind.METRICS, type_, frame(encode(type_, data, id=id_, at=at)))

    def first_figures(self, member: Member, subscription: Subscription, types: list[str]) -> list[Frame]:
        """Return the figures that follow an acknowledgement at once [S4], for those of *types* that are metrics.

        A new channel measures its first interval from here.
        """
        measures = {type_: each for type_, each in self._measures(subscription).items() if type_ in types}
        if not measures:
            return []
        sample, channel = self._sampler.sample(), self._of.get(member)
        if channel is not None:
            for type_ in measures:
                channel.before.setdefault(type_, sample)
        return [self._metrics(type_, measure(sample, None)) for type_, measure in measures.items()]


def _send(channel: Channel, frames: list[Frame]) -> None:
    blob = b"".join(each.data for each in frames)
    for member in list(channel.members):
        if member.outbox.congested or len(blob) > CHUNK:
            member.outbox.offer(frames)
        else:
            member.outbox.write(blob)
