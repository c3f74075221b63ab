"""Reading a log from any place, and when which byte was written."""

import os
import tracemalloc
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon import logfile
from pmdaemon.daemon.logfile import INDEX_SUFFIX, RECORD, LogFile
from pmdaemon.keeper.housekeeper import Housekeeper
from pmdaemon.keeper.layout import segments
from pmdaemon.keeper.segments import Limits, SegmentedLog


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

    def test_one_that_was_deleted_is_not_kept(self) -> None:
        self.put(b"old")
        self.assertEqual(self.file.end(), 3)
        os.unlink(self.path)
        self.put(b"newer")
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


class Segments(FileCase):
    """A log that was rotated: three segments of two lines each, and the current file with one."""

    data = b"one\ntwo\nthree\nfour\nfive\nsix\nseven\n"
    starts = (0, 8, 19, 28)

    def setUp(self) -> None:
        super().setUp()
        self.time = 100.0
        self.log = SegmentedLog(self.path, Limits(), now=lambda: self.time)
        self.addCleanup(self.log.close)
        lines = self.data.splitlines(keepends=True)
        for first in (0, 2, 4):
            for line in lines[first : first + 2]:
                self.add(line)
            self.log.rotate()
        self.add(lines[6])

    def add(self, line: bytes) -> None:
        self.log.append(line)
        self.time += 1

    def compress(self) -> None:
        housekeeper = Housekeeper(os.path.dirname(self.path), say=self.fail)
        housekeeper._running = True
        housekeeper.look(self.log)
        housekeeper.work()

    def opened(self) -> list[str]:
        """Which files are opened from now on."""
        opened, open_ = [], os.open
        self.patch(os, "open", lambda path, *args: opened.append(os.path.basename(path)) or open_(path, *args))
        return opened

    def in_each_form(self, check: Callable[[], None]) -> None:
        check()
        self.compress()
        self.assertTrue(all(segment.packed for segment in segments(self.path)))
        self.file.close()
        check()

    def test_every_range(self) -> None:
        def check() -> None:
            self.assertEqual((self.file.base, self.file.end()), (0, len(self.data)))
            for start in range(len(self.data) + 3):
                for end in range(len(self.data) + 3):
                    self.assertEqual(self.file.read(start, end), self.data[start:end])

        self.in_each_form(check)

    def test_lines_begin_where_they_do_in_one_file(self) -> None:
        def check() -> None:
            for offset in range(len(self.data) + 1):
                self.assertEqual(self.file.line_start(offset), self.data.rfind(b"\n", 0, offset) + 1)
            tails = [self.data[self.file.tail_start(lines) :].count(b"\n") for lines in range(9)]
            self.assertEqual(tails, [0, 1, 2, 3, 4, 5, 6, 7, 7])

        self.in_each_form(check)

    def test_times(self) -> None:
        def check() -> None:
            at = [self.data.index(word) for word in self.data.split()]
            self.assertEqual([self.file.time_at(offset) for offset in at], [100, 101, 102, 103, 104, 105, 106])
            self.assertEqual(self.file.time_at(len(self.data) - 1), 106)
            self.assertEqual([self.file.offset_at(100 + number) for number in range(7)], at)
            self.assertEqual(
                (self.file.offset_at(0), self.file.offset_at(104.5), self.file.offset_at(107)), (0, 24, 34)
            )

        self.in_each_form(check)

    def test_times_of_logs_whose_last_file_is_empty(self) -> None:
        self.log.rotate()
        self.assertEqual([self.file.offset_at(time) for time in (100, 105.5, 106, 107)], [0, 28, 28, 34])
        self.assertEqual((self.file.time_at(33), self.file.time_at(34)), (106, None))

    def test_an_index_that_is_missing(self) -> None:
        os.unlink(segments(self.path)[1].index_path)
        self.assertEqual([self.file.time_at(start) for start in self.starts], [100, None, 104, 106])
        self.assertEqual([self.file.offset_at(time) for time in (101, 102, 103, 104)], [4, 19, 19, 19])

    def test_what_was_deleted(self) -> None:
        for segment in segments(self.path)[:2]:
            segment.remove()
        self.assertEqual((self.file.base, self.file.end()), (19, 34))
        self.assertEqual([self.file.read(start, 34) for start in (0, 8, 19)], [b"", b"", self.data[19:]])
        self.assertEqual((self.file.tail_start(9), self.file.line_start(25), self.file.line_start(19)), (19, 24, 19))
        self.assertEqual((self.file.time_at(0), self.file.offset_at(0)), (None, 19))

    def test_a_gap(self) -> None:
        segments(self.path)[1].remove()
        self.assertEqual((self.file.base, self.file.read(4, 34)), (0, b"two\n"))
        self.assertEqual(self.file.tail_start(9), 19)

    def test_only_the_current_file_is_opened_for_what_is_in_it(self) -> None:
        opened = self.opened()
        self.patch(os, "listdir", self.fail)
        self.assertEqual((self.file.read(28, 99), self.file.end()), (b"seven\n", 34))
        self.assertEqual(opened, [os.path.basename(self.path), os.path.basename(self.path) + ".idx"])

    def test_what_was_open_is_read_to_its_end_though_it_is_no_more(self) -> None:
        self.assertEqual(self.file.read(28, 30), b"se")
        self.add(b"eight\n")
        self.log.flush_all()
        self.add(b"nine\n")
        self.assertEqual((self.file.end(), self.file.base), (45, 40))
        self.assertEqual(self.file.read(30, 45), b"ven\neight\nnine\n")
        self.assertEqual((self.file.read(41, 45), self.file.read(30, 45)), (b"ine\n", b""))

    def test_what_is_open_may_be_rotated_away_many_times(self) -> None:
        expected = self.data
        self.file.read(28, 30)
        for number in range(9):
            self.add(b"%d\n" % number)
            self.log.rotate()
            expected += b"%d\n" % number
        self.assertEqual(self.file.read(28, 99), expected[28:])
        before = len(os.listdir("/dev/fd"))
        for _ in range(9):
            self.assertEqual(self.file.read(0, 99), expected)
        self.assertLessEqual(len(os.listdir("/dev/fd")), before + 2)

    def test_while_one_file_is_replaced_by_the_next(self) -> None:
        """The writer is stopped between any two steps."""
        real, found = os.rename, []

        def rename(*names: str) -> None:
            for file in (self.file, LogFile(self.path)):
                found.append((file.end(), file.read(0, 99), file.time_at(28)))
                file.read(28, 30)
            real(*names)

        self.patch(os, "rename", rename)
        self.log.rotate()
        self.assertEqual(found, [(34, self.data, 106)] * 8)

    def test_a_file_that_is_gone_before_it_is_opened(self) -> None:
        real, answers = logfile._open_current, [None, None]
        self.patch(logfile, "_open_current", lambda path: answers.pop() if answers else real(path))
        self.assertEqual(self.file.end(), 34)

    def test_a_file_that_comes_just_after_it_was_looked_for(self) -> None:
        real, new = os.path.lexists, self.path + ".new"
        os.rename(self.path, new)

        def lexists(path: str) -> bool:
            if path == new and real(new):
                os.rename(new, self.path)
            return real(path)

        self.patch(os.path, "lexists", lexists)
        self.assertEqual((self.file.end(), self.file.read(28, 99)), (34, b"seven\n"))

    def test_a_file_that_is_replaced_while_it_is_opened(self) -> None:
        real, rotations = logfile.base_of, [self.log.rotate, self.log.rotate]

        def base_of(path: str) -> int:
            if rotations:
                rotations.pop()()
                self.add(b"more\n")
            return real(path)

        self.patch(logfile, "base_of", base_of)
        self.assertEqual((self.file.end(), self.file.read(0, 99)), (44, self.data + b"more\nmore\n"))

    def test_a_file_that_another_put_in_its_place(self) -> None:
        """As logrotate does, before it has the writer turn to it."""
        self.file.read(28, 30)
        os.rename(self.path, self.path + ".1")
        self.put(b"")
        self.add(b"eight\n")
        self.assertEqual((self.file.read(28, 50), self.file.end()), (b"seven\neight\n", 40))
        self.log.reopen()
        self.add(b"nine\n")
        self.assertEqual((self.file.end(), self.file.read(40, 50)), (45, b"nine\n"))

    def test_a_log_that_was_removed_and_begins_anew(self) -> None:
        self.assertEqual(self.file.end(), 34)
        for name in os.listdir(os.path.dirname(self.path)):
            if name.startswith(os.path.basename(self.path)):
                os.unlink(os.path.join(os.path.dirname(self.path), name))
        self.put(b"new\n")
        self.assertEqual((self.file.base, self.file.end(), self.file.read(0, 9)), (0, 4, b"new\n"))

    def test_damage_is_an_error(self) -> None:
        self.put(b"not gzip", segments(self.path)[0].packed_path)
        os.unlink(segments(self.path)[0].plain_path)
        self.assertRaises(OSError, self.file.read, 0, 5)
        self.assertEqual(self.file.read(8, 12), b"thre")
