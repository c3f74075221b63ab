"""What a Process acts through: the one place where its side effects are handed in."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.child import Child

if TYPE_CHECKING:
    from pmdaemon.daemon.process import Process

__all__ = ["Means", "Watch"]


class Watch:
    """What watches one child while it lives: readiness and health. The base watches nothing."""

    def stop(self) -> None:
        """Watch no longer; nothing is reported afterwards."""


class Means:
    """What a Process acts through; ``supervisor`` fills it in, tests put fakes there.

    *spawn* starts a child for a process or raises PMDaemonError; *watch* starts watching one and reports through the
    process's ``ready``, ``health_changed`` and ``fail``; *wrote* takes output; *gone* is told when a child has ended;
    *last_lines* returns the last lines of a process's output; *random* is in [0, 1); *now* is in unix seconds.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        random: Callable[[], float],
        bus: EventBus,
        spawn: Callable[["Process", Child], None],
        watch: Callable[["Process"], Watch],
        wrote: Callable[["Process", str, bytes], None],
        gone: Callable[["Process"], None],
        changed: Callable[["Process"], None],
        last_lines: Callable[["Process"], list[str]],
    ) -> None:
        self.clock = clock
        self.now = now
        self.random = random
        self.bus = bus
        self.spawn = spawn
        self.watch = watch
        self.wrote = wrote
        self.gone = gone
        self.changed = changed
        self.last_lines = last_lines
