"""From a pipe into a log: whole, in order, and whatever the disk does [P13]."""

import errno
import fcntl
import os
import resource
import selectors
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.logfile import LogFile
from pmdaemon.keeper import pump
from pmdaemon.keeper.layout import segments
from pmdaemon.keeper.pump import Pump
from pmdaemon.keeper.segments import SLACK, Limits, SegmentedLog


class PumpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.time = 1000.0
        self.told: list[tuple[str, int, int]] = []
        self.selector = selectors.DefaultSelector()
        self.addCleanup(self.selector.close)

    def make_log(self, name: str = "out", **limits: object) -> SegmentedLog:
        path = os.path.join(self.directory, name)
        log = SegmentedLog(path, Limits.from_wire(limits), now=lambda: self.time)
        self.addCleanup(log.close)
        return log

    def make_pump(self, log: SegmentedLog, *copies: SegmentedLog, on_full: str = "block") -> tuple[Pump, int]:
        reading, writing = os.pipe()
        for descriptor in (reading, writing):
            self.addCleanup(_close_quietly, descriptor)
        os.set_blocking(writing, False)
        made = Pump(self.selector, reading, log, copies, now=lambda: self.time, on_full=on_full, told=self._tell)
        self.addCleanup(made.close)
        return made, writing

    def _tell(self, log: SegmentedLog) -> None:
        self.told.append((os.path.basename(log.path), log.base, log.end))

    def turn(self) -> int:
        """Let all that is readable be read once, as the loop does."""
        return sum(key.data() for key, _ in self.selector.select(0))

    def turns(self) -> None:
        for _ in range(9):
            self.turn()

    def content(self, log: SegmentedLog) -> bytes:
        file = LogFile(log.path)
        try:
            return file.read(file.base, file.end())
        finally:
            file.close()

    def limit_files(self, size: int) -> None:
        """Have files of this size be full, as a disk would be: the kernel writes what fits and refuses the rest."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)


class Moving(PumpCase):
    def test_bytes_as_they_came(self) -> None:
        log = self.make_log()
        _, pipe = self.make_pump(log)
        for data in (b"one\r\n\0\xff", b"two", b"\n"):
            os.write(pipe, data)
            self.assertEqual(self.turn(), len(data))
        self.assertEqual(self.content(log), b"one\r\n\0\xfftwo\n")
        self.assertEqual(self.told, [("out", 0, 7), ("out", 0, 10), ("out", 0, 11)])

    def test_nothing_to_move(self) -> None:
        made, _ = self.make_pump(self.make_log())
        self.assertEqual((made.ready(), self.told), (0, []))

    def test_the_end(self) -> None:
        made, pipe = self.make_pump(self.make_log())
        os.write(pipe, b"bye")
        os.close(pipe)
        self.assertEqual((self.turn(), made.ended), (3, False))
        self.assertEqual((self.turn(), made.ended, self.turn()), (0, True, 0))
        self.assertEqual(self.told, [("out", 0, 3)])

    def test_two_pumps_into_one_log(self) -> None:
        log = self.make_log(max_size=10)
        pipes = [self.make_pump(log)[1] for _ in range(2)]
        for number in range(10):
            os.write(pipes[number % 2], b"line %d\n" % number)
            self.turn()
        self.assertEqual(self.content(log), b"".join(b"line %d\n" % number for number in range(10)))
        self.assertEqual([segment.start for segment in segments(log.path)], [0, 14, 28, 42, 56])

    def test_drain(self) -> None:
        log = self.make_log()
        made, pipe = self.make_pump(log)
        self.assertTrue(made.drain(1 << 20))
        os.write(pipe, b"x" * 50_000)
        self.assertEqual((made.drain(20_000), made.waiting), (False, 30_000))
        self.assertEqual((made.drain(1 << 20), log.end), (True, 50_000))

    def test_closed(self) -> None:
        made, pipe = self.make_pump(self.make_log())
        made.close()
        os.write(pipe, b"x\n")
        self.assertEqual((self.turn(), made.waiting), (0, 2))

    @skipUnless(hasattr(fcntl, "F_GETPIPE_SZ"), "only Linux can say how large a pipe is")
    def test_a_pipe_grows_when_it_is_found_full_and_not_before(self) -> None:
        _, pipe = self.make_pump(self.make_log())
        os.write(pipe, b"x" * 20_000)
        self.turn()
        self.assertEqual(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ), 65536)
        _fill(pipe, b"x" * 99 + b"\n")
        self.turn()
        self.assertEqual(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ), 1 << 20)

    @skipUnless(hasattr(fcntl, "F_GETPIPE_SZ"), "only Linux can say how large a pipe is")
    def test_a_pipe_that_may_not_grow(self) -> None:
        tries, real = [], fcntl.fcntl

        def refuse(descriptor: int, what: int, *rest: int) -> int:
            if what != fcntl.F_SETPIPE_SZ:
                return real(descriptor, what, *rest)
            tries.append(self.time)
            raise PermissionError(errno.EPERM, "too many")

        log = self.make_log()
        _, pipe = self.make_pump(log)
        self.patch(fcntl, "fcntl", refuse)
        for _ in range(15):
            _fill(pipe, b"x" * 99 + b"\n")
            self.time += 1
            self.turn()
        self.assertEqual((tries, log.end), ([1001, 1011], 15 * 64_000))


class Portable(Moving):
    """The same without splice."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(pump, "_SPLICE", False)


