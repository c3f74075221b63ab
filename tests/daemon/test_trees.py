"""Process trees [P5]: who belongs to them, what they have used, and what a look costs, counted in reads."""

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.samples import ProcessSample
from pmdaemon.daemon.proctable import Usage
from pmdaemon.daemon.trees import SLICE, Trees
from tests.daemon.fakesource import FakeSource


class TreesCase(SynchronousTestCase):
    """A machine with process 1, two children of it and strangers."""

    def setUp(self) -> None:
        self.living: dict[int, Usage] = {}
        self.source = FakeSource(lambda: self.living.values())
        self.trees = Trees(self.source)
        self.put(1)
        self.put(10)
        self.put(20)
        self.put(99)

    def put(
        self, pid: int, ppid: int = 1, *, session: int = 0, start: float = 0.0, own: float = 0.0, waited: float = 0.0
    ) -> None:
        self.living[pid] = Usage(pid, ppid, session or pid, start, own, waited, 100)

    def look(self, *roots: int) -> dict[int, ProcessSample]:
        """What a look finds, by root."""
        found: dict[int, ProcessSample] = {}
        self.steps = sum(1 for _ in self.trees.look({pid: pid for pid in roots}, found))
        return found

    def sizes(self, *roots: int) -> dict[int, int]:
        """How many processes each tree has."""
        return {pid: sample.memory // 100 for pid, sample in self.look(*roots).items()}

    def cpu(self, root: int = 10) -> float:
        return round(self.look(root)[root].cpu, 3)


class MembershipTests(TreesCase):
    def test_descendants_and_members_of_the_session(self) -> None:
        self.put(11, 10, session=10)
        self.put(12, 11, session=12)
        self.put(13, 1, session=10)  # was orphaned
        self.put(14, 13, session=14)
        self.assertEqual(self.sizes(10, 20), {10: 5, 20: 1})

    def test_newcomers_join_whatever_their_pids(self) -> None:
        self.look(10, 20)
        self.put(9, 10)
        self.put(8, 9)
        self.put(7, 8)
        self.put(5, 1, session=8)
        self.assertEqual(self.sizes(10, 20), {10: 5, 20: 1})

    def test_once_a_member_always_a_member(self) -> None:
        self.put(11, 10)
        self.put(12, 11)
        self.look(10)
        del self.living[11]
        self.put(12, 1)
        self.assertEqual(self.sizes(10), {10: 2})
        self.put(13, 12)
        self.assertEqual(self.sizes(10), {10: 3})

    def test_a_root_that_was_a_stranger(self) -> None:
        """It was seen before it was known for a child, and so were its descendants."""
        self.put(11, 10)
        self.put(12, 11)
        self.look(20)
        self.assertEqual(self.sizes(10, 20), {10: 3, 20: 1})

    def test_nobody_is_older_than_its_parent(self) -> None:
        """Its parent ended long ago, and the pid is another's now."""
        self.put(30, 40, start=5.0)
        self.look(20)
        self.put(40, start=9.0)
        self.assertEqual(self.sizes(20, 40), {20: 1, 40: 1})

    def test_one_that_has_gone(self) -> None:
        self.look(10, 20)
        del self.living[10]
        self.assertEqual(self.sizes(10, 20, 77), {20: 1})

    def test_what_is_left_of_the_session_of_a_root_that_has_gone(self) -> None:
        self.put(11, 10, session=10)
        self.look(10)
        del self.living[10]
        self.put(12, 1, session=10)
        self.assertEqual(self.sizes(10), {10: 2})

    def test_a_pid_that_is_used_again(self) -> None:
        self.put(11, 10, own=5.0)
        self.put(12, 10)
        self.look(10)
        self.put(11, 99, start=3.0, own=100.0)
        self.put(12, 10, start=3.0)
        self.put(10, 1, start=4.0, own=1.0)
        self.assertEqual((self.sizes(10), self.cpu()), ({10: 1}, 1.0))

    def test_no_longer_asked_for(self) -> None:
        self.put(11, 10)
        self.look(10, 20)
        self.look(20)
        self.assertEqual([stat.usage.pid for stat in self.source.kept], [20])
        self.assertEqual(self.sizes(10, 20), {10: 2, 20: 1}, "again")
        self.assertEqual((self.look(), self.source.kept), ({}, []))

    def test_what_cannot_be_read_is_left_out(self) -> None:
        self.patch(self.source, "open", lambda pid: None)
        self.assertEqual(self.look(10, 20), {})


class CpuTests(TreesCase):
    def test_all_of_it(self) -> None:
        self.put(10, own=1.0, waited=2.0)
        self.put(11, 10, own=4.0)
        self.assertEqual(self.cpu(), 7.0)

    def test_an_ended_child_that_was_waited_for_counts_once(self) -> None:
        self.put(11, 10, own=4.0, waited=1.0)
        self.look(10)
        del self.living[11]
        self.put(10, waited=5.5)
        self.assertEqual(self.cpu(), 5.5)

    def test_an_ended_child_that_nobody_waited_for_still_counts(self) -> None:
        """Its parent ignored SIGCHLD, or it was orphaned."""
        self.put(11, 10, own=4.0)
        self.look(10)
        del self.living[11]
        self.assertEqual(self.cpu(), 4.0)
        self.put(10, own=1.0)
        self.assertEqual(self.cpu(), 5.0)

    def test_a_child_with_children(self) -> None:
        """Both ended; only the upper one was waited for, which had waited for its own."""
        self.put(11, 10, own=1.0)
        self.put(12, 11, own=2.0)
        self.put(13, 11, own=4.0)
        self.look(10)
        for pid in (11, 12, 13):
            del self.living[pid]
        self.put(10, waited=3.0)
        self.assertEqual(self.cpu(), 7.0)

    def test_one_that_came_and_ended_between_two_looks(self) -> None:
        """Of whom only the first sight is known."""
        self.look(10)
        self.put(11, 10, own=4.0)
        opened = self.source.open

        def ending(pid: int) -> object:
            stat = opened(pid)
            del self.living[pid]
            return stat

        self.patch(self.source, "open", ending)
        self.assertEqual((self.cpu(), self.cpu()), (4.0, 4.0))

    def test_an_end_in_the_middle_of_a_look(self) -> None:
        """The parent was read already, and is read again: it has waited for the child by now."""
        self.put(11, 10, own=4.0)
        self.look(10)
        read = self.source.read

        class Ending(list[int]):
            def append(_, pid: int) -> None:
                read.append(pid)
                if pid == 11 and 11 in self.living:
                    del self.living[11]
                    self.put(10, waited=4.25)

        self.source.read = Ending()
        self.assertEqual(self.cpu(), 4.25)

    def test_it_never_shrinks(self) -> None:
        """Whatever ends, waited for or not."""
        before = 0.0
        for round_ in range(60):
            pid = 100 + round_
            self.put(pid, 10 if round_ % 3 or not round_ else pid - 1, start=float(round_), own=1.0 + round_ / 7)
            if round_ > 3:
                ended = self.living.pop(pid - 3)
                if round_ % 2:
                    now = self.living[10]
                    self.living[10] = now._replace(waited=now.waited + ended.own + ended.waited)
            now = self.cpu()
            self.assertGreaterEqual(now, before)
            before = now
        total = sum(1.0 + round_ / 7 for round_ in range(60))
        self.assertAlmostEqual(before, total, 3, "nothing lost and nothing twice")


class CostTests(TreesCase):
    """Counted, as clocks tell little on a busy machine."""

    def setUp(self) -> None:
        super().setUp()
        self.roots = range(1000, 1000 + 5 * SLICE)
        for pid in self.roots:
            self.put(pid)
        for pid in range(5000, 5000 + SLICE):
            self.put(pid, 1000)
        self.look(*self.roots)
        self.source.opened.clear()
        self.source.read.clear()

    def test_members_are_read_once_and_nobody_is_opened(self) -> None:
        listings = self.source.listings
        self.look(*self.roots)
        self.assertEqual((self.source.listings - listings, self.source.opened), (1, []))
        self.assertEqual(len(self.source.read), 6 * SLICE)

    def test_newcomers_are_opened_once(self) -> None:
        for pid in range(7000, 7010):
            self.put(pid, 1)
            self.put(pid + 100, 1000)
        self.look(*self.roots)
        self.assertEqual(len(self.source.opened), 20)
        self.look(*self.roots)
        self.assertEqual(len(self.source.opened), 20)

    def test_an_end_costs_its_own_tree_another_round(self) -> None:
        del self.living[5000]
        self.look(*self.roots)
        self.assertEqual(len(self.source.read), 6 * SLICE + SLICE)

    def test_no_step_reads_more_than_its_share(self) -> None:
        """But for a tree that is larger: that is read in one."""
        done = 0
        for _ in self.trees.look({pid: pid for pid in self.roots}, {}):
            self.assertLessEqual(len(self.source.read) - done, SLICE + 1)
            done = len(self.source.read)
        self.assertLessEqual(len(self.source.read) - done, SLICE)

    def test_no_step_opens_more_than_its_share(self) -> None:
        """Neither of newcomers nor of those that were strangers."""
        self.look()
        self.source.opened.clear()
        for trees, source in ((self.trees, self.source), (Trees(fresh := FakeSource(self.living.values)), fresh)):
            done = 0
            for _ in trees.look({pid: pid for pid in self.roots}, {}):
                self.assertLessEqual(len(source.opened) - done, SLICE)
                done = len(source.opened)
            self.assertGreater(done, 4 * SLICE)

    def test_a_look_at_little_is_one_step(self) -> None:
        self.look(10, 20)
        self.look(10, 20)
        self.assertEqual(self.steps, 0)

    def test_one_that_is_given_up_loses_no_newcomer(self) -> None:
        for pid in range(7000, 7000 + 2 * SLICE):
            self.put(pid, 20)
        next(self.trees.look({20: 20}, {}))
        self.assertEqual(self.sizes(20), {20: 2 * SLICE + 1})
