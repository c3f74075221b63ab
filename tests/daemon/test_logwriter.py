"""Writing a log and its index, with a disk that fills up and files that others touch [P13]."""

import errno
import os
import stat

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.logfile import INDEX_SUFFIX, RECORD, LogFile
from pmdaemon.daemon.logwriter import LogWriter
from pmdaemon.keeper.segments import Limits, SegmentedLog


class Disk:
    """Stands in for os.write: takes as many bytes as there is room, a piece at a time."""

    def __init__(self, room: int, piece: int = 1 << 20) -> None:
        self.room = room
        self.calls = 0
        self._piece = piece
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        self.calls += 1
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, data[: min(self.room, self._piece)])
        self.room -= written
        return written


class WriterCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "web-out.log")
        self.told: list[tuple[str, int, int]] = []
        self.time = 1000.0

    def writer(self) -> LogWriter:
        writer = LogWriter(self.path, now=lambda: self.time, told=lambda *told: self.told.append(told))
        self.addCleanup(writer.close)
        return writer

    def content(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()

    def records(self) -> list[tuple[int, ...]]:
        with open(self.path + INDEX_SUFFIX, "rb") as file:
            return list(RECORD.iter_unpack(file.read()))


class Appending(WriterCase):
    def test_bytes_as_they_came(self) -> None:
        writer = self.writer()
        for data in (b"one\r\n\0\xff", b"two", b"\n"):
            writer.append(data)
        self.assertEqual(self.content(), b"one\r\n\0\xfftwo\n")
        self.assertEqual(self.told, [(self.path, 0, 7), (self.path, 7, 10), (self.path, 10, 11)])
        self.assertEqual((writer.end, writer.dropped_bytes), (11, 0))

    def test_goes_on_where_the_file_ends(self) -> None:
        self.writer().append(b"one\n")
        writer = self.writer()
        self.assertEqual(writer.end, 4)
        writer.append(b"two\n")
        self.assertEqual(self.told[-1], (self.path, 4, 8))

    def test_two_writers_on_one_file_tell_true_offsets(self) -> None:
        one, other = self.writer(), self.writer()
        one.append(b"one\n")
        other.append(b"other\n")
        one.append(b"x\n")
        self.assertEqual([told[1:] for told in self.told], [(0, 4), (4, 10), (10, 12)])

    def test_one_write_each(self) -> None:
        writer = self.writer()
        writer.append(b"x")
        disk = Disk(room=100)
        self.patch(os, "write", disk.write)
        writer.append(b"x")
        self.assertEqual(disk.calls, 1)

    def test_nothing_is_no_append(self) -> None:
        self.writer().append(b"")
        self.assertEqual(self.told, [])

    def test_after_close_all_is_dropped(self) -> None:
        writer = self.writer()
        writer.close()
        writer.append(b"x\n")
        self.assertEqual((writer.dropped_bytes, self.content()), (2, b""))


class Rotated(WriterCase):
    """A log that a keeper has rotated before: offsets go on from there."""

    def setUp(self) -> None:
        super().setUp()
        self.rotate(b"one\n")

    def rotate(self, data: bytes) -> None:
        log = SegmentedLog(self.path, Limits(), now=lambda: self.time)
        log.append(data)
        log.rotate()
        log.close()

    def read(self) -> tuple[int, bytes, list[float | None]]:
        """Where the log ends, what is in it, and when its lines were written, as a reader finds it."""
        file = LogFile(self.path)
        self.addCleanup(file.close)
        data = file.read(0, file.end())
        return file.end(), data, [file.time_at(offset) for offset in range(0, len(data), 4)]

    def test_offsets_go_on(self) -> None:
        self.writer().append(b"two\n")
        self.time += 1
        writer = self.writer()
        self.assertEqual((writer.base, writer.end), (4, 8))
        writer.append(b"six\n")
        self.assertEqual([told[1:] for told in self.told], [(4, 8), (8, 12)])
        self.assertEqual(self.read(), (12, b"one\ntwo\nsix\n", [1000.0, 1000.0, 1001.0]))

    def test_emptied_by_somebody(self) -> None:
        writer = self.writer()
        writer.append(b"two\n" * 5)
        os.truncate(self.path, 0)
        writer.append(b"six\n")
        self.assertEqual(self.told[-1][1:], (4, 8))
        self.assertEqual(self.read()[:2], (8, b"one\nsix\n"))

    def test_a_keeper_goes_on_after_it(self) -> None:
        self.writer().append(b"two\n")
        self.rotate(b"six\n")
        self.assertEqual(self.read()[:2], (12, b"one\ntwo\nsix\n"))

    def test_reopened(self) -> None:
        """The moved file is written until then; what comes after it begins anew."""
        writer = self.writer()
        os.rename(self.path, self.path + ".moved")
        writer.append(b"two\n")
        writer.reopen()
        writer.append(b"six\n")
        with open(self.path + ".moved", "rb") as file:
            self.assertEqual((file.read(), self.content()), (b"two\n", b"six\n"))
        self.assertEqual(self.told[-1][1:], (8, 12))
        self.assertEqual(self.read()[0], 12)
        os.rename(self.directory, self.directory + ".gone")
        self.assertRaises(OSError, writer.reopen)
        writer.append(b"ten\n")
        self.assertEqual(writer.dropped_bytes, 0, "what it had is kept")


class Opening(WriterCase):
    def test_private_and_not_inherited(self) -> None:
        writer = self.writer()
        for path in (self.path, self.path + INDEX_SUFFIX):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertFalse(os.get_inheritable(writer._descriptor))

    def test_only_a_regular_file_will_do(self) -> None:
        open(os.path.join(self.directory, "target"), "wb").close()
        for suffix in ("", INDEX_SUFFIX):
            path = self.path + suffix
            for make in (lambda path: os.symlink("target", path), os.mkfifo, os.mkdir):
                make(path)
                error = self.assertRaises(OSError, self.writer)
                self.assertEqual(error.filename, path)
                os.rename(path, self.mktemp())
            os.unlink(self.path) if suffix else None

    def test_a_missing_directory_is_an_error(self) -> None:
        os.rmdir(self.directory)
        self.assertRaises(FileNotFoundError, self.writer)

    def test_a_refused_index_leaves_no_descriptor_open(self) -> None:
        os.mkfifo(self.path + INDEX_SUFFIX)
        before = os.listdir("/dev/fd")
        self.assertRaises(OSError, self.writer)
        self.assertEqual(len(os.listdir("/dev/fd")), len(before))


class FullDisk(WriterCase):
    def fill(self, room: int, piece: int = 1 << 20) -> Disk:
        disk = Disk(room, piece)
        self.patch(os, "write", disk.write)
        return disk

    def test_short_writes_are_carried_on(self) -> None:
        writer = self.writer()
        self.fill(room=100, piece=3)
        writer.append(b"one\ntwo\n")
        self.assertEqual(self.content(), b"one\ntwo\n")
        self.assertEqual(self.told, [(self.path, 0, 8)])
        self.assertEqual(writer.dropped_bytes, 0)

    def test_what_does_not_fit_is_counted_and_the_rest_told(self) -> None:
        writer = self.writer()
        self.fill(room=6)
        writer.append(b"one\ntwo\n")
        writer.append(b"three\n")
        self.assertEqual(self.content(), b"one\ntw")
        self.assertEqual(self.told, [(self.path, 0, 6)])
        self.assertEqual(writer.dropped_bytes, 2 + 6)

    def test_a_torn_line_is_not_read_as_one_with_the_next(self) -> None:
        writer = self.writer()
        disk = self.fill(room=6)
        writer.append(b"one\ntwo\n")
        writer.append(b"lost\n")
        disk.room = 100
        writer.append(b"three\n")
        writer.append(b"four\n")
        self.assertEqual(self.content(), b"one\ntw\nthree\nfour\n")
        self.assertEqual([told[1:] for told in self.told], [(0, 6), (6, 13), (13, 18)])
        self.assertEqual(writer.dropped_bytes, 2 + 5)

    def test_nothing_is_added_where_no_line_was_torn(self) -> None:
        writer = self.writer()
        disk = self.fill(room=4)
        writer.append(b"one\ntwo\n")
        disk.room = 100
        writer.append(b"three\n")
        self.assertEqual(self.content(), b"one\nthree\n")

    def test_room_for_the_mending_newline_alone(self) -> None:
        writer = self.writer()
        disk = self.fill(room=2)
        writer.append(b"one\n")
        disk.room = 1
        writer.append(b"two\n")
        disk.room = 100
        writer.append(b"three\n")
        self.assertEqual(self.content(), b"on\nthree\n")
        self.assertEqual(writer.dropped_bytes, 2 + 4)

    def test_said_once_a_minute(self) -> None:
        writer = self.writer()
        self.fill(room=0)
        with capturedLogs() as said:
            for self.time in (1000.0, 1059.0, 1060.0, 1061.0):
                writer.append(b"12345")
        self.assertEqual([event["dropped"] for event in said], [5, 15])
        self.assertIn("No space", said[0]["reason"])


class Index(WriterCase):
    def test_a_record_each_100_ms_at_most(self) -> None:
        writer = self.writer()
        for self.time in (1000.0, 1000.05, 1000.099, 1000.1, 1000.35):
            writer.append(b"x")
        self.assertEqual(self.records(), [(1_000_000, 0), (1_000_100, 3), (1_000_350, 4)])

    def test_a_clock_that_was_set_back(self) -> None:
        writer = self.writer()
        for self.time in (1000.0, 900.0):
            writer.append(b"x")
        self.assertEqual(self.records(), [(1_000_000, 0), (900_000, 1)])

    def test_a_torn_record_is_cut_off_at_open(self) -> None:
        self.writer().append(b"x")
        with open(self.path + INDEX_SUFFIX, "ab") as file:
            file.write(b"torn")
        self.time = 1001.0
        self.writer().append(b"x")
        self.assertEqual(self.records(), [(1_000_000, 0), (1_001_000, 1)])

    def test_a_torn_record_is_cut_off_at_once(self) -> None:
        writer = self.writer()
        disk = Disk(room=1 + 5)
        self.patch(os, "write", disk.write)
        writer.append(b"x")
        disk.room, self.time = 100, 1001.0
        writer.append(b"x")
        self.assertEqual(self.records(), [(1_001_000, 1)])
        self.assertEqual(writer.dropped_bytes, 0)

    def test_begins_anew_with_a_log_that_was_emptied(self) -> None:
        writer = self.writer()
        writer.append(b"one\n")
        os.truncate(self.path, 0)
        self.time = 1000.05
        writer.append(b"x\n")
        self.assertEqual((self.told[-1][1:], writer.end), ((0, 2), 2))
        self.assertEqual(self.records(), [(1_000_050, 0)])

    def test_begins_anew_with_a_log_that_was_removed(self) -> None:
        self.writer().append(b"one\n")
        os.unlink(self.path)
        self.time = 1001.0
        self.writer().append(b"x")
        self.assertEqual(self.records(), [(1_001_000, 0)])
