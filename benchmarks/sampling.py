"""What the figures of many processes cost: a look at all of them beside psutil's, and the whole daemon's metrics."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from websockets.sync.client import ClientConnection, connect

from benchmarks.children import staged
from benchmarks.daemon import running
from benchmarks.figure import OURS, Figure, Section
from benchmarks.peers import app_of
from pmdaemon.daemon.proctable import process_source
from pmdaemon.daemon.trees import Trees

__all__ = ["measure"]

_COUNTS = (100, 1000)
_LOOKS = 5
_ASKED = 20
"""Processes that psutil is asked for the children of: for 1,000 it would take 15 s and more."""

_SETTLED, _WINDOW, _QUICK_WINDOW = 5.0, 20.0, 8.0
_WINDOWS = 3
_GOAL = 5.0
_METHOD = f"""
CPU of one look at so many processes that sleep, in a process that has looked before. PMDaemon's look includes their
trees. psutil's ``cpu_percent()`` and ``memory_info()`` are of the processes alone; its ``children(recursive=True)``
was timed for {_ASKED} of them. Then the CPU of a whole daemon that has {_COUNTS[-1]:,} children, while one client is
subscribed to ``process_metrics`` each second.
"""


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Count the CPU of some looks at as many processes, and the daemon's for some windows."""
    figures = []
    for count in _COUNTS:
        with _sleepers(count) as pids:
            figures += _looks(pids)
    values = _daemon(scratch, _COUNTS[-1], [_QUICK_WINDOW] if quick else [_WINDOW] * _WINDOWS)
    name = f"process_metrics of {_COUNTS[-1]:,} each second"
    figures.append(Figure(name, "% of a core", {OURS: values}, goals={OURS: _GOAL}))
    return [Section("Sampling", _METHOD, figures, versions={"psutil": psutil.__version__})]


@contextmanager
def _sleepers(count: int) -> Iterator[list[int]]:
    programs: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            programs.append(subprocess.Popen(["sleep", "300"], start_new_session=True))  # ended below
        yield [program.pid for program in programs]
    finally:
        for program in programs:
            program.kill()
        for program in programs:
            program.wait()


def _looks(pids: Sequence[int]) -> list[Figure]:
    trees, processes = Trees(process_source()), [psutil.Process(pid) for pid in pids]

    def look() -> None:
        found: dict[int, object] = {}
        for _ in trees.look(dict(enumerate(pids)), found):
            continue
        if len(found) != len(pids):
            raise RuntimeError("a process is missing")

    def ask() -> None:
        for process in processes:
            process.cpu_percent()
            process.memory_info()

    def ask_for_children() -> None:
        for process in processes[:_ASKED]:
            process.children(recursive=True)

    ours, theirs = _costs(look), _costs(ask)
    children = [cost * len(pids) / _ASKED for cost in _costs(ask_for_children)]
    for _ in trees.look({}, {}):  # of nothing: lets go of all
        continue
    values = {OURS: ours, "psutil, no trees": theirs, "psutil, children": children}
    return [Figure(f"a look at {len(pids):,} processes", "ms CPU", values)]


def _costs(call: Callable[[], None]) -> list[float]:
    """Return the ms of CPU of some calls, after one that makes ready."""
    call()
    costs = []
    for _ in range(_LOOKS):
        before = time.process_time()
        call()
        costs.append(1000 * (time.process_time() - before))
    return costs


def _daemon(scratch: Path, count: int, windows: Sequence[float]) -> list[float]:
    """Return the daemon's percent of a core in each of so many windows."""
    with staged(scratch) as children, running(scratch, [app_of(job) for job in children.jobs(count)]) as daemon:
        for _ in range(count):
            children.next()
        url = f"ws://localhost:{daemon.port()}/ws"
        with connect(url, max_size=None, compression=None, proxy=None) as client:
            client.send(json.dumps({"type": "subscribe", "data": {"events": ["process_metrics"], "interval": 1000}}))
            _receive(client, _SETTLED)
            loads = []
            for window in windows:
                before, begun = daemon.cpu(), time.monotonic()
                if _receive(client, window) < window - 2:
                    raise RuntimeError("metrics are missing")
                loads.append(100 * (daemon.cpu() - before) / (time.monotonic() - begun))
    return loads


def _receive(client: ClientConnection, seconds: float) -> int:
    """Return how many messages came within so many *seconds*."""
    end, count = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        try:
            client.recv(left)
        except TimeoutError:
            break
        count += 1
    return count
