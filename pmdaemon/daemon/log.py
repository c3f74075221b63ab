"""One stream of one process, as ``logs`` keeps it: where it goes, who reads it back, and what was told of it."""

from collections.abc import Callable
from typing import Protocol

from pmdaemon.core.lines import Line, Stream
from pmdaemon.core.selection import Identity
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.backfill import Stretch
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logfollower import LogFollower
from pmdaemon.keeper.identity import Owner

__all__ = ["STREAMS", "LineWatcher", "Log", "Source", "Teller"]

STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")

LineWatcher = Callable[[list[Line]], None]


class Teller(Identity, Protocol):
    """Who a line is of."""

    @property
    def instance(self) -> int: ...


class Source(Teller, Protocol):
    """Whose output it is, and where it is to go."""

    @property
    def spec(self) -> AppSpec: ...
    @property
    def created_at(self) -> float: ...


class Log:
    """One stream of one process: where it goes and who reads it back. What is before ``born`` is not its own.

    Every line written after id ``whole_since`` was given out is published, or will be; None where nothing is known.
    ``followed_from`` is where ``follower`` began, ``fillers`` publish what is before that; what the follower reads is
    ``published``, or is for the watchers alone. Once nobody wants the lines, they are published up to
    ``leave_at``: a client that has just gone may have been told what came after them, and would never ask for them.
    """

    def __init__(self, who: Source, stream: Stream, path: str, copy: str | None, owner: Owner | None) -> None:
        self.who = who
        self.stream = stream
        self.path = path
        self.copy = copy
        self.file = LogFile(path, owner)
        self.born: int | None = None
        self.end = 0
        self.watchers: list[LineWatcher] = []
        self.follower: LogFollower | None = None
        self.followed_from = 0
        self.fillers: list[Stretch] = []
        self.published = False
        self.whole_since: int | None = None
        self.leave_at: int | None = None
