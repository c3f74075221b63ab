"""What is kept for clients that come back, and what is said of what is not [S7]."""

import os
import tempfile
from pathlib import Path

from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.selection import Identity
from pmdaemon.daemon import journal as module
from pmdaemon.daemon.journal import MAX_AGE, MAX_BYTES, MAX_EVENTS, Gap, Journal, LogMark
from pmdaemon.daemon.store import Store


class Who(Struct, frozen=True):
    id: int = 1
    name: str = "web"
    app: str = "web"
    namespace: str = "blue"


WEB = Who()


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp()))), "state.db")
        self.patch(module, "_SLACK", 2)
        self.store = Store(self.path)
        self.addCleanup(lambda: self.store.db.close())

    def journal(self, **bounds: int) -> Journal:
        """Another one on the same state, as after a restart."""
        self.store.close()
        self.store = Store(self.path)
        return Journal(self.store, **bounds)

    def fill(
        self, journal: Journal, *seqs: int, type_: str = "process_event", who: Identity = WEB, size: int = 10
    ) -> None:
        for seq in seqs:
            journal.add(seq, seq / 10, type_, who, b"x" * size)

    def mark(self, journal: Journal, seq: int, start: int, end: int, *, pieces: int = 1, process: int = 1) -> None:
        journal.mark(LogMark(seq, pieces, process, "blue", "stdout", start, end, start, seq / 10))

    def seqs(self, journal: Journal, after: int = 0, limit: int = 100) -> list[int]:
        return [each.seq for each in journal.events(after, limit)]


def everything(type_: str, who: Identity) -> bool:
    return True


class EventTests(JournalCase):
    def test_the_bounds(self) -> None:
        self.assertEqual((MAX_EVENTS, MAX_BYTES, MAX_AGE), (100_000, 64 * 1024 * 1024, 30 * 86400))

    def test_in_order_and_page_by_page(self) -> None:
        journal = self.journal()
        self.fill(journal, 3, 5, 9, 11)
        self.assertEqual([self.seqs(journal, after, 2) for after in (0, 3, 4, 11)], [[3, 5], [5, 9], [5, 9], []])
        (event,) = journal.events(9, 5)
        self.assertEqual((event.name, event.body, event.at), ("web", b"x" * 10, 1.1))

    def test_the_oldest_go_when_there_are_too_many(self) -> None:
        journal = self.journal(max_events=3)
        self.fill(journal, *range(1, 8))
        self.assertEqual(self.seqs(journal), [5, 6, 7])
        journal = self.journal(max_events=3)
        self.fill(journal, 8)
        self.assertEqual(self.seqs(journal), [6, 7, 8])

    def test_the_oldest_go_when_they_are_too_large(self) -> None:
        journal = self.journal(max_bytes=100)
        self.fill(journal, 1, 2, 3, size=30)
        self.fill(journal, 4, size=60)
        self.assertEqual(self.seqs(journal), [3, 4])
        self.fill(journal, 5, size=1000)
        self.assertEqual(self.seqs(journal), [])
        self.fill(journal, 6, size=100)
        self.assertEqual(self.seqs(journal), [6])

    def test_the_oldest_go_when_they_are_too_old(self) -> None:
        journal = self.journal(max_age=1.0)  # each event is a tenth of a second after the one before
        self.fill(journal, *range(1, 15))
        self.assertEqual(self.seqs(journal), list(range(4, 15)))
        journal = self.journal(max_age=1.0)
        self.fill(journal, 20)
        self.assertEqual(self.seqs(journal), [10, 11, 12, 13, 14, 20])
        self.assertEqual(journal.lost(0, everything, logs=False), Gap(9, 9))

    def test_a_few_go_at_once(self) -> None:
        """A daemon that was away for long goes on at once."""
        self.fill(self.journal(), *range(1, 300))
        journal = self.journal(max_age=1.0)
        self.fill(journal, 9000)
        self.assertEqual(len(self.seqs(journal, limit=1000)), 200)
        self.fill(journal, 9001, 9002)
        self.assertEqual(self.seqs(journal), [9000, 9001, 9002])

    def test_backwards(self) -> None:
        journal = self.journal(max_events=4)
        self.fill(journal, 3, 5, 9, 11, 12)
        found = [[each.seq for each in journal.before(seq, 2)] for seq in (1 << 62, 11, 5)]
        self.assertEqual(found, [[12, 11], [9, 5], []])

    def test_from_a_time_on(self) -> None:
        journal = self.journal(max_events=4)
        self.fill(journal, 3, 5, 9, 11, 12)
        newest = 1 << 45
        for at, first in ((0.0, [5, 9, 11, 12]), (0.9, [9, 11, 12]), (0.95, [11, 12]), (1.2, [12]), (9.9, [])):
            self.assertEqual(self.seqs(journal, journal.last_before(at, newest)), first, at)

    def test_a_smaller_bound_than_before(self) -> None:
        self.fill(self.journal(), *range(1, 8))
        journal = self.journal(max_events=2)
        self.fill(journal, 8)
        self.assertEqual(self.seqs(journal), [7, 8])

    def test_ten_thousand_and_more(self) -> None:
        """The cost of one more does not grow with how many went before."""
        journal = self.journal(max_events=100, max_tombstones=50)
        self.fill(journal, *range(1, 1000))
        self.assertEqual(self.seqs(journal), list(range(900, 1000)))
        (rows,) = self.store.db.execute("SELECT count(*) FROM events").fetchone()
        self.assertLessEqual(rows, 100 + 50 + 2)


