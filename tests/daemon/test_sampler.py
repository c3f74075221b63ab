"""Sampling [S8]: for those who asked, when they asked, once for all of them, and not at all for nobody."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.samples import Sample, SystemSample
from pmdaemon.daemon.proctable import Entry, ProcTable
from pmdaemon.daemon.sampler import FRESH, Sampler, Watcher, boot_time, read_system


def entry(pid: int, ppid: int = 1, cpu: float = 0.5, rss: int = 100) -> Entry:
    return Entry(pid=pid, ppid=ppid, group=pid, session=pid, start=0.0, cpu=cpu, rss=rss, zombie=False)


class SamplerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000.03)
        self.roots = {0: 10, 1: 20}
        self.entries = [entry(10), entry(11, 10), entry(20), entry(99)]
        self.taken: list[float] = []
        self.sampler = Sampler(self.clock, lambda: self.roots, table=self._table, system=self._system)

    def _table(self) -> ProcTable:
        self.taken.append(self.clock.seconds())
        return ProcTable(self.entries)

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
        self.assertEqual((self.sampler.sample().processes, self.taken), ({}, []))

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
        self.assertEqual((self.taken, times, self.clock.getDelayedCalls()), ([], [], []))

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
        self.assertEqual(len(self.taken), 6)

    def test_one_that_comes_in_between_joins_the_others(self) -> None:
        self.watch(1000)
        self.pump(0.3)
        _, late = self.watch(1000)
        self.pump(4)
        self.assertEqual((late, len(self.taken)), ([0.7, 1.7, 2.7, 3.7], 4))

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
