"""A program that is measured: started in the foreground, its CPU and memory read from /proc, ended afterwards."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Job", "Running", "cpu", "started"]

_PATIENCE = 30
"""Seconds for whatever takes one or two."""


class Job(NamedTuple):
    """A child to run: its stdout goes to the file ``output``. Words of ``argv`` mean nothing to a shell or a parser."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    output: Path


class Running:
    """What runs the jobs: all its processes, of which ``main`` takes the signals.

    ``look`` is the command that prints what runs, ``env`` what it needs in its environment.
    """

    def __init__(
        self,
        main: int,
        others: Callable[[], list[int]] = list,
        *,
        look: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.main = main
        self.look = look
        self.env = env or {}
        self._others = others

    @property
    def pids(self) -> list[int]:
        """All its processes but the children that it runs."""
        return [self.main, *self._others()]

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used so far."""
        return sum(map(cpu, self.pids))

    def load(self, seconds: float) -> float:
        """Return the percent of a core that it uses for the next so many *seconds*."""
        before, begun = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu() - before) / (time.monotonic() - begun)

    def memory(self) -> float:
        """Resident memory of all its processes together, in MiB; what two of them share counts twice."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids) * page / (1 << 20)

    def end(self) -> None:
        """Tell it to end, children and all."""
        with suppress(ProcessLookupError):
            os.kill(self.main, signal.SIGTERM)


def cpu(pid: int) -> float:
    """Return the seconds of CPU that its living threads have used, to the nanosecond: ticks would be too coarse."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that ends meanwhile
            used += int((thread / "schedstat").read_text().split()[0])
    if not used:
        raise RuntimeError("cannot tell the CPU of a process: this kernel has no /proc/PID/schedstat")
    return used / 1e9


@contextmanager
def started(argv: Sequence[str], output: Path, env: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that puts what it says into the file *output*; what comes after the ``with`` finds it ended."""
    with output.open("wb") as file:
        program = subprocess.Popen(argv, env={**os.environ, **env}, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield program
    except Exception as error:
        error.add_note(f"{argv[0]} said:\n{output.read_text(errors='replace')[-2000:]}")
        raise
    finally:
        program.terminate()
        try:
            program.wait(_PATIENCE)
        finally:
            program.kill()
            program.wait()
