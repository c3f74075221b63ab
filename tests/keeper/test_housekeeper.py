"""Old segments: compressed, bounded in number and size, and readable in whatever form."""

import errno
import gzip
import os
import stat
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.logfile import LogFile
from pmdaemon.keeper import housekeeper, packed
from pmdaemon.keeper.housekeeper import Housekeeper
from pmdaemon.keeper.layout import segments
from pmdaemon.keeper.packed import PackedFile, pack
from pmdaemon.keeper.segments import Limits, SegmentedLog


class HousekeeperCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.realpath(self.mktemp())
        os.mkdir(self.directory)
        self.said: list[str] = []
        self.housekeeper = self.make()

    def make(self, total: int | None = None) -> Housekeeper:
        made = Housekeeper(self.directory, total=total, say=self.said.append)
        # The work is done when the test says so.
        made._running = True
        return made

    def log(self, count: int, size: int = 1000, name: str = "out", **limits: object) -> SegmentedLog:
        """A log of *count* segments, incompressible, and a last line in the current file."""
        path = os.path.join(self.directory, name)
        log = SegmentedLog(path, Limits.from_wire(limits), now=lambda: 1000.0)
        self.addCleanup(log.close)
        for _ in range(count):
            log.append(os.urandom(size - 1) + b"\n")
            log.rotate()
        log.append(b"last\n")
        return log

    def tidy(self, *logs: SegmentedLog) -> None:
        for log in logs:
            self.housekeeper.look(log)
        self.housekeeper.work()

    def found(self, log: SegmentedLog) -> list[tuple[int, bool]]:
        return [(segment.start, segment.packed) for segment in segments(log.path)]

    def content(self, log: SegmentedLog) -> bytes:
        file = LogFile(log.path)
        try:
            return file.read(file.base, file.end())
        finally:
            file.close()


