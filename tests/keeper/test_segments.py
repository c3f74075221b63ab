"""One log in many files: offsets go on over rotations, crashes and whatever else happens to the files."""

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.logfile import LogFile
from pmdaemon.keeper.layout import RECORD, all_segments, base_of, remove_log, segments
from pmdaemon.keeper.segments import SLACK, Limits, SegmentedLog


class SegmentsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "web-out.log")
        self.time = 1000.0
        self.tidied: list[SegmentedLog] = []

    def log(self, **limits: object) -> SegmentedLog:
        log = SegmentedLog(self.path, Limits.from_wire(limits), now=lambda: self.time, tidy=self.tidied.append)
        self.addCleanup(self.close, log)
        return log

    def close(self, log: SegmentedLog) -> None:
        if log.fd >= 0:
            log.close()

    def records(self, path: str = "") -> list[tuple[int, ...]]:
        with open((path or self.path) + ".idx", "rb") as file:
            return list(RECORD.iter_unpack(file.read()))

    def content(self, path: str = "") -> bytes:
        with open(path or self.path, "rb") as file:
            return file.read()

    def starts(self) -> list[int]:
        return [segment.start for segment in segments(self.path)]

    def names(self) -> set[str]:
        return {name.removeprefix("web-out.log") for name in os.listdir(self.directory)}

    def reader(self) -> LogFile:
        file = LogFile(self.path)
        self.addCleanup(file.close)
        return file


class Writing(SegmentsCase):
    def test_a_new_log(self) -> None:
        log = self.log()
        self.assertEqual((log.base, log.end, log.append(b"one\n"), log.end), (0, 0, 4, 4))
        self.assertEqual(self.content(), b"one\n")
        self.assertEqual(self.records(), [(0, 0), (1_000_000, 0)])
        self.assertEqual(self.names(), {"", ".idx"})

    def test_goes_on_where_the_file_ends(self) -> None:
        self.log().append(b"one\n")
        log = self.log()
        self.assertEqual((log.base, log.end), (0, 4))
        log.append(b"two\n")
        self.assertEqual(self.content(), b"one\ntwo\n")

    def test_goes_on_with_what_another_wrote_before_there_was_an_index(self) -> None:
        with open(self.path, "wb") as file:
            file.write(b"old\n")
        with open(self.path + ".idx", "wb") as file:
            file.write(RECORD.pack(5_000, 2) + b"torn")
        log = self.log()
        log.append(b"new\n")
        self.assertEqual((log.base, log.end), (0, 8))
        self.assertEqual(self.records(), [(5_000, 2), (1_000_000, 4)])

    def test_private_and_not_inherited(self) -> None:
        log = self.log()
        self.assertFalse(os.get_inheritable(log.fd))
        for path in (self.path, self.path + ".idx"):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_no_link_no_pipe_no_directory(self) -> None:
        os.symlink("/dev/null", self.path)
        self.assertRaises(OSError, self.log)
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertRaises(OSError, self.log)
        os.unlink(self.path)
        self.path = os.path.join(self.directory, "missing", "x.log")
        self.assertRaises(OSError, self.log)

    def test_a_record_each_100_ms_at_most(self) -> None:
        log = self.log()
        for time in (1000, 1000.05, 1000.1, 1000.15, 999):
            self.time = time
            log.append(b"x\n")
        self.assertEqual(self.records()[1:], [(1_000_000, 0), (1_000_100, 4), (999_000, 8)])

    def test_what_another_appends_counts(self) -> None:
        log = self.log()
        log.append(b"one\n")
        with open(self.path, "ab") as file:
            file.write(b"other\n")
        log.room()
        log.append(b"two\n")
        self.assertEqual((self.content(), log.end), (b"one\nother\ntwo\n", 14))

    def test_apart_from_an_unfinished_line(self) -> None:
        log = self.log()
        log.append(b"one")
        self.assertEqual(log.append(b"two\n", apart=True), 4)
        self.assertEqual(log.append(b"three\n", apart=True), 6)
        self.assertEqual(self.content(), b"one\ntwo\nthree\n")


