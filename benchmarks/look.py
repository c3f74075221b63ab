"""What one look at all processes costs, from the shell's start of a command to its end: ours and each peer's."""

import os
import subprocess
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from benchmarks.children import staged
from benchmarks.figure import OURS, Figure, Section
from benchmarks.peers import available
from benchmarks.running import Running

__all__ = ["measure"]

_COUNT = 100
_SETTLED = 1.5

_METHOD = f"""
All run at once, each with {_COUNT} children. Then each one's own command prints them into a pipe, in turn:
``pmdaemon list``, ``supervisorctl status``, ``circusctl status``, ``pm2 jlist``. Time on the wall, the start of the
interpreter included. A look counts when it has named the last child.
"""


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Look a few times with each program's command."""
    peers = available()
    values: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as held:
        programs: dict[str, Running] = {}
        for peer in peers.all:
            children = held.enter_context(staged(scratch))
            programs[peer.name] = held.enter_context(peer.run(scratch, children.jobs(_COUNT)))
            for _ in range(_COUNT):
                children.next()
        time.sleep(_SETTLED)
        for _ in range(3 if quick else 15):
            for name, program in programs.items():
                values[name].append(_look(program))
    figure = Figure(f"a look at {_COUNT} processes", "ms", values, goals={OURS: 150.0, "PM2": 1.0})
    return [Section("The command line", _METHOD, [figure], peers.versions, peers.missing)]


def _look(program: Running) -> float:
    """Return how many ms the command takes."""
    begun = time.monotonic()
    done = subprocess.run(program.look, env={**os.environ, **program.env}, capture_output=True, timeout=60)
    taken = 1000 * (time.monotonic() - begun)
    if f"child{_COUNT - 1}".encode() not in done.stdout:
        raise RuntimeError(f"{program.look[0]} does not name all: {done.stdout[-500:]!r} {done.stderr[-500:]!r}")
    return taken
