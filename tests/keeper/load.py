"""A writer at full speed, a pump that is killed again and again, and what is in the log afterwards.

Run as ``python load.py DIRECTORY '{"kills": 20, "splice": true, "max_size": 150000}'``; prints a verdict in JSON.
"""

import json
import os
import random
import selectors
import signal
import sys
import time
from itertools import pairwise

from pmdaemon.daemon.logfile import LogFile
from pmdaemon.keeper import pump
from pmdaemon.keeper.housekeeper import Housekeeper
from pmdaemon.keeper.layout import segments
from pmdaemon.keeper.pump import Pump
from pmdaemon.keeper.segments import Limits, SegmentedLog

LINES = 40
"""In one write."""
MOST = 2_000_000
"""Lines a writer has to write at most: it stops then, or when it is told to."""


def line(number: int) -> bytes:
    return b"%09d %s\n" % (number, b"x" * (number % 140))


def write(fifo: str, truth: str) -> None:
    """Write numbered lines until SIGTERM, and then how many they were."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    pipe = os.open(fifo, os.O_RDWR)
    number = 0
    while not stopped and number < MOST:
        data = b"".join(map(line, range(number, number + LINES)))
        while data:
            data = data[os.write(pipe, data) :]
        number += LINES
    with open(truth, "w") as file:
        file.write(str(number))


def move(path: str, fifo: str, limits: Limits, until_empty: bool) -> None:
    """Pump for ever, or until nothing is left."""
    selector = selectors.DefaultSelector()
    log = SegmentedLog(path, limits, now=time.time)
    source = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    moving = Pump(selector, source, log, (), now=time.time, on_full="block", told=lambda log: None)
    while not until_empty or not moving.drain(1 << 20):
        for key, _ in selector.select(1):
            key.data()


def fork(call: object, *arguments: object) -> int:
    pid = os.fork()
    if not pid:
        try:
            call(*arguments)  # type: ignore[operator]  # whatever it is, it is called here only
        finally:
            os._exit(0)
    return pid


def verdict(path: str, written: int) -> dict[str, int]:
    """Compare what is in the log with what was written."""
    file = LogFile(path)
    found = file.read(file.base, file.end()).splitlines(keepends=True)
    numbers = [int(each[:9]) for each in found if each[:9].isdigit() and each == line(int(each[:9]))]
    old = segments(path)
    return {
        "written": written,
        "lost": written - len(set(numbers)),
        "doubled": len(numbers) - len(set(numbers)),
        "torn": len(found) - len(numbers),
        "unordered": sum(later <= earlier for earlier, later in pairwise(numbers)),
        "segments": len(old),
        "packed": sum(each.packed for each in old),
        "split": sum(file.read(each.end() - 1, each.end()) != b"\n" for each in old),
    }


def state_of(path: str) -> tuple[int, int]:
    """Which file it is and how large, to see that something moves."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return there.st_ino, there.st_size


def run(directory: str, kills: int, splice: bool, max_size: int = 0) -> dict[str, int]:
    pump._SPLICE = splice
    path, fifo, truth = (os.path.join(directory, name) for name in ("log", "fifo", "truth"))
    limits = Limits(max_size=max_size, max_files=1_000_000, total=None)
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    writer = fork(write, fifo, truth)
    for _ in range(kills):
        before = state_of(path)
        moving = fork(move, path, fifo, limits, False)
        until = time.monotonic() + 2
        while state_of(path) == before and time.monotonic() < until:  # the machine may be busy
            time.sleep(0.001)
        time.sleep(random.uniform(0.0, 0.01))
        os.kill(moving, signal.SIGKILL)
        os.waitpid(moving, 0)
    os.kill(writer, signal.SIGTERM)
    moving = fork(move, path, fifo, limits, False)
    os.waitpid(writer, 0)
    os.kill(moving, signal.SIGKILL)
    os.waitpid(moving, 0)
    os.waitpid(fork(move, path, fifo, limits, True), 0)
    os.close(held)
    if max_size:
        housekeeper = Housekeeper(directory, say=print)
        housekeeper._due[os.path.realpath(path)] = limits
        housekeeper.work()
    with open(truth) as file:
        return verdict(path, int(file.read()))


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], **json.loads(sys.argv[2]))))
