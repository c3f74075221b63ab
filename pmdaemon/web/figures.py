"""The figures that are sent on an interval [S8]: measured once for all channels that want the same of them [P5]."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pmdaemon.core.events import METRICS, ProcessMetrics
from pmdaemon.core.samples import Sample, system_metrics
from pmdaemon.core.selection import Selection
from pmdaemon.daemon.sampler import Sampler, Watcher
from pmdaemon.protocol.subscription import Subscription, Want

__all__ = ["Figures", "Measure"]

Measure = Callable[[Selection, Sample, Sample | None], ProcessMetrics]
"""Works out the process figures of a selection between two samples."""

C = TypeVar("C")


class _Feed(Generic[C]):
    """One kind of figures, and who gets them; ``before`` is the sample of the figures before."""

    def __init__(self, before: Sample) -> None:
        self.channels: dict[C, None] = {}
        self.before = before
        self.watcher: Watcher


class Figures(Generic[C]):
    """Every channel's figures; *deliver* is called with the type, the data and the channels, each time they are due."""

    def __init__(self, sampler: Sampler, measure: Measure, deliver: Callable[[str, Any, list[C]], None]) -> None:
        self._sampler = sampler
        self._measure = measure
        self._deliver = deliver
        self._feeds: dict[tuple[str, Want], _Feed[C]] = {}

    def add(self, channel: C, subscription: Subscription) -> None:
        """Send *channel* the figures that *subscription* has, first after an interval that begins now."""
        for key in _wanted(subscription):
            if key not in self._feeds:
                self._feeds[key] = self._begin(*key)
            self._feeds[key].channels[channel] = None

    def _begin(self, type_: str, want: Want) -> _Feed[C]:
        feed: _Feed[C] = _Feed(self._sampler.sample())

        def due(sample: Sample) -> None:
            data = self._figures(type_, want, sample, feed.before)
            feed.before = sample
            self._deliver(type_, data, list(feed.channels))

        assert want.interval is not None
        feed.watcher = self._sampler.watch(want.interval, due)
        return feed

    def remove(self, channel: C, subscription: Subscription) -> None:
        """Send *channel* no more of the figures that *subscription* has."""
        for key in _wanted(subscription):
            feed = self._feeds[key]
            del feed.channels[channel]
            if not feed.channels:
                self._sampler.unwatch(self._feeds.pop(key).watcher)

    def now(self, subscription: Subscription, types: list[str]) -> list[tuple[str, Any]]:
        """Return the figures of this moment with their types, CPU since each start, for those of *types* wanted."""
        return [
            (type_, self._figures(type_, want, self._sampler.sample(), None))
            for type_, want in _wanted(subscription)
            if type_ in types
        ]

    def _figures(self, type_: str, want: Want, now: Sample, before: Sample | None) -> Any:
        if type_ == ProcessMetrics.type:
            return self._measure(want.selection, now, before)
        return system_metrics(now.system, None if before is None else before.system)


def _wanted(subscription: Subscription) -> list[tuple[str, Want]]:
    wants = ((type_, subscription.get(type_)) for type_ in subscription if type_ in METRICS)
    return [(type_, want) for type_, want in wants if want is not None]
