"""Children that say when they run, and do nothing else until they are ended.

A child's first act is to write its pid into a FIFO that the benchmark reads: what is timed is a program that runs, not
one that a process manager says it has started. Its second is to wait for a line from another FIFO, which never comes: a
child that was left behind finds that FIFO at its end when the benchmark lets go of it, and ends too.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import mkdtemp
from threading import Thread
from typing import NamedTuple

from benchmarks.running import Job

__all__ = ["Children", "Start", "staged"]

_PROGRAM = 'echo $$ >"$RUNNING"; read -r _ <"$HOLD"'


class Start(NamedTuple):
    """A child runs: its pid, and when that was known, in seconds of the monotonic clock."""

    pid: int
    at: float


class Children:
    """The two FIFOs in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running, self._hold = directory / "running", directory / "hold"
        for path in (self._running, self._hold):
            os.mkfifo(path)
        self._program = directory / "child.sh"
        self._program.write_text(_PROGRAM)
        # For both directions: then neither end is ever missing.
        self._reports, self._held = (os.open(path, os.O_RDWR) for path in (self._running, self._hold))
        self._starts: SimpleQueue[Start] = SimpleQueue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def jobs(self, count: int) -> list[Job]:
        """Return *count* such children."""
        env = {"RUNNING": str(self._running), "HOLD": str(self._hold)}
        argv = ["/bin/sh", str(self._program)]
        names = [f"child{number}" for number in range(count)]
        return [Job(name, argv, env, self._directory / f"{name}.log") for name in names]

    def next(self, timeout: float = 20) -> Start:
        """Return the next child that runs; TimeoutError where none does within *timeout* seconds."""
        try:
            return self._starts.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"no child came to run within {timeout} s") from None

    def close(self) -> None:
        """Let go of the FIFOs; children that still run end now."""
        os.write(self._reports, b"0\n")
        self._reader.join()
        for descriptor in (self._reports, self._held):
            os.close(descriptor)

    def _read(self) -> None:
        rest = b""
        while True:
            data, now = os.read(self._reports, 4096), time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            for pid in map(int, lines):
                if not pid:
                    return
                self._starts.put(Start(pid, now))


@contextmanager
def staged(scratch: Path) -> Iterator[Children]:
    """Make the FIFOs in a new directory below *scratch*, and let go of them afterwards."""
    children = Children(Path(mkdtemp(dir=scratch)))
    try:
        yield children
    finally:
        children.close()
