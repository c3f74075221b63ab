"""What many clients cost a daemon as it is run, from a child's write to the client's read."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.daemon import Daemon, running
from benchmarks.fanout_load import connect, cores, loading
from benchmarks.figure import OURS, Figure, Section

__all__ = ["measure"]

_MANY, _RATE = 1000, 1000
_WINDOW, _QUICK_WINDOW = 5.0, 3.0
_ROUNDS = 3
_READERS, _BURST = 99, 20_000
_STALL, _QUICK_STALL = 60.0, 5.0
_BESIDE, _QUICK_BESIDE = 10.0, 4.0
_WARM = 4.0
_WARMING = 20
"""Clients that come and go before memory is looked at."""
_TEXT, _CLOSE = 0x81, 0x88
_PRESENT = 100_000_000
"""Age in ns of a line that shows that a client has caught up."""
_MAX_P99, _MAX_GROWTH, _MAX_RATIO = 30.0, 8.0, 1.5

_PROGRAM = """
import os, sys, time
rate, core = int(sys.argv[1]), int(sys.argv[2])
os.sched_setaffinity(0, {{core}})
text = "GET /api/items/ answered with 200 in 12 ms, 4096 bytes"
begun, number = time.monotonic(), 0
while True:
    due = int((time.monotonic() - begun) * rate)
    lines = "".join(f"@{{time.monotonic_ns()}} {{n}} {{text}}\\n" for n in range(number, due))
    os.write(1, lines.encode())
    number = due
    time.sleep({pause})
"""

MANY = f"""
A daemon, started with twistd, has one core; its keeper, the child and the clients, a program of their own, have the
other. The child writes {_RATE:,} lines a second, each at its time and with the time in it; {_MANY:,} clients follow
them.
"""

STALLED = f"""
The same, with a child that writes {_BURST:,} lines a second, those of each millisecond together, and {_READERS} clients
that follow them. Then another one comes, subscribes, and does not read for {{seconds:.0f}} s; when it reads again, what
it is sent and what it is told to have missed are added up and compared with the lines that there were. Memory is the
growth of the daemon's resident set meanwhile.
"""


IDLE = f"""
What {_MANY:,} clients that have subscribed add to the daemon's resident set, by their number. Others had come and gone
before. What the kernel holds for their sockets is not in it.
"""


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Watch one daemon with many clients, one with a client that does not read, and one with nothing to tell."""
    return [_many(scratch, quick=quick), _stalled(scratch, quick=quick), _idle(scratch)]


@contextmanager
def _talking(scratch: Path, rate: int, pause: float) -> Iterator[Daemon]:
    args = ["-c", _PROGRAM.format(pause=pause), str(rate), str(cores()[1])]
    app = {"name": "talker", "script": sys.executable, "args": args}
    with running(scratch, [app]) as daemon:
        daemon.port()
        for task in Path(f"/proc/{daemon.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cores()[0]})
        os.sched_setaffinity(daemon.keeper(), {cores()[1]})
        yield daemon


def _many(scratch: Path, *, quick: bool) -> Section:
    delivered, p99s, loads = [], [], []
    window = _QUICK_WINDOW if quick else _WINDOW
    with (
        _talking(scratch, _RATE, 0.0005) as daemon,
        loading(scratch, daemon.port(), _MANY, events=["log_message"]) as load,
    ):
        load.ages(_WARM)
        for _ in range(1 if quick else _ROUNDS):
            before, begun = daemon.cpu(), time.monotonic()
            ages = load.ages(window)
            taken = time.monotonic() - begun
            delivered.append(ages.count / window)
            p99s.append(ages.p99)
            loads.append(100 * (daemon.cpu() - before) / taken)
    name = f"{_MANY:,} clients, {_RATE:,} lines/s"
    return Section(
        "The whole daemon, with many clients",
        MANY,
        [
            Figure(f"{name}: received", "messages/s", {OURS: delivered}, True, {OURS: 0.99 * _MANY * _RATE}),
            Figure(f"{name}: p99", "ms", {OURS: p99s}, goals={OURS: _MAX_P99}),
            Figure(f"{name}: CPU", "% of a core", {OURS: loads}),
        ],
    )


def _stalled(scratch: Path, *, quick: bool) -> Section:
    seconds, beside = (_QUICK_STALL, _QUICK_BESIDE) if quick else (_STALL, _BESIDE)
    with (
        _talking(scratch, _BURST, 0.001) as daemon,
        loading(scratch, daemon.port(), _READERS, events=["log_message"]) as load,
    ):
        load.ages(_WARM)
        without = load.ages(beside)
        with _Stalled(daemon.port()) as client:
            begun = _resident(daemon)
            during = load.ages(seconds)
            growth = (_resident(daemon) - begun) / 1e6
            unaccounted, missed = client.read_again()
    name = f"{_READERS} clients beside one that stalls"
    return Section(
        "The whole daemon, with a client that does not read",
        STALLED.format(seconds=seconds),
        [
            Figure(f"{name}: growth of memory", "MB", {OURS: [growth]}, goals={OURS: _MAX_GROWTH}),
            Figure(f"{name}: p99 without", "ms", {OURS: [without.p99]}),
            Figure(f"{name}: p99 with", "ms", {OURS: [during.p99]}, goals={OURS: _MAX_RATIO * without.p99}),
            Figure(f"{name}: it is told it missed", "lines", {OURS: [missed]}),
            Figure(f"{name}: not accounted for", "lines", {OURS: [unaccounted]}, goals={OURS: 0.0}),
        ],
    )


def _idle(scratch: Path) -> Section:
    with running(scratch, []) as daemon:
        port = daemon.port()
        with loading(scratch, port, _WARMING, events=["log_message"]):
            pass
        before = _resident(daemon)
        with loading(scratch, port, _MANY, events=["log_message"]) as load:
            load.expect(_MANY)  # the acknowledgements
            each = (_resident(daemon) - before) / _MANY / 1e3
    name = f"{_MANY:,} clients that are told nothing: memory of each"
    return Section("The whole daemon, with idle clients", IDLE, [Figure(name, "kB", {OURS: [each]}, goals={OURS: 14})])


def _resident(daemon: Daemon) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{daemon.pid}/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


class _Stalled:
    """A client that subscribes and reads nothing until it is told to."""

    def __init__(self, port: int) -> None:
        self._socket = connect(port, json.dumps({"type": "subscribe", "data": {"events": ["log_message"]}}))

    def __enter__(self) -> "_Stalled":
        return self

    def __exit__(self, *why: object) -> None:
        self._socket.close()

    def read_again(self) -> tuple[int, int]:
        """Read up to the present; return how many lines are not accounted for, and how many it was told it missed."""
        numbers, missed = [], 0
        for message in self._messages():
            if message["type"] == "log_gap":
                missed += message["data"]["dropped"]
            elif message["type"] == "log_message":
                stamp, number, *_ = message["data"]["message"][1:].split()
                numbers.append(int(number))
                if missed and time.monotonic_ns() - int(stamp) < _PRESENT:
                    break
        return abs(numbers[-1] - numbers[0] + 1 - len(numbers) - missed), missed

    def _messages(self) -> Iterator[dict[str, Any]]:
        with self._socket.makefile("rb") as stream:
            while True:
                first, size = stream.read(2)
                if size >= 126:
                    size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
                payload = stream.read(size)
                if first == _CLOSE:
                    raise ConnectionError(f"the daemon has closed the connection: {payload!r}")
                if first == _TEXT:  # not a ping
                    yield json.loads(payload)