class Refused(Moving):
    """The same where the file system has no splice."""

    def setUp(self) -> None:
        super().setUp()

        def refuse(*_: object, **__: object) -> int:
            raise OSError(errno.EINVAL, "no")

        self.patch(os, "splice", refuse)


class Rotating(PumpCase):
    def test_between_lines_however_they_come(self) -> None:
        log = self.make_log(max_size=1000)
        _, pipe = self.make_pump(log)
        data = b"".join(b"%d %s\n" % (number, b"x" * (number % 90)) for number in range(1000))
        for start in range(0, len(data), 7777):
            os.write(pipe, data[start : start + 7777])
            self.turns()
        self.assertEqual(self.content(log), data)
        old = segments(log.path)
        self.assertGreater(len(old), 40)
        for segment in old:
            self.assertTrue(1000 <= segment.end() - segment.start < 1100)
            self.assertEqual(data[segment.end() - 1], 0x0A)

    def test_a_line_that_does_not_end(self) -> None:
        log = self.make_log(max_size=1000)
        _, pipe = self.make_pump(log)
        for _ in range(5):
            os.write(pipe, b"x" * 40_000)
            self.turns()
        self.assertEqual([segment.start for segment in segments(log.path)], [0, 1000 + SLACK, 2 * (1000 + SLACK)])
        self.assertEqual(self.content(log), b"x" * 200_000)

    def test_by_age(self) -> None:
        log = self.make_log(max_age=60)
        made, pipe = self.make_pump(log)
        self.assertIsNone(made.tick(self.time))
        os.write(pipe, b"one\n")
        self.turn()
        self.time = 1010
        self.assertEqual(made.tick(self.time), 1060)
        self.time = 1060
        self.assertIsNone(made.tick(self.time))
        self.assertEqual((log.base, self.told), (4, [("out", 0, 4), ("out", 4, 4)]))

    def test_by_age_not_before_the_line_has_ended(self) -> None:
        log = self.make_log(max_age=60)
        made, pipe = self.make_pump(log)
        os.write(pipe, b"one\ntw")
        self.turn()
        self.time = 1100
        self.assertIsNone(made.tick(self.time))
        self.assertEqual(log.base, 0)
        os.write(pipe, b"o\nthree\n")
        self.turn()
        self.assertEqual((log.base, self.content(log)), (8, b"one\ntwo\nthree\n"))

    def test_moved_away_and_reopened(self) -> None:
        log = self.make_log()
        _, pipe = self.make_pump(log)
        os.write(pipe, b"one\n")
        self.turn()
        os.rename(log.path, log.path + ".1")
        os.write(pipe, b"two\n")
        self.turn()
        log.reopen()
        os.write(pipe, b"three\n")
        self.turn()
        with open(log.path + ".1", "rb") as moved, open(log.path, "rb") as file:
            self.assertEqual((moved.read(), file.read()), (b"one\ntwo\n", b"three\n"))
        self.assertEqual(self.told[-1], ("out", 8, 14))


