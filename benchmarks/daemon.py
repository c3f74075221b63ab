"""The daemon that is measured: started as a program of its own in a home of its own, ended afterwards."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

__all__ = ["Daemon", "running"]

_ROOT = Path(__file__).resolve().parents[1]
_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "pmdaemon"]
_PATIENCE = 20
"""Seconds for whatever takes one or two."""


class Daemon:
    """A running daemon; ``output`` is the file of what it says."""

    def __init__(self, program: "subprocess.Popen[bytes]", output: Path) -> None:
        self._program = program
        self._output = output

    @property
    def output(self) -> str:
        """All that it said so far."""
        return self._output.read_text(errors="replace")

    def port(self) -> int:
        """Return the port it listens on, as soon as it does."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._program.poll() is None:
            if found := re.search(r"listens on http://localhost:(\d+)/", self.output):
                return int(found[1])
            time.sleep(0.01)
        raise TimeoutError("the daemon does not listen")

    def cpu(self) -> float:
        """Return the seconds of CPU that its living threads have used, to the nanosecond: ticks would be too coarse."""
        used = 0
        for thread in Path(f"/proc/{self._program.pid}/task").iterdir():
            with suppress(OSError):  # a thread that ends meanwhile
                used += int((thread / "schedstat").read_text().split()[0])
        if not used:
            raise RuntimeError("cannot tell the CPU of a process: this kernel has no /proc/PID/schedstat")
        return used / 1e9

    def load(self, seconds: float) -> float:
        """Return the percent of a core that it uses for the next so many *seconds*."""
        before, begun = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return 100 * (self.cpu() - before) / (time.monotonic() - begun)


@contextmanager
def running(scratch: Path, apps: Sequence[Mapping[str, Any]]) -> Iterator[Daemon]:
    """Start a daemon with *apps* in a new directory below *scratch*; what comes after the ``with`` finds it ended."""
    place = Path(mkdtemp(dir=scratch))
    config, output = place / "apps.json", place / "output"
    config.write_text(json.dumps({"apps": list(apps)}))
    argv = [*_TWISTD, "--port", "0", "--home", str(place / "home"), "--config", str(config)]
    with output.open("wb") as file:
        env = {**os.environ, "PYTHONPATH": str(_ROOT)}
        program = subprocess.Popen(argv, env=env, stdout=file, stderr=subprocess.STDOUT)
    daemon = Daemon(program, output)
    try:
        yield daemon
    except Exception as error:
        error.add_note(f"the daemon said:\n{daemon.output[-2000:]}")
        raise
    finally:
        _end(program)


def _end(program: "subprocess.Popen[bytes]") -> None:
    program.terminate()
    try:
        program.wait(_PATIENCE)
    finally:
        program.kill()
        program.wait()
