"""What a child prints to: a named pipe for each output, and the log its bytes are moved to.

How they are moved is ``pump``'s, how a log lies on disk ``segments``'.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from pmdaemon.keeper.identity import Owner, owner_there
from pmdaemon.keeper.kids import Kid
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.pump import Pump
from pmdaemon.keeper.segments import Limits, SegmentedLog
from pmdaemon.keeper.wire import Message

__all__ = ["Outlets", "Shelf"]

_DRAIN = 1 << 20  # bytes of each pipe; whoever is left may write for ever


class Shelf:
    """The logs that are written, each once, however many children print to it.

    ``now`` is Unix time in seconds; ``tidy`` is the housekeeper's; ``changed`` is told of each log that has grown.
    What is in directory ``private`` is ours, whoever prints it.
    """

    def __init__(
        self,
        changed: Callable[[SegmentedLog], None],
        tidy: Callable[[SegmentedLog], None],
        now: Callable[[], float] = time.time,
        private: str = "",
    ) -> None:
        self._private = private
        self.changed = changed
        self.now = now
        self._tidy = tidy
        self._logs: dict[str, SegmentedLog] = {}
        self._users: dict[str, int] = {}

    def __iter__(self) -> Iterator[SegmentedLog]:
        return iter(list(self._logs.values()))

    def get(self, path: str) -> SegmentedLog | None:
        """The log at this path, if it is being written."""
        return self._logs.get(path)

    def take(self, path: str, limits: Limits, owner: Owner | None = None) -> SegmentedLog:
        """Open it for an app of *owner*, unless somebody has; to be given back. Raises OSError."""
        if path not in self._logs:
            there = owner_there(owner, path, self._private)
            self._logs[path] = SegmentedLog(path, limits, now=self.now, tidy=self._tidy, owner=there)
            self._users[path] = 0
        self._users[path] += 1
        return self._logs[path]

    def give_back(self, log: SegmentedLog) -> None:
        """Close it, if nobody else has it."""
        self._users[log.path] -= 1
        if not self._users[log.path]:
            del self._logs[log.path], self._users[log.path]
            log.close()


class Outlets:
    """Both outputs of one child; ``paths`` are those of the pipes, by descriptor. Raises OSError.

    ``inherited`` are pipes that are open already, by name: one that is taken, with what is in it, is taken out.
    """

    def __init__(self, kid: Kid, place: str, shelf: Shelf, loop: Loop, inherited: dict[str, int]) -> None:
        self.paths = {fd: os.path.join(place, f"{kid.name}.{fd}") for fd in kid.logs}
        self._shelf = shelf
        self._taken: list[SegmentedLog] = []
        self._logs: dict[int, SegmentedLog] = {}
        self._pipes: dict[int, int] = {}
        self._pumps: list[Pump] = []
        self._state = [(True, 0)] * len(kid.logs)
        try:
            copies = (self._copy(kid),) if kid.copy else ()
            for fd, order in kid.logs.items():
                self._logs[fd] = self._take(order.path, order.limits)
            # Last, as a pipe that is let go of loses what is in it.
            for fd, path in self.paths.items():
                pipe = inherited.pop(os.path.basename(path), None)
                self._pipes[fd] = _open(path) if pipe is None else pipe
        except OSError:
            self._let_go()
            raise
        self._pumps = [
            Pump(loop.pipes, pipe, self._logs[fd], copies, now=shelf.now, on_full=kid.on_full, told=shelf.changed)
            for fd, pipe in self._pipes.items()
        ]

    @property
    def pipes(self) -> dict[str, int]:
        """The descriptors of the pipes, by name."""
        return {os.path.basename(path): self._pipes[fd] for fd, path in self.paths.items()}

    @property
    def waiting(self) -> int:
        """How many bytes are in the pipes, and will be moved as soon as the disk takes them."""
        return sum(pump.waiting for pump in self._pumps)

    @property
    def ends(self) -> dict[str, int]:
        """At which offset each log ends now, by descriptor."""
        return {str(fd): log.end for fd, log in self._logs.items()}

    def drain(self) -> None:
        """Move at once what is in the pipes, up to 1 MiB of each: somebody may still be writing."""
        for pump in self._pumps:
            pump.drain(_DRAIN)

    def tick(self) -> None:
        """To be called each second."""
        now = self._shelf.now()
        for pump in self._pumps:
            pump.tick(now)

    def news(self) -> Message | None:
        """What ``trouble`` is, if it has changed since this was last called."""
        before, self._state = self._state, [(pump.trouble is None, pump.dropped_bytes) for pump in self._pumps]
        return None if self._state == before else self.trouble

    @property
    def trouble(self) -> Message:
        """Why a log cannot be written now, by the system's number or None, and what was dropped for it so far."""
        problem = next((pump.trouble for pump in self._pumps if pump.trouble), None)
        return {
            "errno": problem.errno if problem else None,
            "dropped_bytes": sum(pump.dropped_bytes for pump in self._pumps),
            "dropped_lines": sum(pump.dropped_lines for pump in self._pumps),
        }

    def close(self) -> None:
        """Read no more and remove the pipes."""
        self._let_go()
        for path in self.paths.values():
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _let_go(self) -> None:
        for pump in self._pumps:
            pump.close()
        for pipe in self._pipes.values():
            os.close(pipe)
        for log in self._taken:
            self._shelf.give_back(log)
        self._pumps, self._pipes, self._taken = [], {}, []

    def _copy(self, kid: Kid) -> SegmentedLog:
        order = next(iter(kid.logs.values()))
        return self._take(str(kid.copy), order.limits)

    def _take(self, path: str, order: Message) -> SegmentedLog:
        log = self._shelf.take(path, Limits.from_wire(order), Owner.from_wire(order.get("owner")))
        self._taken.append(log)
        return log


def _open(path: str) -> int:
    """Open the reading end, and as the writing end too, so that it never ends whatever the writers do."""
    with suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileExistsError(None, "is not a named pipe", path)
    return fd
