"""Samples processes and the machine, only as often as somebody asked [S8], and not at all while nobody does.

One look at the processes serves everybody of a tick. One at many processes is taken in steps, a reactor turn each, and
then handed out in as many turns. What a sample means to a client is worked out by ``core``.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import psutil
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pmdaemon.core.samples import ProcessSample, Sample, SystemSample
from pmdaemon.daemon.proctable import process_source
from pmdaemon.daemon.trees import SLICE, Trees

__all__ = ["Sampler", "Taker", "Watcher", "boot_time", "own_memory", "read_system"]

FRESH = 0.05
"""Seconds: a sample asked for again within that time, of the same children, is the same one."""

Taker = Callable[[Sample], None]
"""Who is handed a sample."""

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


def own_memory() -> int:
    """Return the resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


class Watcher:
    """Somebody who wants a sample every ``interval`` milliseconds; ``due`` is the clock's time of the next one."""

    def __init__(self, interval: int, deliver: Taker, due: float) -> None:
        self.interval = interval
        self.deliver = deliver
        self.due = due


class _Look:
    """A look that is being taken since *at*: its steps, and the *takers* that wait for it."""

    def __init__(self, at: float, roots: Mapping[int, int], trees: Trees) -> None:
        self.at = at
        self.roots = roots
        self.found: dict[int, ProcessSample] = {}
        self.steps: Iterator[None] = trees.look(roots, self.found)
        self.takers: list[Taker] = []


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
        trees: Trees | None = None,
        system: Callable[[], SystemSample] = read_system,
    ) -> None:
        self._clock = clock
        self._roots = roots
        self._trees = Trees(process_source()) if trees is None else trees
        self._system = system
        self.watched: Taker = lambda sample: None
        self._last: Sample | None = None
        self._sampled: Mapping[int, int] = {}
        self._look: _Look | None = None
        self._handing: deque[tuple[Taker, Sample]] = deque()
        self._watchers: list[Watcher] = []
        self._period = 0
        self._origin = 0.0
        self._start: IDelayedCall | None = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def sample(self) -> Sample:
        """Return, in this turn, a sample of the children there are now that is at most ``FRESH`` old."""
        sample = self._fresh(FRESH)
        if sample is None and self._look is not None:
            self._complete(self._look)
            sample = self._fresh(FRESH)
        return self._complete(self._begin()) if sample is None else sample

    def request(self, *takers: Taker, fresh: float = FRESH) -> None:
        """Hand each of *takers* a sample of the children there are now that is at most *fresh* seconds old.

        That is done in this turn unless there are many processes. What goes wrong is logged.
        """
        sample = self._fresh(fresh)
        if sample is not None:
            self._hand_out(sample, takers)
        elif self._look is not None:
            self._look.takers += takers
        else:
            look = self._begin()
            look.takers += takers
            self._step(look)

    def _fresh(self, age: float) -> Sample | None:
        last = self._last
        if last is None or not 0 <= self._clock.seconds() - last.at < age or self._roots() != self._sampled:
            return None
        return last

    def _begin(self) -> _Look:
        self._look = _Look(self._clock.seconds(), dict(self._roots()), self._trees)
        return self._look

    def _step(self, look: _Look) -> None:
        if look is not self._look:
            return  # it was completed meanwhile for somebody who could not wait
        try:
            if next(look.steps, look) is look:
                self._finish(look)
            else:
                self._clock.callLater(0, self._step, look)
        except Exception:  # the next look may succeed, and nobody is there to be told
            self._look = None
            self._log.failure("cannot take a sample")

    def _complete(self, look: _Look) -> Sample:
        try:
            for _ in look.steps:
                continue
            return self._finish(look)
        finally:
            self._look = None

    def _finish(self, look: _Look) -> Sample:
        sample = self._last = Sample(look.at, look.found, self._system())
        self._sampled, self._look = look.roots, None
        self._hand_out(sample, look.takers)
        return sample

    def _hand_out(self, sample: Sample, takers: Iterable[Taker]) -> None:
        """Give each its sample, in turns of their own where there is much to work out of it."""
        idle = not self._handing
        self._handing.extend((taker, sample) for taker in takers)
        if len(sample.processes) <= SLICE:
            while self._handing:
                self._hand_one()
        elif idle and self._handing:
            self._clock.callLater(0, self._hand_next)

    def _hand_next(self) -> None:
        if self._handing:
            self._hand_one()
        if self._handing:
            self._clock.callLater(0, self._hand_next)

    def _hand_one(self) -> None:
        taker, sample = self._handing.popleft()
        try:
            taker(sample)
        except Exception:  # the others are to have theirs
            self._log.failure("cannot deliver a sample")

    def watch(self, interval: int, deliver: Taker) -> Watcher:
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
        now, slack = self._clock.seconds(), self._period / 2000
        due = [watcher for watcher in self._watchers if watcher.due <= now + slack]
        if not due:
            return
        for watcher in due:
            watcher.due = max(watcher.due, now - slack) + watcher.interval / 1000
        self.request(self.watched, *(partial(self._serve, watcher) for watcher in due))

    def _serve(self, watcher: Watcher, sample: Sample) -> None:
        if watcher in self._watchers:
            watcher.deliver(sample)
