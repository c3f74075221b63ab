"""The daemon that is measured: started as a program of its own in a home of its own, ended afterwards."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.running import cpu, started

__all__ = ["Daemon", "running"]

_ROOT = Path(__file__).resolve().parents[1]
_TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "pmdaemon"]
_PATIENCE = 20
"""Seconds for whatever takes one or two."""


class Daemon:
    """A running daemon; ``output`` is the file of what it says."""

    def __init__(self, program: "subprocess.Popen[bytes]", home: Path, output: Path) -> None:
        self._program = program
        self._home = home
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

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._program.pid

    def keeper(self) -> int:
        """The pid of its keeper."""
        return int((self._home / "keeper.lock").read_text())

    @property
    def home(self) -> Path:
        """Its directory."""
        return self._home

    def cpu(self) -> float:
        """The seconds of CPU that it, without its keeper, has used so far."""
        return cpu(self.pid)


@contextmanager
def running(scratch: Path, apps: Sequence[Mapping[str, Any]]) -> Iterator[Daemon]:
    """Start a daemon with *apps* in a new directory below *scratch*; what comes after the ``with`` finds it ended."""
    place = Path(mkdtemp(dir=scratch))
    config, home, output = place / "apps.json", place / "home", place / "output"
    config.write_text(json.dumps({"apps": list(apps)}))
    argv = [*_TWISTD, "--port", "0", "--home", str(home), "--config", str(config)]
    with started(argv, output, {"PYTHONPATH": str(_ROOT)}) as program:
        yield Daemon(program, home, output)
