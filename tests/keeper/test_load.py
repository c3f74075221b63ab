"""Real processes at full speed: what a kill of the pump may lose, rotations under way, a disk that is full."""

import errno
import json
import os
import random
import select
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import skipUnless

from twisted.trial.unittest import SkipTest, TestCase

from pmdaemon.daemon.logfile import LogFile
from pmdaemon.keeper.pump import Pump
from pmdaemon.keeper.segments import Limits, SegmentedLog
from tests.keeper.load import line

HERE = os.path.dirname(os.path.abspath(__file__))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
DEADLINE = 60


class LoadCase(TestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "log")

    def load(self, **options: object) -> dict[str, int]:
        directory = self.mktemp()
        os.mkdir(directory)
        argv = [sys.executable, os.path.join(HERE, "load.py"), directory, json.dumps(options)]
        done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, timeout=DEADLINE)
        self.assertEqual(done.returncode, 0, done.stderr)
        result: dict[str, int] = json.loads(done.stdout)
        return result


@skipUnless(hasattr(os, "splice"), "without splice a kill may lose what was read and not yet written")
class Killed(LoadCase):
    def test_a_pump_that_is_killed_loses_nothing(self) -> None:
        result = self.load(kills=40, splice=True)
        self.assertGreater(result["written"], 10_000)
        self.assertEqual([result[each] for each in ("lost", "doubled", "torn", "unordered")], [0, 0, 0, 0], result)

    def test_that_this_judge_sees_losses(self) -> None:
        lost = 0
        for _ in range(5):
            lost += self.load(kills=40, splice=False)["lost"]
            if lost:
                return
        self.fail("reading and writing, which can lose lines at a kill, lost none")

    def test_nor_does_one_that_rotates_each_150_kb(self) -> None:
        result = self.load(kills=25, splice=True, max_size=150_000)
        self.assertGreater(result["segments"], 9, result)
        self.assertEqual(result["packed"], result["segments"])
        self.assertEqual(
            [result[each] for each in ("lost", "doubled", "torn", "unordered", "split")], [0, 0, 0, 0, 0], result
        )


_WRITE = """
import os, sys, time
from pmdaemon.keeper.housekeeper import Housekeeper
from pmdaemon.keeper.segments import Limits, SegmentedLog
from tests.keeper.load import line
import pmdaemon.keeper.housekeeper
pmdaemon.keeper.housekeeper._DELAY = 0.001
path = sys.argv[1]
housekeeper = Housekeeper(os.path.dirname(path), say=print)
log = SegmentedLog(path, Limits(max_size=20_000, max_files=100_000), now=time.time, tidy=housekeeper.look)
for start in range(0, 100_000, 20):
    log.append(b"".join(map(line, range(start, start + 20))))
    if log.due():
        log.rotate()
print("done", flush=True)
"""
_PRINT = """
import os
from tests.keeper.load import line
for start in range(0, 30_000, 100):
    data = b"".join(map(line, range(start, start + 100)))
    while data:
        data = data[os.write(1, data):]
"""


class Reading(LoadCase):
    def test_a_reader_meets_every_byte_while_files_are_rotated_and_compressed(self) -> None:
        """[S7] and [P13] depend on it."""
        writer = subprocess.Popen([sys.executable, "-c", _WRITE, self.path], env=ENVIRONMENT, stdout=subprocess.PIPE)
        self.addCleanup(writer.wait)
        self.addCleanup(writer.kill)
        assert writer.stdout is not None
        self.addCleanup(writer.stdout.close)
        expected = b"".join(map(line, range(100_000)))
        file, at, deadline, chance = LogFile(self.path), 0, time.monotonic() + DEADLINE, random.Random(1)
        self.addCleanup(file.close)
        while at < len(expected):
            self.assertLess(time.monotonic(), deadline)
            end = min(file.end(), at + 50_000)
            self.assertEqual(file.read(at, end), expected[at:end])
            at = end
            start = chance.randrange(at + 1)
            self.assertEqual(file.read(start, min(at, start + 99)), expected[start : min(at, start + 99)])
            self.assertEqual(file.line_start(start), expected.rfind(b"\n", 0, start) + 1)
            if not at:
                select.select([writer.stdout], [], [], 0.01)


class SmallDisk(LoadCase):
    """A file system of 1 MB; to mount one needs root."""

    def setUp(self) -> None:
        super().setUp()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.directory]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise SkipTest("a small tmpfs cannot be mounted here, which needs root") from None
        self.addCleanup(subprocess.run, ["umount", self.directory], check=True)

        self.time = 1000.0
        self.selector = selectors.DefaultSelector()
        self.addCleanup(self.selector.close)

    def resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.directory], check=True)

    def start(self, on_full: str) -> tuple[Pump, SegmentedLog]:
        """A pump of what a child prints: 30,000 lines, 2.4 MB."""
        log = SegmentedLog(self.path, Limits(), now=lambda: self.time)
        # Before the directory is unmounted, which cleanups in their reverse order do.
        self.addCleanup(log.close)
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        pump = Pump(self.selector, reading, log, (), now=lambda: self.time, on_full=on_full, told=lambda log: None)
        self.addCleanup(pump.close)
        child = subprocess.Popen([sys.executable, "-c", _PRINT], env=ENVIRONMENT, stdout=writing)
        os.close(writing)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return pump, log

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            for key, _ in self.selector.select(0.05):
                key.data()

    def lines(self) -> list[bytes]:
        with open(self.path, "rb") as file:
            return file.read().splitlines(keepends=True)

    def test_block(self) -> None:
        pump, log = self.start("block")
        self.turn_until(lambda: pump.trouble)
        self.assertEqual(pump.trouble and pump.trouble.errno, errno.ENOSPC)
        end = log.end
        self.assertEqual(pump.tick(self.time), 1001)
        self.time += 1
        self.assertEqual((pump.tick(self.time), log.end, os.path.getsize(self.path)), (1002, end, end))
        self.resize("8m")
        self.time += 1
        self.assertIsNone(pump.tick(self.time))
        self.turn_until(lambda: pump.ended)
        self.assertEqual((self.lines(), pump.dropped_bytes), (list(map(line, range(30_000))), 0))

    def test_drop(self) -> None:
        pump, log = self.start("drop")
        self.turn_until(lambda: pump.ended)
        whole = [each for each in self.lines() if each.endswith(b"\n")]
        self.assertEqual(whole, list(map(line, range(len(whole)))))
        self.assertEqual(len(whole) + pump.dropped_lines, 30_000)
        self.assertEqual(log.end + pump.dropped_bytes, sum(map(len, map(line, range(30_000)))))

    def test_drop_and_go_on(self) -> None:
        pump, _ = self.start("drop")
        self.turn_until(lambda: pump.dropped_lines)
        self.resize("8m")
        self.time += 1
        self.turn_until(lambda: pump.ended)
        found = self.lines()
        numbers = [int(each[:9]) for each in found if each == line(int(each[:9]))]
        self.assertEqual((numbers, numbers[-1]), (sorted(set(numbers)), 29_999))
        # The one that was torn has its head in the log, and counts as lost.
        self.assertIn(len(found) - len(numbers), (0, 1))
        self.assertEqual(len(numbers) + pump.dropped_lines, 30_000)

    def test_flush_frees_a_full_disk(self) -> None:
        pump, log = self.start("block")
        self.turn_until(lambda: pump.trouble)
        end = log.end
        log.flush_all()
        self.assertEqual((log.base, log.end, os.path.getsize(self.path)), (end, end, 0))
        self.time += 1
        pump.tick(self.time)
        self.assertGreater(log.end, end)
