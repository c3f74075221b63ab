"""Children that say when they run, and do nothing else until they are ended.

A child's first act is to write its pid into a FIFO that the benchmark reads: what is timed is a program that runs, not
one that the daemon says it has started. Its second is to wait for a line from another FIFO, which never comes: a child
that a daemon left behind finds that FIFO at its end when the benchmark lets go of it, and ends too.
"""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from tempfile import mkdtemp
from typing import Any, NamedTuple

__all__ = ["Children", "Start", "staged"]

_PROGRAM = 'echo $$ >"$RUNNING"; read -r _ <"$HOLD"'


class Start(NamedTuple):
    """A child runs: its pid, and when that was known, in seconds of the monotonic clock."""

    pid: int
    at: float


class Children:
    """The two FIFOs in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._running, self._hold = directory / "running", directory / "hold"
        for path in (self._running, self._hold):
            os.mkfifo(path)
        # For both directions: then neither end is ever missing.
        self._reports, self._held = (os.open(path, os.O_RDWR) for path in (self._running, self._hold))
        self._starts: deque[Start] = deque()
        self._rest = b""

    def apps(self, count: int, **fields: Any) -> list[dict[str, Any]]:
        """Return the declarations of *count* such children, each an app of its own with *fields*."""
        env = {"RUNNING": str(self._running), "HOLD": str(self._hold)}
        app = {"script": "/bin/sh", "args": ["-c", _PROGRAM], "env": env, **fields}
        return [{"name": f"child{number}", **app} for number in range(count)]

    def next(self, timeout: float = 20) -> Start:
        """Return the next child that runs; TimeoutError where none does within *timeout* seconds."""
        deadline = time.monotonic() + timeout
        while not self._starts:
            if not select([self._reports], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no child came to run within {timeout} s")
            data, now = os.read(self._reports, 4096), time.monotonic()
            *pids, self._rest = (self._rest + data).split(b"\n")
            self._starts.extend(Start(int(pid), now) for pid in pids)
        return self._starts.popleft()

    def close(self) -> None:
        """Let go of the FIFOs; children that still run end now."""
        for descriptor in (self._reports, self._held):
            os.close(descriptor)


@contextmanager
def staged(scratch: Path) -> Iterator[Children]:
    """Make the FIFOs in a new directory below *scratch*, and let go of them afterwards."""
    children = Children(Path(mkdtemp(dir=scratch)))
    try:
        yield children
    finally:
        children.close()
