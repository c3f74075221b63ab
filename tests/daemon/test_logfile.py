"""Reading a log from any place, and when which byte was written."""

import os
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon import logfile
from pmdaemon.daemon.logfile import INDEX_SUFFIX, RECORD, LogFile


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.file = LogFile(self.path)
        self.addCleanup(self.file.close)

    def put(self, data: bytes, path: str | None = None) -> None:
        with open(path or self.path, "wb") as file:
            file.write(data)

    def put_index(self, *records: tuple[int, int], torn: bytes = b"") -> None:
        self.put(b"".join(RECORD.pack(*record) for record in records) + torn, self.path + INDEX_SUFFIX)


class Reading(FileCase):
    def test_a_missing_file_is_empty(self) -> None:
        self.assertEqual((self.file.end(), self.file.read(0, 10), self.file.tail_start(5)), (0, b"", 0))
        self.assertEqual((self.file.line_start(0), self.file.time_at(0), self.file.offset_at(0)), (0, None, 0))

    def test_a_file_that_comes_later_is_found(self) -> None:
        self.assertEqual(self.file.end(), 0)
        self.put(b"one\n")
        self.assertEqual(self.file.end(), 4)

    def test_a_range(self) -> None:
        self.put(b"0123456789")
        self.assertEqual(self.file.read(2, 5), b"234")
        self.assertEqual(self.file.read(8, 50), b"89")
        self.assertEqual(self.file.read(50, 60), b"")
        self.assertEqual(self.file.read(5, 5), b"")

    def test_the_file_found_first_is_kept_until_close(self) -> None:
        self.put(b"old")
        self.assertEqual(self.file.end(), 3)
        os.rename(self.path, self.path + ".1")
        self.put(b"newer")
        self.assertEqual(self.file.read(0, 9), b"old")
        self.file.close()
        self.assertEqual(self.file.read(0, 9), b"newer")

    def test_no_link_and_no_pipe(self) -> None:
        os.mkfifo(self.path)
        self.assertRaises(OSError, self.file.end)
        os.unlink(self.path)
        self.put(b"secret", self.path + ".target")
        os.symlink(os.path.abspath(self.path + ".target"), self.path)
        self.assertRaises(OSError, self.file.end)


class Lines(FileCase):
    def test_tail(self) -> None:
        self.put(b"one\ntwo\nthree\n")
        self.assertEqual([self.file.tail_start(lines) for lines in range(5)], [14, 8, 4, 0, 0])

    def test_a_last_line_without_newline_counts(self) -> None:
        self.put(b"one\n\nthree")
        self.assertEqual([self.file.tail_start(lines) for lines in range(5)], [10, 5, 4, 0, 0])

    def test_line_start(self) -> None:
        self.put(b"one\n\nthree")
        self.assertEqual([self.file.line_start(offset) for offset in range(11)], [0, 0, 0, 0, 4, 5, 5, 5, 5, 5, 5])

    @settings(deadline=None)
    @given(st.text("a\n", max_size=40).map(str.encode), st.integers(0, 12))
    def test_any_block_gives_what_the_whole_file_gives(self, data: bytes, lines: int) -> None:
        self.patch(logfile, "_BLOCK", 3)
        self.file.close()
        self.put(data)
        expected = b"".join(data.splitlines(keepends=True)[-lines:] if lines else [])
        self.assertEqual(data[self.file.tail_start(lines) :], expected)
        for offset in range(len(data) + 1):
            self.assertEqual(self.file.line_start(offset), data.rfind(b"\n", 0, offset) + 1)

    def test_looks_back_so_far_only(self) -> None:
        self.patch(logfile, "_BLOCK", 4)
        self.patch(logfile, "_REACH", 10)
        self.put(b"aaaa\nbbbb\ncccc\ndddd\n")
        self.assertEqual(self.file.tail_start(9), 10)
        self.put(b"x" * 30)
        self.assertEqual((self.file.tail_start(9), self.file.line_start(30)), (19, 20))

    def test_memory_is_bounded(self) -> None:
        self.put(b"x" * 8_000_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(self.file.tail_start(10), 0)
        self.assertLess(tracemalloc.get_traced_memory()[1], 400_000)


class Times(FileCase):
    def setUp(self) -> None:
        super().setUp()
        self.put(b"x" * 100)

    def test_time_of_a_byte(self) -> None:
        self.put_index((1_000, 0), (2_000, 40), (3_500, 70))
        times = {0: 1.0, 39: 1.0, 40: 2.0, 69: 2.0, 70: 3.5, 100: 3.5}
        self.assertEqual({offset: self.file.time_at(offset) for offset in times}, times)

    def test_before_the_first_record_nothing_is_known(self) -> None:
        self.put_index((1_000, 10))
        self.assertIsNone(self.file.time_at(9))

    def test_offset_of_a_time(self) -> None:
        self.put_index((1_000, 0), (2_000, 40), (3_500, 70))
        offsets = {0.0: 0, 1.0: 0, 1.099: 0, 1.1: 40, 2.0: 40, 2.5: 70, 3.5: 70, 3.6: 100, 9.0: 100}
        self.assertEqual({time: self.file.offset_at(time) for time in offsets}, offsets)

    def test_a_torn_last_record_does_not_count(self) -> None:
        self.put_index((1_000, 0), torn=b"\xff" * 15)
        self.assertEqual((self.file.time_at(100), self.file.offset_at(2.0)), (1.0, 100))

    def test_no_index_or_an_empty_one(self) -> None:
        for _ in range(2):
            self.assertEqual((self.file.time_at(5), self.file.offset_at(0.0)), (None, 100))
            self.put_index()

    def test_a_large_index_is_not_read_whole(self) -> None:
        self.put_index(*((time * 100, time) for time in range(20_000)))
        reads, pread = [], os.pread
        self.patch(os, "pread", lambda *args: reads.append(args) or pread(*args))
        self.assertEqual(self.file.time_at(7_777), 777.7)
        self.assertLess(len(reads), 20)