class Compressing(HousekeeperCase):
    def test_old_ones_only_and_nothing_else_changes(self) -> None:
        log = self.log(3)
        os.chmod(log.path + ".000000000000000", 0o640)
        os.utime(log.path + ".000000000000000", (5, 5))
        before = self.content(log)
        self.tidy(log)
        self.assertEqual(self.found(log), [(0, True), (1000, True), (2000, True)])
        self.assertEqual(self.content(log), before)
        there = os.stat(log.path + ".000000000000000.gz")
        self.assertEqual((stat.S_IMODE(there.st_mode), there.st_mtime), (0o640, 5))
        suffixes = [
            "",
            ".idx",
            *(f".00000000000{start}{end}" for start in ("0000", "1000", "2000") for end in (".gz", ".idx")),
        ]
        self.assertEqual(sorted(os.listdir(self.directory)), sorted("out" + suffix for suffix in suffixes))
        self.assertEqual(self.said, [])

    def test_any_tool_can_read_them(self) -> None:
        log = self.log(1, size=200_000)
        before = self.content(log)
        self.tidy(log)
        with gzip.open(log.path + ".000000000000000.gz") as file:
            self.assertEqual(file.read() + b"last\n", before)

    def test_not_where_it_is_not_wanted(self) -> None:
        log = self.log(2, compress=False)
        self.tidy(log)
        self.assertEqual(self.found(log), [(0, False), (1000, False)])

    def test_what_a_crash_left(self) -> None:
        log = self.log(2)
        before = self.content(log)
        for name in (".000000000000000.gz", ".000000000001000.gz.tmp"):
            with open(log.path + name, "wb") as file:
                file.write(b"part")
        self.assertEqual(self.content(log), before)
        self.tidy(log)
        self.assertEqual((self.found(log), self.content(log)), ([(0, True), (1000, True)], before))
        self.assertFalse([name for name in os.listdir(self.directory) if name.endswith("tmp")])

    def test_a_full_disk_is_said_and_the_segment_stays(self) -> None:
        log = self.log(1)
        before = self.content(log)

        def refuse(source: int, target: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(housekeeper, "pack", refuse)
        self.tidy(log)
        self.assertEqual((self.content(log), self.found(log)), (before, [(0, False)]))
        self.assertEqual(self.said, [f"cannot compress {log.path}.000000000000000: No space left on device"])
        self.assertEqual(len(os.listdir(self.directory)), 4)

    def test_a_log_that_is_flushed_meanwhile_stays_empty(self) -> None:
        for step in ("mid_pack_1", "mid_pack_2"):
            log = self.log(1, name=step)
            self.patch(housekeeper, "crash_at", lambda at, step=step, log=log: at == step and log.flush_all())
            self.tidy(log)
            names = [name for name in sorted(os.listdir(self.directory)) if name.startswith(step)]
            self.assertEqual((names, self.said), ([step, step + ".idx"], []))

    def test_in_its_own_thread(self) -> None:
        self.patch(housekeeper, "_DELAY", 0.001)
        log = self.log(1)
        real = Housekeeper(self.directory, say=self.said.append)
        for _ in range(2):
            real.look(log)
            deadline = time.monotonic() + 10
            while real._running:
                self.assertLess(time.monotonic(), deadline)
                os.sched_yield()
            self.assertEqual((self.found(log)[-1][1], self.said), (True, []))
            log.rotate()


class Limiting(HousekeeperCase):
    def test_number(self) -> None:
        log = self.log(5, max_files=2)
        self.tidy(log)
        self.assertEqual(self.found(log), [(3000, True), (4000, True)])
        self.assertEqual(len(os.listdir(self.directory)), 6)

    def test_none_at_all(self) -> None:
        log = self.log(2, max_files=0)
        self.tidy(log)
        self.assertEqual((self.found(log), self.content(log)), ([], b"last\n"))

    def test_total_of_a_log(self) -> None:
        log = self.log(5, compress=False, total=3000)
        self.tidy(log)
        self.assertEqual(self.found(log), [(3000, False), (4000, False)])

    def test_the_current_file_stays_however_large(self) -> None:
        log = self.log(2, total=10)
        log.append(b"x" * 100_000)
        self.tidy(log)
        self.assertEqual((self.found(log), os.path.getsize(log.path)), ([], 100_005))

    def test_total_of_the_home_takes_the_oldest_of_all(self) -> None:
        self.housekeeper = self.make(total=3400)
        logs = [self.log(2, name=name, compress=False) for name in ("a", "b")]
        elsewhere = self.log(1, name=os.path.join("..", "elsewhere"), compress=False)
        for age, (log, segment) in enumerate([(0, 1), (1, 0), (0, 0), (1, 1)]):
            os.utime(segments(logs[log].path)[segment].path, (age, age))
        os.utime(segments(elsewhere.path)[0].path, (1.5, 1.5))
        self.tidy(*logs, elsewhere)
        self.assertEqual([self.found(log) for log in (*logs, elsewhere)], [[(0, False)], [(1000, False)], [(0, False)]])
        self.assertEqual([os.path.getsize(log.path) for log in (*logs, elsewhere)], [5] * 3)

    def test_of_logs_that_nobody_writes_any_more_too(self) -> None:
        self.housekeeper = self.make(total=1500)
        old = self.log(2, name="old", compress=False)
        self.tidy(self.log(1, name="new", compress=False))
        self.assertEqual(self.found(old), [])

    def test_another_total(self) -> None:
        """It is kept at once, and what was deleted for it is told once, by log."""
        logs = [self.log(4, name=name, compress=False) for name in ("a", "b")]
        self.tidy(*logs)
        self.assertEqual(self.housekeeper.news(), {})
        self.housekeeper.set_total(6000, logs)
        self.housekeeper.work()
        used = sum(os.lstat(os.path.join(self.directory, name)).st_size for name in os.listdir(self.directory))
        self.assertLessEqual(used, 6000)
        news = self.housekeeper.news()
        self.assertEqual(set(news), {log.path for log in logs[:1]} | (news.keys() & {logs[1].path}))
        self.assertGreaterEqual(sum(news.values()), 2000)
        self.assertEqual(self.housekeeper.news(), {})
        self.housekeeper.set_total(None, logs)
        self.tidy(*logs)
        self.assertEqual(self.housekeeper.news(), {})

    def test_what_cannot_be_deleted_is_said(self) -> None:
        log = self.log(1, max_files=0)
        os.unlink(log.path + ".000000000000000")
        os.mkdir(log.path + ".000000000000000")
        self.tidy(log)
        self.assertEqual(len(self.said), 1)
        self.assertTrue(self.said[0].startswith(f"cannot delete {log.path}.000000000000000: "))


class Packed(SynchronousTestCase):
    def packed(self, data: bytes, base: int = 0) -> PackedFile:
        path = self.mktemp()
        with open(path, "w+b") as plain, open(path + ".gz", "wb") as target:
            plain.write(data)
            plain.flush()
            pack(plain.fileno(), target.fileno())
        self.path = path + ".gz"
        return self.open(base)

    def open(self, base: int = 0) -> PackedFile:
        made = PackedFile(os.open(self.path, os.O_RDONLY), base)
        self.addCleanup(made.close)
        return made

    @settings(deadline=None, max_examples=50)
    @given(st.binary(max_size=300), st.integers(0, 320), st.integers(0, 320), st.integers(1, 50))
    def test_any_part(self, data: bytes, start: int, end: int, block: int) -> None:
        self.patch(packed, "_BLOCK", block)
        file = self.packed(data, 10)
        self.assertEqual(file.end(), 10 + len(data))
        self.assertEqual(file.read(10 + start, 10 + end), data[start:end])
        with gzip.open(self.path) as same:
            self.assertEqual(same.read(), data)

    def test_what_cannot_be_compressed(self) -> None:
        data = os.urandom(200_000)
        self.assertEqual(self.packed(data).read(0, 200_000), data)

    def test_only_what_is_asked_for_is_read(self) -> None:
        data = b"".join(b"%d\n" % number for number in range(1_000_000))
        file = self.packed(data)
        read, pread = [], os.pread
        self.patch(os, "pread", lambda *args: read.append(args[1]) or pread(*args))
        self.assertEqual(file.read(5_000_000, 5_000_100), data[5_000_000:5_000_100])
        self.assertEqual(len(read), 1)
        self.assertLess(read[0], 65536)

    def test_damage_and_other_forms(self) -> None:
        self.packed(b"x\n" * 100_000)
        with open(self.path, "rb") as file:
            whole = file.read()
        for bad in (b"", b"x", whole[:-28], whole[:-1], whole[:-29], whole[1:], gzip.compress(b"x\n")):
            with open(self.path, "wb") as file:
                file.write(bad)
            self.assertRaises(OSError, self.open)
        with open(self.path, "wb") as file:
            file.write(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        self.assertRaises(OSError, self.open().read, 0, 10)