class GapTests(JournalCase):
    def test_what_is_gone_is_counted(self) -> None:
        journal = self.journal(max_events=3)
        self.fill(journal, 10, 20, 30, 40, 50)
        for since, gap in ((0, Gap(20, 2)), (10, Gap(20, 1)), (15, Gap(20, 1)), (20, None), (99, None)):
            self.assertEqual(journal.lost(since, everything, logs=False), gap)
        self.assertEqual(self.journal(max_events=3).lost(0, everything, logs=True), Gap(20, 2), "and after a restart")

    def test_only_what_was_wanted(self) -> None:
        journal = self.journal(max_events=1)
        self.fill(journal, 1, 2, 3, who=Who(1, "web"))
        self.fill(journal, 4, 5, type_="process_status", who=Who(2, "job"))
        self.fill(journal, 6)

        def lost(type_: str, name: str) -> Gap | None:
            return journal.lost(0, lambda of, who: (of, who.name) == (type_, name), logs=False)

        self.assertEqual(lost("process_event", "web"), Gap(3, 3))
        self.assertEqual(lost("process_status", "job"), Gap(5, 2))
        self.assertEqual(lost("process_status", "web"), None)

    def test_what_nobody_can_count_any_more(self) -> None:
        journal = self.journal(max_events=2, max_tombstones=4)
        self.fill(journal, *range(1, 10))
        self.assertEqual(journal.lost(0, everything, logs=False), Gap(7, None))
        self.assertEqual(journal.lost(0, lambda type_, who: False, logs=False), Gap(2, None))
        self.assertEqual(journal.lost(2, everything, logs=False), Gap(7, 5))
        self.assertEqual(self.journal(max_events=2).lost(1, everything, logs=False), Gap(7, None))

    def test_lines(self) -> None:
        journal = self.journal(max_events=3, max_marks=2)
        self.fill(journal, 1, 2, 3, 4)
        for seq in range(5, 11):
            self.mark(journal, seq, seq, seq + 1)
        self.assertEqual(([each.seq for each in journal.marks(0, 10)], journal.marks_pruned), ([7, 8, 9, 10], 6))
        pruned = journal.marks_pruned
        self.assertEqual(journal.lost(0, everything, logs=True), Gap(pruned, None))
        self.assertEqual(journal.lost(0, everything, logs=False), Gap(1, 1))
        self.assertEqual(journal.lost(pruned, everything, logs=True), None)
        self.assertEqual(self.journal(max_marks=2).lost(4, everything, logs=True), Gap(pruned, None))


class MarkTests(JournalCase):
    def test_those_that_hold_newer_ids(self) -> None:
        journal = self.journal()
        for seq, pieces in ((10, 3), (20, 1), (30, 5)):
            self.mark(journal, seq, seq, seq + 1, pieces=pieces)

        def found(after: int, limit: int = 10) -> list[int]:
            return [each.seq for each in journal.marks(after, limit)]

        self.assertEqual([found(after) for after in (0, 9, 11)], [[10, 20, 30]] * 3)
        self.assertEqual([found(after) for after in (12, 19, 20, 33, 34)], [[20, 30], [20, 30], [30], [30], []])
        self.assertEqual(found(0, 1), [10, 20])
        self.assertEqual(found(15, 1), [20])

    def test_what_was_told_of_a_log(self) -> None:
        journal = self.journal()
        self.mark(journal, 1, 0, 10)
        self.mark(journal, 2, 30, 40)
        self.mark(journal, 3, 10, 20)
        self.mark(journal, 4, 0, 99, process=2)
        self.assertEqual(journal.told(1, "stdout", 0), [(0, 10), (10, 20), (30, 40)])
        self.assertEqual(journal.told(1, "stdout", 10), [(10, 20), (30, 40)])
        self.assertEqual(journal.told(1, "stderr", 0), [])
        self.assertEqual([journal.told_by(1, "stdout", seq) for seq in (0, 1, 2, 9)], [0, 0, 30, 30])
        self.assertEqual(journal.told_by(1, "stderr", 9), 0)

    def test_a_log_that_is_nobodys_any_more(self) -> None:
        journal = self.journal()
        self.mark(journal, 1, 0, 10)
        self.mark(journal, 2, 0, 10, process=2)
        journal.forget_marks(1, "stdout")
        self.assertEqual([each.process for each in journal.marks(0, 10)], [2])
        self.assertIsNone(journal.lost(0, everything, logs=True))

    def test_lines_that_are_gone(self) -> None:
        journal = self.journal()
        self.mark(journal, 1, 0, 10, pieces=3)
        self.mark(journal, 8, 10, 20)
        journal.lose_marks(1, "stdout", 5)
        self.assertIsNone(journal.lost(0, everything, logs=True))
        journal.lose_marks(1, "stdout", 10)
        self.assertEqual([each.seq for each in journal.marks(0, 10)], [8])
        self.assertEqual(self.journal().lost(0, everything, logs=True), Gap(3, None))

    def test_marks_of_deleted_processes_do_not_count(self) -> None:
        journal = self.journal(max_marks=5)
        for round_ in range(10):
            for seq in range(3):
                self.mark(journal, 1 + round_ * 10 + seq, seq, seq + 1)
            journal.forget_marks(1, "stdout")
            self.assertEqual(journal.marks_pruned, 0)


class TimeTests(JournalCase):
    def test_the_newest_known_at_or_before(self) -> None:
        journal = self.journal(max_events=1)
        self.fill(journal, 10, 30)
        self.mark(journal, 20, 0, 1)
        self.assertEqual([journal.time_of(seq) for seq in (9, 10, 19, 25, 99)], [None, 1.0, 1.0, 2.0, 3.0])
