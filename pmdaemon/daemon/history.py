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
from pmdaemon.core.past import Point
from pmdaemon.core.samples import Sample, cpu_percent
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.sampler import Sampler

__all__ = ["METRICS", "PERIOD", "History", "Series"]

PERIOD = 10.0
"""Seconds between samples while nobody watches."""

METRICS = ("cpu", "memory")

_SHARED = 1.0
"""Seconds: a sample that was taken for somebody else may be that old."""

_DENSE = 0.75
_MINUTE = 60.0
"""A ring is chosen that has this part of the points there could be, and that reaches back as far within this."""


class Series(Struct, frozen=True):
    """Points of one metric at one ``resolution`` in seconds, oldest first."""

    resolution: int
    points: list[Point]


class _Ring:
    """The newest *capacity* points of one process at one resolution."""

    __slots__ = ("_at", "_capacity", "_cpu", "_memory", "_next", "resolution")

    def __init__(self, resolution: int, capacity: int) -> None:
        self.resolution = resolution
        self._capacity = capacity
        self._next = 0
        self._at = array("d")
        self._cpu = array("d")
        self._memory = array("d")

    def add(self, at: float, cpu: float, memory: float) -> None:
        place = self._next
        if len(self._at) < self._capacity:
            self._at.append(at)
            self._cpu.append(cpu)
            self._memory.append(memory)
            return
        self._at[place], self._cpu[place], self._memory[place] = at, cpu, memory
        self._next = (place + 1) % self._capacity

    def points(self, metric: str, start: float, end: float) -> list[Point]:
        """Return those from *start* to *end*, unix seconds, in order."""
        values = self._cpu if metric == "cpu" else self._memory
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
        self._minute: list[tuple[float, float, float]] = []

    def add(self, at: float, cpu: float, memory: float) -> None:
        self.hour.add(at, cpu, memory)
        if self._minute and int(at // 60) != int(self._minute[0][0] // 60):
            self._close_minute()
        self._minute.append((at, cpu, memory))

    def _close_minute(self) -> None:
        times, cpu, memory = zip(*self._minute, strict=True)
        self.day.add(times[-1], sum(cpu) / len(cpu), sum(memory) / len(memory))
        self._minute.clear()

    def add_watched(self, at: float, cpu: float, memory: float) -> None:
        self.watched.add(at, cpu, memory)

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
        self._clock = clock
        self._sampler = sampler
        self._now = now
        self._uptimes = uptimes
        self._records: dict[int, _Record] = {}
        self._before: Sample | None = None
        self._watched_before: Sample | None = None
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
            self._records.pop(event.id, None)

    def flush(self) -> None:
        """Nothing waits here."""

    def _tick(self) -> None:
        try:
            if self._uptimes():
                self._sampler.request(self._pass, fresh=_SHARED)
        except Exception:  # an exception would stop the loop for good
            self._log.failure("cannot keep the figures")

    def _pass(self, sample: Sample) -> None:
        self._take(sample, self._before, _Record.add)
        self._before = sample

    def watched(self, sample: Sample) -> None:
        """Keep a sample that was taken for a subscriber, at most one a second."""
        before = self._watched_before
        if before is None or not 0 <= sample.at - before.at < 0.95:
            self._take(sample, before, _Record.add_watched)
            self._watched_before = sample

    def _take(self, sample: Sample, before: Sample | None, add: Callable[[_Record, float, float, float], None]) -> None:
        at = self._now() - (self._clock.seconds() - sample.at)
        earlier = {} if before is None else before.processes
        elapsed = 0.0 if before is None else sample.at - before.at
        uptimes: Mapping[int, float] | None = None
        for id_, now in sample.processes.items():
            record, last, uptime = self._records.get(id_), earlier.get(id_), 0.0
            if record is None or last is None or last.pid != now.pid:
                uptimes = self._uptimes() if uptimes is None else uptimes
                if id_ not in uptimes:
                    continue  # it has ended meanwhile, and may have been deleted
                record, uptime = self._records.setdefault(id_, _Record()), uptimes[id_]
            add(record, at, cpu_percent(now, last, elapsed, uptime), float(now.memory))

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
