"""Samples processes and the machine, only as often as somebody asked [S8], and not at all while nobody does.

One pass over the process table serves everybody of a tick. What a sample means to a client is worked out by ``core``.
"""

import math
from collections.abc import Callable, Mapping

import psutil
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pmdaemon.core.samples import ProcessSample, Sample, SystemSample
from pmdaemon.daemon.proctable import ProcTable, snapshot

__all__ = ["Sampler", "Watcher", "boot_time", "read_system"]

FRESH = 0.05
"""Seconds: a sample asked for again within that time, of the same children, is the same one."""

_FASTEST = 100


def read_system() -> SystemSample:
    """Read the machine's counters."""
    times, memory = psutil.cpu_times(), psutil.virtual_memory()
    total = float(sum(times)) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return SystemSample(
        busy=total - times.idle - getattr(times, "iowait", 0.0),
        total=total,
        cores=psutil.cpu_count() or 1,
        memory_total=memory.total,
        memory_available=memory.available,
        load=psutil.getloadavg(),
    )


def boot_time() -> float:
    """Return when the machine was started, unix seconds."""
    return float(psutil.boot_time())


class Watcher:
    """Somebody who wants a sample every ``interval`` milliseconds; ``due`` is the clock's time of the next one."""

    def __init__(self, interval: int, deliver: Callable[[Sample], None], due: float) -> None:
        self.interval = interval
        self.deliver = deliver
        self.due = due


class Sampler:
    """Takes samples of what *roots* names: process id -> pid of its child.

    ``watched`` is called with each sample that was taken for watchers.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        roots: Callable[[], Mapping[int, int]],
        *,
        table: Callable[[], ProcTable] = snapshot,
        system: Callable[[], SystemSample] = read_system,
    ) -> None:
        self._clock = clock
        self._roots = roots
        self._table = table
        self._system = system
        self.watched: Callable[[Sample], None] = lambda sample: None
        self._last: Sample | None = None
        self._sampled: dict[int, int] = {}
        self._watchers: list[Watcher] = []
        self._period = 0
        self._origin = 0.0
        self._start: IDelayedCall | None = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def sample(self) -> Sample:
        """Return a sample of the children there are now that is at most ``FRESH`` old."""
        now, roots = self._clock.seconds(), dict(self._roots())
        if self._last is None or roots != self._sampled or not 0 <= now - self._last.at < FRESH:
            self._last = Sample(now, self.processes(roots), self._system())
            self._sampled = roots
        return self._last

    def processes(self, roots: Mapping[int, int]) -> dict[int, ProcessSample]:
        """Return the figures of the trees below *roots*, from one pass over the process table."""
        if not roots:
            return {}
        table = self._table()
        found = {}
        for id_, pid in roots.items():
            tree = table.tree(pid)
            if tree:
                found[id_] = ProcessSample(pid, sum(each.cpu for each in tree), sum(each.rss for each in tree))
        return found

    def watch(self, interval: int, deliver: Callable[[Sample], None]) -> Watcher:
        """Call *deliver* every *interval* milliseconds from now on, until ``unwatch``."""
        watcher = Watcher(interval, deliver, self._clock.seconds() + interval / 1000)
        self._watchers.append(watcher)
        self._adjust()
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """Serve *watcher* no longer."""
        self._watchers.remove(watcher)
        self._adjust()

    def _adjust(self) -> None:
        """Tick at the greatest period that meets every interval, and not at all for nobody."""
        intervals = [watcher.interval for watcher in self._watchers]
        period = max(_FASTEST, math.gcd(*intervals)) if intervals else 0
        if period == self._period:
            return
        if not self._period:
            self._origin = self._clock.seconds()
        self._period = period
        self._stop()
        if period:
            self._start = self._clock.callLater(self._until_next(), self._loop.start, period / 1000)

    def _until_next(self) -> float:
        """Return the seconds to the next tick.

        Ticks are counted from when the first watcher came, whatever the period was since: watchers that come and go
        never put off the others.
        """
        period = self._period / 1000
        return period - (self._clock.seconds() - self._origin) % period

    def _stop(self) -> None:
        if self._start is not None and self._start.active():
            self._start.cancel()
        if self._loop.running:
            self._loop.stop()

    def _tick(self) -> None:
        slack = self._period / 2000
        due = [watcher for watcher in self._watchers if watcher.due <= self._clock.seconds() + slack]
        if not due:
            return
        try:
            sample = self.sample()
            self.watched(sample)
        except Exception:  # an exception would stop the loop for good
            self._log.failure("cannot take a sample")
            return
        for watcher in due:
            watcher.due = max(watcher.due, sample.at - slack) + watcher.interval / 1000
            try:
                watcher.deliver(sample)
            except Exception:  # as above, and the other watchers are to have theirs
                self._log.failure("cannot deliver a sample")
