"""The figures of the last day, in memory: every 10 s for an hour, every minute for a day, every second while watched.

One sample serves all processes. A process costs about 50 KB; what has no figure (the daemon was down, the process did
not run) is a gap and never a 0.
"""

from array import array
from collections.abc import Callable, Mapping

from msgspec import Struct
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pmdaemon.core.events import ProcessEvent
from pmdaemon.core.samples import ProcessSample, Sample, cpu_percent
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.sampler import Sampler

__all__ = ["METRICS", "PERIOD", "History", "Series"]

PERIOD = 10.0
"""Seconds between samples while nobody watches."""

METRICS = ("cpu", "memory")


_DENSE = 0.75
_MINUTE = 60.0
"""A ring is chosen that has this part of the points there could be, and that reaches back as far within this."""

Point = tuple[int, float]
"""Unix milliseconds, and percent of one core or bytes."""


class Series(Struct, frozen=True):
    """Points of one metric at one ``resolution`` in seconds, oldest first."""

    resolution: int
    points: list[Point]


class _Ring:
    """The newest *capacity* points of one process at one resolution."""

    __slots__ = ("_at", "_capacity", "_next", "_values", "resolution")

    def __init__(self, resolution: int, capacity: int) -> None:
        self.resolution = resolution
        self._capacity = capacity
        self._next = 0
        self._at = array("d")
        self._values = {metric: array("d") for metric in METRICS}

    def add(self, at: float, figures: Mapping[str, float]) -> None:
        if len(self._at) < self._capacity:
            self._at.append(at)
            for metric, values in self._values.items():
                values.append(figures[metric])
            return
        self._at[self._next] = at
        for metric, values in self._values.items():
            values[self._next] = figures[metric]
        self._next = (self._next + 1) % self._capacity

    def points(self, metric: str, start: float, end: float) -> list[Point]:
        """Return those from *start* to *end*, unix seconds, in order."""
        values = self._values[metric]
        places = ((self._next + index) % len(self._at) for index in range(len(self._at)))
        return [
            (round(self._at[place] * 1000), round(values[place], 1) if metric == "cpu" else int(values[place]))
            for place in places
            if start <= self._at[place] <= end
        ]


class _Record:
    """One process: its rings from the finest on, and the minute that is being gathered."""

    def __init__(self) -> None:
        self.watched = _Ring(1, 300)
        self.hour = _Ring(10, 360)
        self.day = _Ring(60, 1440)
        self._minute: list[tuple[float, Mapping[str, float]]] = []

    def add(self, at: float, figures: Mapping[str, float]) -> None:
        self.hour.add(at, figures)
        if self._minute and int(at // 60) != int(self._minute[0][0] // 60):
            self._close_minute()
        self._minute.append((at, figures))

    def _close_minute(self) -> None:
        count = len(self._minute)
        mean = {metric: sum(figures[metric] for _, figures in self._minute) / count for metric in METRICS}
        self.day.add(self._minute[-1][0], mean)
        self._minute.clear()

    def rings(self) -> tuple[_Ring, ...]:
        return self.watched, self.hour, self.day


class History:
    """Keeps what *sampler* saw of each process; *uptimes* gives id -> seconds since its start.

    *now* is in unix seconds. It is a sink of the bus, to hear of deleted processes.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        sampler: Sampler,
        *,
        now: Callable[[], float],
        uptimes: Callable[[], Mapping[int, float]],
    ) -> None:
        self._sampler = sampler
        self._now = now
        self._uptimes = uptimes
        self._records: dict[int, _Record] = {}
        self._before: dict[int, tuple[float, ProcessSample]] = {}
        self._watched_before: dict[int, tuple[float, ProcessSample]] = {}
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def start(self) -> None:
        """Take a sample every ``PERIOD`` from now on."""
        self._loop.start(PERIOD, now=False)

    def stop(self) -> None:
        """Take no more samples."""
        if self._loop.running:
            self._loop.stop()

    def offer(self, message: Message) -> None:
        """Take one event from the bus: of a process that is deleted, nothing is kept."""
        event = message.event
        if isinstance(event, ProcessEvent) and event.event == "deleted":
            for kept in (self._records, self._before, self._watched_before):
                kept.pop(event.id, None)

    def flush(self) -> None:
        """Nothing waits here."""

    def _tick(self) -> None:
        try:
            if self._uptimes():
                self._take(self._sampler.sample(), self._before, _Record.add)
        except Exception:  # an exception would stop the loop for good
            self._log.failure("cannot keep the figures")

    def watched(self, sample: Sample) -> None:
        """Keep a sample that was taken for a subscriber, at most one a second."""
        last = max((at for at, _ in self._watched_before.values()), default=0.0)
        if not 0 <= sample.at - last < 0.95:
            self._take(sample, self._watched_before, lambda record, at, figures: record.watched.add(at, figures))

    def _take(
        self,
        sample: Sample,
        before: dict[int, tuple[float, ProcessSample]],
        add: Callable[[_Record, float, Mapping[str, float]], None],
    ) -> None:
        at, uptimes = self._now(), self._uptimes()
        for id_, figures in sample.processes.items():
            since, earlier = before.get(id_, (sample.at, None))
            cpu = cpu_percent(figures, earlier, sample.at - since, uptimes.get(id_, 0.0))
            record = self._records.setdefault(id_, _Record())
            add(record, at, {"cpu": cpu, "memory": float(figures.memory)})
            before[id_] = (sample.at, figures)
        for id_ in [id_ for id_ in before if id_ not in sample.processes]:
            del before[id_]

    def series(self, id_: int, metric: str, start: float, end: float) -> Series:
        """Return the figures from *start* to *end*, unix seconds, at the finest resolution that has all of them."""
        record = self._records.get(id_)
        if record is None:
            return Series(int(PERIOD), [])
        found = [Series(ring.resolution, ring.points(metric, start, end)) for ring in record.rings()]
        most = max(len(each.points) * each.resolution for each in found)
        first = min((each.points[0][0] for each in found if each.points), default=0)
        return next(
            (
                each
                for each in found
                if each.points
                and len(each.points) * each.resolution >= _DENSE * most
                and each.points[0][0] <= first + _MINUTE * 1000
            ),
            Series(int(PERIOD), []),
        )
