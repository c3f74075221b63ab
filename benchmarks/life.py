"""What it takes to start, keep, restart and stop children: ours and each peer's in turn, several times."""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from select import POLLIN, poll

from benchmarks.asking import done
from benchmarks.children import Children, staged
from benchmarks.daemon import running
from benchmarks.figure import OURS, Figure, Section
from benchmarks.peers import Peer, app_of, available
from benchmarks.running import Running

__all__ = ["measure"]

_SETTLED = 1.5
"""Seconds after the last start; what a start leaves to be done is done by then."""
_PAUSE = 0.05
"""Seconds from one start to the next kill."""
_PATIENCE = 20.0
"""Seconds after which a program is not waited for any more."""
_AGAIN = 5.0
"""Seconds without an end of any child, after which the program is told once more."""
_LONGEST = 5.0
"""Seconds of kills; who restarts slowly is killed less often."""

_METHOD = """
Each starts in a directory of its own with a configuration of so many children, each an app of its own: a shell that
writes its pid into a FIFO and waits. A child counts as started when that pid is read, and as ended when the kernel says
so through a pidfd: nothing is believed that a program says of itself. All take turns in each round.

*to start*: from the first child that runs to the last; *from nothing*: from the start of the program, or for PM2 of
its ``pm2 start``, to the last. *crash to restart*: from SIGKILL to one child until its replacement runs. *idle*: CPU
of all processes of the program, after it has settled. *memory*: their resident memory together, PMDaemon's daemon and
keeper, what they share counted twice; PM2's without its command. *to stop*: from SIGTERM to the program until the last
child has ended. *by a command*: from sending it over a WebSocket to the reply, which comes when each process is online,
or nothing of it is left, and that is written down.
"""


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Return the section of lives of 100 and of 500 children."""
    peers = available()
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    missing = list(peers.missing)
    for _ in range(1 if quick else 5):
        for peer in peers.all:
            _live(scratch, peer, 100, values, kills=3 if quick else 20, window=1.0 if quick else 5.0)
        if not quick:
            _command(scratch, 100, values)
    for number in range(1 if quick else 4):
        for peer in peers.all:
            if peer.name == OURS or not (quick or number):
                try:
                    _live(scratch, peer, 500, values)
                except TimeoutError as why:
                    missing.append(f"{peer.name} with 500 children was given up: {why}.")
        _command(scratch, 500, values)
    if quick:
        missing.append("Peers with 500 children are measured in a full run only, and once: they take a minute each.")
    goals = {
        "500 children to start": 1500.0,
        "500 children to start by a command": 1500.0,
        "500 children to stop by a command": 250.0,
        "crash to restart, among 100": 20.0,
        "idle with 100 children": 0.1,
        "memory with 100 children": 75.0,
    }
    figures = [
        Figure(name, _unit(name), dict(whose), goals={OURS: goals[name]} if name in goals else {})
        for name, whose in sorted(values.items(), key=lambda item: (not item[0].startswith("100"), item[0]))
    ]
    return [Section("Starting, keeping, stopping", _METHOD, figures, peers.versions, missing)]


def _unit(name: str) -> str:
    return {"idle": "% of a core", "memory": "MiB"}.get(name.split()[0], "ms")


def _live(
    scratch: Path,
    peer: Peer,
    count: int,
    values: dict[str, dict[str, list[float]]],
    *,
    kills: int = 0,
    window: float = 0.0,
) -> None:
    """One life of so many children; with *kills* it is watched and disturbed before its end."""
    with staged(scratch) as children:
        begun = time.monotonic()
        with peer.run(scratch, children.jobs(count)) as program:
            starts = [children.next() for _ in range(count)]
            values[f"{count} children to start"][peer.name].append(1000 * (starts[-1].at - starts[0].at))
            values[f"{count} children to start from nothing"][peer.name].append(1000 * (starts[-1].at - begun))
            time.sleep(_SETTLED)
            pids = [start.pid for start in starts]
            if window:
                values["idle with 100 children"][peer.name].append(program.load(window))
            values[f"memory with {count} children"][peer.name].append(program.memory())
            if kills:
                pids[0], away = _restarts(children, pids[0], kills)
                values["crash to restart, among 100"][peer.name] += away
            values[f"{count} children to stop"][peer.name].append(1000 * _end(program, pids))


def _restarts(children: Children, pid: int, kills: int) -> tuple[int, list[float]]:
    """Kill one child again and again, among others that are left alone."""
    away: list[float] = []
    while len(away) < kills and sum(away) < 1000 * _LONGEST:
        time.sleep(_PAUSE)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        pid, at = children.next()
        away.append(1000 * (at - killed))
    return pid, away


def _end(program: Running, pids: Iterable[int]) -> float:
    """Return how many seconds it takes to end its children when it is told to end."""
    waiting = poll()
    descriptors = {os.pidfd_open(pid) for pid in pids}
    for descriptor in descriptors:
        waiting.register(descriptor, POLLIN)
    begun = time.monotonic()
    program.end()
    while descriptors:
        ended = waiting.poll(1000 * _AGAIN)
        if not ended:
            program.end()  # one that is busy with something else may have ignored it, as circus does
        if time.monotonic() - begun > _PATIENCE:
            raise TimeoutError(f"{len(descriptors)} children have not ended within {_PATIENCE} s")
        for descriptor, _ in ended:
            waiting.unregister(descriptor)
            os.close(descriptor)
            descriptors.remove(descriptor)
    return time.monotonic() - begun


def _command(scratch: Path, count: int, values: dict[str, dict[str, list[float]]]) -> None:
    with staged(scratch) as children, running(scratch, [app_of(job) for job in children.jobs(count)]) as daemon:
        for _ in range(count):
            children.next()
        time.sleep(_SETTLED)
        for action in ("stop", "start", "stop"):
            values[f"{count} children to {action} by a command"][OURS].append(1000 * done(daemon, action))
            time.sleep(_PAUSE)
