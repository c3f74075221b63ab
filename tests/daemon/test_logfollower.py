"""Lines read back from real files, in the reactor's turns, with a clock that the test moves [P13]."""

import os

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.lines import LIMIT, Line, replay
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logfollower import PARTIAL_AFTER, LogFollower
from pmdaemon.daemon.logwriter import LogWriter


class FollowerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        self.clock = Clock()
        self.batches: list[list[Line]] = []
        self.file = LogFile(self.path)
        self.addCleanup(self.file.close)
        self.follow(0)

    def follow(self, start: int, line_start: int | None = None) -> None:
        self.follower = LogFollower(self.clock, self.file, self.batches.append, start, line_start)

    def put(self, data: bytes) -> int:
        """Append, and return the end; tells the follower nothing."""
        with open(self.path, "ab") as file:
            file.write(data)
        return os.path.getsize(self.path)

    def write(self, data: bytes) -> None:
        self.follower.told(self.put(data))

    def delivered(self) -> list[Line]:
        return [line for batch in self.batches for line in batch]

    def texts(self) -> list[bytes]:
        return [line.data for line in self.delivered()]


class Following(FollowerCase):
    def test_lines_come_in_the_next_turn(self) -> None:
        self.write(b"one\ntwo\n")
        self.assertEqual(self.batches, [])
        self.clock.advance(0)
        self.assertEqual(self.batches, [[Line(0, 4, b"one"), Line(4, 8, b"two")]])
        self.assertEqual(self.follower.position, 8)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_was_told_in_one_turn_comes_together(self) -> None:
        for number in range(5):
            self.write(b"%d\n" % number)
        self.clock.advance(0)
        self.assertEqual([len(batch) for batch in self.batches], [5])

    def test_only_what_was_told_is_read(self) -> None:
        end = self.put(b"one\n")
        self.put(b"two\n")
        self.follower.told(end)
        self.clock.advance(0)
        self.assertEqual(self.texts(), [b"one"])

    def test_starts_where_it_is_asked_to(self) -> None:
        self.put(b"one\ntwo")
        self.follow(6, line_start=4)
        self.write(b"\n")
        self.clock.advance(0)
        self.assertEqual(self.delivered(), [Line(4, 8, b"o", sent=2)])

    def test_no_lists_without_lines(self) -> None:
        self.write(b"on")
        self.clock.advance(0)
        self.write(b"e")
        self.clock.advance(0)
        self.assertEqual(self.batches, [])
        self.assertEqual(self.follower.position, 3)

    def test_a_large_range_is_read_in_turns(self) -> None:
        line = b"x" * 999 + b"\n"
        turns = []
        self.patch(
            self.file, "read", lambda start, end: turns.append(end - start) or LogFile.read(self.file, start, end)
        )
        self.write(line * 1000)
        self.clock.advance(0)
        self.assertEqual(turns, [262_144, 262_144, 262_144, 1_000_000 - 3 * 262_144])
        self.assertEqual(self.texts(), [line[:-1]] * 1000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turns_of_short_lines_are_shorter(self) -> None:
        self.write(b"\n" * 300_000)
        self.clock.advance(0)
        self.assertEqual({len(batch) for batch in self.batches[1:-1]}, {4096})
        self.assertEqual(len(self.delivered()), 300_000)

    def test_a_batch_is_told_again_from_the_file(self) -> None:
        for data in (b"one\ntw", b"o\r\n", b"x" * (LIMIT + 9), b"y\nlast"):
            self.write(data)
            self.clock.pump([0, PARTIAL_AFTER])
        self.follower.finish()
        for batch in self.batches:
            first, last = batch[0], batch[-1]
            self.assertEqual(replay(self.file.read(first.start, last.end), first.start, first.offset), batch)

    def test_with_the_writer(self) -> None:
        writer = LogWriter(self.path, now=self.clock.seconds, told=lambda path, start, end: self.follower.told(end))
        self.addCleanup(writer.close)
        for number in range(50):
            writer.append(b"line %d\nhal" % number)
            writer.append(b"f\n")
            self.clock.advance(0)
        self.assertEqual(self.texts(), [text for n in range(50) for text in (b"line %d" % n, b"half")])


class Partial(FollowerCase):
    def test_an_unfinished_line_is_sent_after_250_ms(self) -> None:
        self.write(b"one\nname? ")
        self.clock.advance(0)
        self.clock.advance(PARTIAL_AFTER - 0.01)
        self.assertEqual(self.texts(), [b"one"])
        self.clock.advance(0.01)
        self.assertEqual(self.batches[1:], [[Line(4, 10, b"name? ", partial=True)]])
        self.write(b"Bob\n")
        self.clock.advance(0)
        self.assertEqual(self.batches[2:], [[Line(4, 14, b"Bob", sent=6)]])

    def test_a_line_that_grows_is_not_put_off(self) -> None:
        for _ in range(6):
            self.write(b".")
            self.clock.pump([0, 0.1])
        self.assertEqual([(line.sent, line.partial) for line in self.delivered()], [(0, True), (3, True)])

    def test_the_time_counts_from_the_line_it_is(self) -> None:
        self.write(b"on")
        self.clock.pump([0, 0.2])
        self.write(b"e\ntw")
        self.clock.pump([0, 0.2])
        self.assertEqual(self.texts(), [b"one"])
        self.clock.advance(0.05)
        self.assertEqual(self.texts(), [b"one", b"tw"])

    def test_a_finished_line_leaves_nothing_to_send(self) -> None:
        self.write(b"on")
        self.clock.advance(0)
        self.write(b"e\n")
        self.clock.pump([0, 1])
        self.assertEqual(self.batches, [[Line(0, 4, b"one")]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_while_the_rest_only_waits_to_be_read(self) -> None:
        self.write(b"on")
        self.clock.advance(0)
        self.clock.callLater(PARTIAL_AFTER - 0.01, self.write, b"e\n")
        self.clock.advance(PARTIAL_AFTER + 0.01)
        self.assertEqual(self.batches, [[Line(0, 4, b"one")]])


class Ending(FollowerCase):
    def test_finish_delivers_all_and_the_unfinished_line(self) -> None:
        self.write(b"x\n" * 200_000 + b"bye\r")
        self.follower.finish()
        self.clock.pump([0] * 99)
        self.assertEqual(len(self.delivered()), 200_001)
        self.assertEqual(self.delivered()[-1], Line(400_000, 400_004, b"bye\r", partial=True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_finish_does_not_keep_the_reactor_from_others(self) -> None:
        self.write(b"x\n" * 200_000 + b"bye")
        self.follower.finish()
        self.assertLess(len(self.delivered()), 200_000)
        self.write(b"hello\n")
        self.follower.finish()
        self.clock.pump([0] * 99)
        self.assertEqual([line.data for line in self.delivered()[-2:]], [b"bye", b"hello"])
        self.assertEqual(len(self.delivered()), 200_002)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_finish_without_anything(self) -> None:
        self.follower.finish()
        self.assertEqual(self.batches, [])

    def test_the_next_child_goes_on(self) -> None:
        self.write(b"bye")
        self.follower.finish()
        self.write(b"hello\n")
        self.clock.advance(0)
        self.assertEqual(self.delivered(), [Line(0, 3, b"bye", partial=True), Line(0, 9, b"hello", sent=3)])

    def test_nothing_after_stop(self) -> None:
        self.write(b"one\ntwo")
        self.follower.stop()
        self.write(b"three\n")
        self.follower.finish()
        self.clock.advance(1)
        self.assertEqual(self.batches, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_by_the_receiver(self) -> None:
        for end in (lambda: self.clock.pump([0] * 9), lambda: self.follower.finish()):
            self.batches.clear()
            self.follower = LogFollower(self.clock, self.file, self.take_one, 0)
            self.write(b"y" * 99 + b"\n" + b"x\n" * 300_000 + b"rest")
            end()
            self.assertEqual(len(self.batches), 1)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def take_one(self, lines: list[Line]) -> None:
        self.batches.append(lines)
        self.follower.stop()

    def test_a_receiver_that_raises_misses_nothing_more(self) -> None:
        def deliver(lines: list[Line]) -> None:
            self.batches.append(lines)
            raise ValueError("mine")

        self.follower = LogFollower(self.clock, self.file, deliver, 0)
        self.write(b"x\n" * 200_000)
        for _ in range(80):
            if self.clock.getDelayedCalls():
                self.assertRaises(ValueError, self.clock.advance, 0)
        self.assertEqual(len(self.delivered()), 200_000)


class Trouble(FollowerCase):
    def test_a_file_that_is_gone_is_skipped_and_said_once(self) -> None:
        with capturedLogs() as said:
            for end in (4, 8):
                self.follower.told(end)
                self.clock.advance(0)
        self.assertEqual(self.follower.position, 8)
        self.assertEqual([(event["start"], event["end"]) for event in said], [(0, 4)])
        self.put(b"one\ntwo\n")
        self.write(b"three\n")
        self.clock.advance(0)
        self.assertEqual(self.delivered(), [Line(8, 14, b"three")])

    def test_a_file_that_cannot_be_opened(self) -> None:
        os.mkfifo(self.path)
        with capturedLogs() as said:
            self.follower.told(4)
            self.follower.finish()
        self.assertEqual((self.follower.position, self.batches), (4, []))
        self.assertIn("not a regular file", said[0]["reason"])

    def test_a_file_that_was_emptied_begins_anew(self) -> None:
        self.write(b"one\ntw")
        self.clock.advance(0)
        os.truncate(self.path, 0)
        self.write(b"x\n")
        self.clock.advance(0)
        self.assertEqual(self.delivered(), [Line(0, 4, b"one"), Line(0, 2, b"x")])
