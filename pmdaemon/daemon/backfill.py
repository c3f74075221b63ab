"""Delivers lines that nobody has followed, one stretch of a log after another: others have their turns meanwhile."""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pmdaemon.core.lines import Line
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logfollower import LogFollower

__all__ = ["Backfill", "Stretch"]


class Stretch:
    """The bytes of one log from ``start`` to ``end``; ``behind`` until all of its lines were delivered."""

    def __init__(
        self, clock: IReactorTime, file: LogFile, deliver: Callable[[list[Line]], None], start: int, end: int
    ) -> None:
        self.end = end
        self._begun = self._stopped = False
        self._follower = LogFollower(clock, file, deliver, start, file.line_start(start))

    @property
    def position(self) -> int:
        """Up to where it was delivered."""
        return self._follower.position

    @property
    def behind(self) -> bool:
        """Whether there is more to deliver."""
        return not self._stopped and (not self._begun or self._follower.behind)

    def begin(self) -> None:
        """Deliver it from the next turn on, unless that was begun."""
        if not self._begun:
            self._begun = True
            self._follower.told(self.end)

    def stop(self) -> None:
        """Deliver no more of it."""
        self._stopped = True
        self._follower.stop()


class Backfill:
    """The stretches that wait, in the order in which they were asked for."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Stretch] = deque()
        self._turn: IDelayedCall | None = None

    def add(self, file: LogFile, deliver: Callable[[list[Line]], None], start: int, end: int) -> Stretch:
        """Have the lines between two offsets of a log delivered, in their order and in lists."""
        stretch = Stretch(self._clock, file, deliver, start, end)
        self._waiting.append(stretch)
        if self._turn is None:
            self._go_on()
        return stretch

    def _go_on(self) -> None:
        self._turn = None
        while self._waiting and not self._waiting[0].behind:
            self._waiting.popleft()
        if self._waiting:
            self._waiting[0].begin()
            self._turn = self._clock.callLater(0, self._go_on)

    def stop(self) -> None:
        """Deliver nothing more."""
        for stretch in self._waiting:
            stretch.stop()
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