class Rotating(SegmentsCase):
    def test_by_size_between_lines(self) -> None:
        log = self.log(max_size=10)
        log.append(b"one\nt")
        self.assertEqual((log.room(), log.due()), (5, False))
        log.append(b"wo\nth")
        self.assertEqual((log.room(), log.due()), (1, False))
        log.append(b"ree\n")
        self.assertTrue(log.due())
        log.rotate()
        log.append(b"four\n")
        self.assertEqual((log.base, log.end, self.starts()), (14, 19, [0]))
        self.assertEqual(self.content(self.path + ".000000000000000"), b"one\ntwo\nthree\n")
        self.assertEqual(self.content(), b"four\n")
        self.assertEqual(self.records(self.path + ".000000000000000"), [(0, 0), (1_000_000, 0)])
        self.assertEqual(self.records(), [(0, 14), (1_000_000, 14)])
        self.assertEqual(self.tidied, [log])

    def test_a_line_that_does_not_end(self) -> None:
        log = self.log(max_size=10)
        log.append(b"x" * 2 * SLACK)
        self.assertFalse(log.due())
        log.append(b"x" * (SLACK - 1))
        self.assertFalse(log.due())
        log.append(b"x")
        self.assertTrue(log.due())

    def test_by_age_of_the_first_byte(self) -> None:
        log = self.log(max_age=60)
        self.time = 2000
        self.assertEqual((log.due_in(), log.due()), (None, False))
        log.append(b"x\ny")
        self.time = 2059.5
        self.assertEqual((log.due_in(), log.due()), (0.5, False))
        self.time = 2060
        self.assertEqual((log.due_in(), log.due(), log.room()), (0, False, 1))
        log.append(b"\n")
        self.assertTrue(log.due())
        log.rotate()
        self.assertEqual((log.due_in(), self.starts()), (None, [0]))

    def test_age_counts_over_a_restart(self) -> None:
        self.log(max_age=60).append(b"x\n")
        self.time = 1060
        self.assertTrue(self.log(max_age=60).due())

    def test_no_limits(self) -> None:
        log = self.log(max_size=0)
        log.append(b"x\n" * 100_000)
        self.assertEqual((log.due(), log.room() > 0), (False, True))

    def test_other_limits(self) -> None:
        log = self.log()
        log.append(b"x\n")
        log.set_limits(Limits(max_size=2))
        self.assertTrue(log.due())
        self.assertEqual(self.tidied, [log])

    def test_owner_and_mode_stay(self) -> None:
        log = self.log()
        log.append(b"x\n")
        os.chmod(self.path, 0o640)
        log.rotate()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_where_it_is_impossible_it_is_put_off_and_the_file_written_on(self) -> None:
        log = self.log(max_size=2)
        log.append(b"x\n")
        os.mkdir(self.path + ".new")
        self.assertRaises(OSError, log.rotate)
        self.assertEqual((log.due(), log.room() > 1, self.names()), (False, True, {"", ".idx", ".idx.new", ".new"}))
        os.rmdir(self.path + ".new")
        log.append(b"y\n")
        self.time += 60
        self.assertTrue(log.due())
        log.rotate()
        self.assertEqual((self.content(self.path + ".000000000000000"), log.base), (b"x\ny\n", 4))

    def test_descriptors_are_closed(self) -> None:
        log = self.log()
        before = len(os.listdir("/dev/fd"))
        for _ in range(20):
            log.append(b"x\n")
            log.rotate()
        self.assertEqual(len(os.listdir("/dev/fd")), before)
        self.assertEqual((log.base, len(self.starts())), (40, 20))


