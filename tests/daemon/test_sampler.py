"""Sampling [S8]: for those who asked, when they asked, once for all of them, and not at all for nobody."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.samples import Sample, SystemSample
from pmdaemon.daemon.proctable import Usage
from pmdaemon.daemon.sampler import FRESH, Sampler, Watcher, boot_time, read_system
from pmdaemon.daemon.trees import SLICE, Trees
from tests.daemon.fakesource import FakeSource


def entry(pid: int, ppid: int = 1, cpu: float = 0.5, rss: int = 100) -> Usage:
    return Usage(pid, ppid, pid, 0.0, cpu, 0.0, rss)


class SamplerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000.03)
        self.roots = {0: 10, 1: 20}
        self.entries = [entry(10), entry(11, 10), entry(20), entry(99)]
        self.source = FakeSource(lambda: self.entries)
        self.sampler = Sampler(self.clock, lambda: self.roots, trees=Trees(self.source), system=self._system)

    @property
    def taken(self) -> int:
        """How often the processes were looked at."""
        return self.source.listings

    def _system(self) -> SystemSample:
        return SystemSample(busy=1.0, total=2.0, cores=2, memory_total=10, memory_available=5, load=(0.0, 0.0, 0.0))

    def watch(self, interval: int) -> tuple[Watcher, list[float]]:
        """A watcher, and the seconds from now at which it gets its samples."""
        begin, times = self.clock.seconds(), []
        return self.sampler.watch(interval, lambda sample: times.append(round(sample.at - begin, 3))), times

    def pump(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.advance(0.01)


class SampleTests(SamplerCase):
    def test_whole_trees(self) -> None:
        """[P5]"""
        sample = self.sampler.sample()
        self.assertEqual((sample.processes[0].cpu, sample.processes[0].memory), (1.0, 200))
        self.assertEqual((sample.processes[1].pid, sample.processes[1].memory), (20, 100))
        self.assertEqual((sample.at, sample.system.cores), (5000.03, 2))

    def test_a_child_that_has_just_ended_is_left_out(self) -> None:
        self.roots[2] = 30
        self.assertEqual(set(self.sampler.sample().processes), {0, 1})

    def test_a_fresh_one_serves_all(self) -> None:
        first = self.sampler.sample()
        self.clock.advance(FRESH / 2)
        self.assertIs(self.sampler.sample(), first)
        self.roots = {0: 12}
        self.entries.append(entry(12))
        self.assertIsNot(self.sampler.sample(), first, "other children")
        second = self.sampler.sample()
        self.clock.advance(FRESH)
        self.assertIsNot(self.sampler.sample(), second)

    def test_no_children_need_no_pass(self) -> None:
        self.roots = {}
        self.assertEqual((self.sampler.sample().processes, self.taken), ({}, 0))

    def test_the_machine_itself(self) -> None:
        system = read_system()
        self.assertTrue(0 < system.busy < system.total)
        self.assertTrue(0 < system.memory_available < system.memory_total)
        self.assertGreater(system.cores, 0)
        self.assertGreater(boot_time(), 1e9)


class TickTests(SamplerCase):
    def test_nothing_for_nobody(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        watcher, times = self.watch(100)
        self.sampler.unwatch(watcher)
        self.pump(2)
        self.assertEqual((self.taken, times, self.clock.getDelayedCalls()), (0, [], []))

    def test_each_interval_from_when_it_was_asked_for(self) -> None:
        _, times = self.watch(250)
        self.pump(1.26)
        self.assertEqual(times, [0.25, 0.5, 0.75, 1.0, 1.25])

    def test_one_pass_for_all_that_are_due(self) -> None:
        """[S8]: at the fastest interval asked for, and fanned out."""
        _, fast = self.watch(500)
        _, slow = self.watch(1000)
        _, slower = self.watch(1500)
        self.pump(3.01)
        self.assertEqual((len(fast), slow, slower), (6, [1.0, 2.0, 3.0], [1.5, 3.0]))
        self.assertEqual(self.taken, 6)

    def test_one_that_comes_in_between_joins_the_others(self) -> None:
        self.watch(1000)
        self.pump(0.3)
        _, late = self.watch(1000)
        self.pump(4)
        self.assertEqual((late, self.taken), ([0.7, 1.7, 2.7, 3.7], 4))

    def test_intervals_that_do_not_fit_together(self) -> None:
        _, one = self.watch(1100)
        _, other = self.watch(1300)
        self.pump(6.61)
        self.assertEqual((one, other), ([1.1, 2.2, 3.3, 4.4, 5.5, 6.6], [1.3, 2.6, 3.9, 5.2, 6.5]))
        _, third = self.watch(101)
        self.pump(1.1)
        self.assertLessEqual(len(third), 11, "never more often than each 100 ms")

    def test_comers_and_goers_put_nobody_off(self) -> None:
        _, steady = self.watch(1000)
        for _ in range(50):
            watcher, _ = self.watch(1500)
            self.pump(0.2)
            self.sampler.unwatch(watcher)
            self.pump(0.2)
        self.assertEqual(steady, [float(second) for second in range(1, 21)])

    def test_one_that_stops_itself(self) -> None:
        seen: list[Sample] = []

        def once(sample: Sample) -> None:
            seen.append(sample)
            self.sampler.unwatch(watcher)

        watcher = self.sampler.watch(100, once)
        _, other = self.watch(200)
        self.pump(0.61)
        self.assertEqual((len(seen), other), (1, [0.2, 0.4, 0.6]))

    def test_a_tick_that_fails_is_not_the_last(self) -> None:
        _, times = self.watch(100)
        self.patch(self, "entries", None)
        self.pump(0.25)
        self.assertEqual((times, len(self.flushLoggedErrors(TypeError))), ([], 2))
        self.entries = [entry(10)]
        self.pump(0.1)
        self.assertEqual(times, [0.3])

    def test_one_that_fails_keeps_nobody_from_theirs(self) -> None:
        self.sampler.watch(100, lambda sample: 1 / 0)
        _, times = self.watch(100)
        self.pump(0.31)
        self.assertEqual((times, len(self.flushLoggedErrors(ZeroDivisionError))), ([0.1, 0.2, 0.3], 3))


class ManyTests(SamplerCase):
    """A look at many processes is taken in steps, a turn each, and handed out in as many turns."""

    def setUp(self) -> None:
        super().setUp()
        self.roots = {number: 1000 + number for number in range(4 * SLICE)}
        self.entries = [entry(pid) for pid in self.roots.values()]

    def turn(self) -> int:
        """One call of the reactor's, as `Clock` makes all that are due at once; how many reads it took."""
        before, call = len(self.source.read), self.clock.calls.pop(0)
        call.called = 1
        call.func(*call.args, **call.kw)
        return len(self.source.read) - before

    def turns(self) -> list[int]:
        """The reads of every turn until nothing is left to do."""
        reads = []
        while self.clock.getDelayedCalls():
            reads.append(self.turn())
        return reads

    def test_no_turn_reads_more_than_a_slice(self) -> None:
        seen: list[Sample] = []
        self.sampler.sample()
        self.clock.advance(FRESH)
        self.sampler.request(seen.append)
        self.assertEqual(seen, [])
        self.assertLessEqual(max(self.turns()), SLICE)
        self.assertEqual((len(seen), len(seen[0].processes)), (1, 4 * SLICE))

    def test_one_look_for_all_who_ask_meanwhile(self) -> None:
        seen: list[Sample] = []
        for _ in range(3):
            self.sampler.request(seen.append)
            self.turn()
        self.turns()
        self.assertEqual((len(seen), len({id(sample) for sample in seen}), self.taken), (3, 1, 1))

    def test_each_is_served_in_a_turn_of_its_own(self) -> None:
        seen: list[Sample] = []
        self.sampler.sample()
        self.sampler.request(seen.append, seen.append, seen.append)
        served = []
        while self.clock.getDelayedCalls():
            self.turn()
            served.append(len(seen))
        self.assertEqual(served, [1, 2, 3])

    def test_one_who_cannot_wait_completes_it(self) -> None:
        seen: list[Sample] = []
        self.sampler.request(seen.append)
        self.turn()
        self.roots = dict(self.roots)
        sample = self.sampler.sample()
        self.turns()
        self.assertEqual((seen, self.taken), ([sample], 1))

    def test_of_other_children_it_is_another_one(self) -> None:
        seen: list[Sample] = []
        self.sampler.request(seen.append)
        self.turn()
        self.roots = {**self.roots, 9999: 20}
        self.entries.append(entry(20))
        sample = self.sampler.sample()
        self.turns()
        self.assertIn(9999, sample.processes)
        self.assertEqual((len(seen), self.taken), (1, 2))

    def test_ticks_keep_their_time(self) -> None:
        """[S8]: each interval, however many turns a look takes."""
        _, fast = self.watch(500)
        _, slow = self.watch(1500)
        self.pump(4.6)
        self.assertEqual(fast, [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5])
        self.assertEqual(slow, [1.5, 3.0, 4.5])
        self.assertEqual(self.taken, 9)

    def test_one_that_stops_meanwhile_is_not_served(self) -> None:
        self.sampler.watch(500, lambda sample: self.sampler.unwatch(watcher))
        watcher, times = self.watch(500)
        self.pump(0.6)
        self.assertEqual(times, [])

    def test_a_look_that_fails_in_the_middle(self) -> None:
        seen: list[Sample] = []
        self.sampler.request(seen.append)
        self.patch(self.source, "open", None)
        self.turns()
        self.assertEqual((seen, len(self.flushLoggedErrors(TypeError))), ([], 1))
        del self.source.open
        self.sampler.request(seen.append)
        self.turns()
        self.assertEqual(len(seen[0].processes), 4 * SLICE - 1, "the one it failed at is given up")


class RequestTests(SamplerCase):
    def test_at_once_where_there_is_little(self) -> None:
        seen: list[Sample] = []
        self.sampler.request(seen.append)
        self.assertEqual(seen, [self.sampler.sample()])

    def test_one_that_was_taken_for_others(self) -> None:
        seen: list[Sample] = []
        first = self.sampler.sample()
        self.clock.advance(0.9)
        self.sampler.request(seen.append, fresh=1.0)
        self.assertEqual((seen, self.taken), ([first], 1))
        self.clock.advance(0.1)
        self.sampler.request(seen.append, fresh=1.0)
        self.assertEqual((len(seen), self.taken), (2, 2))
        self.roots = {1: 20}
        self.sampler.request(seen.append, fresh=1.0)
        self.assertEqual(set(seen[-1].processes), {1})