class Copies(PumpCase):
    def test_whole_lines_of_both_streams(self) -> None:
        both = self.make_log("both")
        (_, out), (err_pump, err) = self.make_pump(self.make_log(), both), self.make_pump(self.make_log("err"), both)
        for pipe, data in ((out, b"one\ntw"), (err, b"bad\nwor"), (out, b"o\n"), (err, b"se\nlast")):
            os.write(pipe, data)
            self.turn()
        self.assertEqual(self.content(both), b"one\nbad\ntwo\nworse\n")
        self.assertEqual([told for told in self.told if told[0] == "both"][-1], ("both", 0, 18))
        err_pump.close()
        self.assertEqual(self.content(both), b"one\nbad\ntwo\nworse\nlast")

    def test_a_line_that_does_not_end_is_not_held_for_ever(self) -> None:
        both = self.make_log("both")
        _, pipe = self.make_pump(self.make_log(), both)
        for _ in range(10):
            os.write(pipe, b"x" * 10_000)
            self.turn()
        self.assertGreater(both.end, 50_000)

    def test_over_rotations_of_each(self) -> None:
        log, both = self.make_log(max_size=100), self.make_log("both", max_size=130)
        _, pipe = self.make_pump(log, both)
        data = b"".join(b"line %d\n" % number for number in range(1000))
        os.write(pipe, data)
        self.turns()
        self.assertEqual((self.content(log), self.content(both)), (data, data))
        self.assertTrue(log.base and both.base)


class FullDisk(PumpCase):
    def test_block_waits_and_loses_nothing(self) -> None:
        log = self.make_log()
        made, pipe = self.make_pump(log)
        self.limit_files(10)
        os.write(pipe, b"one\ntwo\nthree\nfour\n")
        self.turns()
        self.assertEqual((log.end, made.trouble and made.trouble.errno), (10, errno.EFBIG))
        self.assertEqual((made.tick(1000.5), list(self.selector.get_map())), (1001, []))
        self.time = 1001
        self.assertEqual((made.tick(self.time), log.end, made.drain(99)), (1002, 10, False))
        self.limit_files(100)
        self.time = 1002
        self.assertEqual((made.tick(self.time), made.trouble), (None, None))
        os.write(pipe, b"five\n")
        self.turns()
        self.assertEqual((self.content(log), made.dropped_bytes), (b"one\ntwo\nthree\nfour\nfive\n", 0))

    def test_a_clock_that_was_set_back(self) -> None:
        made, pipe = self.make_pump(self.make_log())
        self.limit_files(10)
        os.write(pipe, b"x" * 11)
        self.turns()
        self.limit_files(100)
        self.time = 5
        made.tick(self.time)
        self.assertIsNone(made.trouble)

    def test_drop_loses_whole_lines_and_counts_them(self) -> None:
        log = self.make_log()
        both = self.make_log("both")
        made, pipe = self.make_pump(log, both, on_full="drop")
        self.limit_files(10)
        os.write(pipe, b"one\ntwo\nthree\nfour\n")
        self.turns()
        self.assertEqual(self.content(log), b"one\ntwo\nth")
        os.write(pipe, b"five\nsi")
        self.turns()
        self.assertEqual((made.dropped_bytes, made.dropped_lines), (16, 3))
        self.limit_files(100)
        self.time = 1001
        os.write(pipe, b"x\nseven\n")
        self.turns()
        self.assertEqual(self.content(log), b"one\ntwo\nth\nseven\n")
        os.write(pipe, b"eight\n")
        self.turns()
        self.assertEqual(self.content(log), b"one\ntwo\nth\nseven\neight\n")
        self.assertEqual(self.content(both), b"one\ntwo\nth\nseven\neight\n")
        self.assertEqual((made.dropped_bytes, made.dropped_lines, made.trouble), (18, 4, None))

    def test_drop_tries_in_vain(self) -> None:
        log = self.make_log()
        made, pipe = self.make_pump(log, on_full="drop")
        self.limit_files(10)
        for _ in range(5):
            os.write(pipe, b"a line\n")
            self.turns()
            self.time += 1
        self.assertEqual((self.content(log), made.dropped_bytes, made.dropped_lines), (b"a line\na l", 25, 4))

    def test_drain_drops_too(self) -> None:
        log = self.make_log()
        made, pipe = self.make_pump(log, on_full="drop")
        self.limit_files(10)
        os.write(pipe, b"x" * 50_000)
        self.assertEqual((made.drain(1 << 20), made.dropped_bytes), (True, 49_990))


class PortableFullDisk(FullDisk):
    """The same without splice."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(pump, "_SPLICE", False)


def _close_quietly(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def _fill(pipe: int, line: bytes) -> None:
    try:
        while True:
            os.write(pipe, line)
    except BlockingIOError:
        pass