class Others(SegmentsCase):
    """What users and their tools do to the files."""

    def test_moved_away_and_reopened(self) -> None:
        log = self.log()
        log.append(b"one\n")
        os.rename(self.path, self.path + ".1")
        log.append(b"two\n")
        log.reopen()
        log.append(b"three\n")
        self.assertEqual(self.content(self.path + ".1"), b"one\ntwo\n")
        self.assertEqual((self.content(), log.base, log.end), (b"three\n", 8, 14))
        self.assertEqual(self.records(), [(0, 8), (1_000_000, 8)])
        self.assertEqual(base_of(self.path), 8)

    def test_reopen_where_nothing_was_moved(self) -> None:
        log = self.log()
        log.append(b"one\n")
        inode = os.stat(self.path).st_ino
        log.reopen()
        self.assertEqual((os.stat(self.path).st_ino, log.base), (inode, 0))

    def test_a_file_that_another_made_in_its_place(self) -> None:
        log = self.log()
        log.append(b"one\n")
        os.rename(self.path, self.path + ".1")
        with open(self.path, "w") as file:
            file.write("theirs\n")
        log.reopen()
        log.append(b"two\n")
        reader = self.reader()
        self.assertEqual((log.base, log.end, reader.base), (11, 15, 4))
        self.assertEqual(reader.read(4, 15), b"theirs\ntwo\n")

    def test_emptied(self) -> None:
        log = self.log()
        log.append(b"one\n")
        os.truncate(self.path, 0)
        log.room()
        log.append(b"two\n")
        self.assertEqual((self.content(), log.base, log.end, self.starts()), (b"two\n", 4, 8, []))

    def test_cut(self) -> None:
        log = self.log()
        log.append(b"one\ntwo\n")
        os.truncate(self.path, 4)
        log.room()
        log.append(b"three\n")
        reader = self.reader()
        self.assertEqual(
            (log.base, reader.read(0, 4), reader.read(4, 8), reader.read(8, 14)), (8, b"one\n", b"", b"three\n")
        )

    def test_deleted(self) -> None:
        log = self.log()
        log.append(b"one\n")
        os.unlink(self.path)
        log.room()
        log.append(b"two\n")
        self.assertEqual((self.content(), log.base), (b"two\n", 4))

    def test_emptied_or_deleted_while_nobody_wrote(self) -> None:
        log = self.log()
        log.append(b"one\n")
        self.time += 1
        log.append(b"two\n")
        log.close()
        log.fd = -1
        os.truncate(self.path, 0)
        log = self.log()
        self.assertEqual((log.base, log.end), (4, 4))
        log.append(b"x\n")
        self.time += 1
        log.append(b"y\n")
        log.close()
        log.fd = -1
        os.unlink(self.path)
        log = self.log()
        self.assertEqual((log.base, self.records()), (6, [(0, 6)]))

    def test_flush_empties_and_offsets_go_on(self) -> None:
        log = self.log()
        for _ in range(3):
            log.append(b"one\n")
            log.rotate()
        log.append(b"two\n")
        reader = self.reader()
        self.assertEqual(reader.end(), 16)
        log.flush_all()
        self.assertEqual((log.base, log.end, self.names()), (16, 16, {"", ".idx"}))
        log.append(b"three\n")
        self.assertEqual(
            (reader.base, reader.end(), reader.read(16, 30), reader.read(0, 16)), (16, 22, b"three\n", b"")
        )

    def test_an_index_that_was_deleted(self) -> None:
        log = self.log()
        log.append(b"one\n")
        log.rotate()
        log.append(b"two\n")
        os.unlink(self.path + ".idx")
        log = self.log()
        self.assertEqual((log.base, log.end), (4, 8))
        log.append(b"x\n")
        self.assertEqual(self.records(), [(0, 4), (1_000_000, 8)])

    def test_purge(self) -> None:
        log = self.log()
        log.append(b"one\n")
        log.rotate()
        with open(self.path + "2", "w"):
            pass
        remove_log(self.path)
        self.assertEqual(self.names(), {"2"})


class Layout(SegmentsCase):
    def test_only_what_is_named_so(self) -> None:
        for name in ("web-out.log.1", "web-out.log.000000000000123x", "web-out.log.idx", "x.000000000000001"):
            with open(os.path.join(self.directory, name), "w"):
                pass
        self.assertEqual(segments(self.path), [])
        self.assertEqual(list(all_segments(self.directory)), [os.path.join(self.directory, "x")])

    def test_both_forms_are_one(self) -> None:
        for suffix in (".000000000000007", ".000000000000007.gz", ".000000000000003.gz"):
            with open(self.path + suffix, "w"):
                pass
        found = [(segment.start, segment.packed) for segment in segments(self.path)]
        self.assertEqual(found, [(3, True), (7, False)])

    def test_a_directory_that_is_missing(self) -> None:
        self.assertEqual(segments(os.path.join(self.directory, "no", "x")), [])

    def test_in_the_working_directory(self) -> None:
        with open("rel.log.000000000000004", "w") as file:
            file.write("x\n")
        self.addCleanup(os.unlink, "rel.log.000000000000004")
        self.assertEqual(base_of("rel.log"), 6)
