"""The figures of the last day: how often they are taken, how fine they are told, and what they cost."""

import tracemalloc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.events import ProcessEvent
from pmdaemon.core.samples import ProcessSample, Sample, SystemSample
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.history import History, Series
from pmdaemon.daemon.sampler import Taker

EPOCH = 1_700_000_040.0
SYSTEM = SystemSample(busy=1.0, total=2.0, cores=2, memory_total=10, memory_available=5, load=(0.0, 0.0, 0.0))
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class FakeSampler:
    """Process 0 uses *cpu* percent of a core and *memory* bytes, while it runs."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.used = 0.0
        self.memory = 1000
        self.pid: int | None = 10
        self.taken = 0

    def request(self, taker: Taker, fresh: float = 0.0) -> None:
        self.taken += 1
        at = self.clock.seconds()
        processes = {} if self.pid is None else {0: ProcessSample(self.pid, self.used, self.memory)}
        taker(Sample(at, processes, SYSTEM))


class HistoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sampler = FakeSampler(self.clock)
        self.history = History(self.clock, self.sampler, now=self.now, uptimes=self.uptimes)  # type: ignore[arg-type]
        self.history.start()

    def now(self) -> float:
        return EPOCH + self.clock.seconds()

    def uptimes(self) -> dict[int, float]:
        return {} if self.sampler.pid is None else {0: 100.0 + self.clock.seconds()}

    def run_for(self, seconds: float, *, step: float = 10.0, cpu: float = 50.0) -> None:
        for _ in range(round(seconds / step)):
            self.sampler.used += cpu / 100 * step
            self.clock.advance(step)

    def watch_for(self, seconds: float, *, step: float = 1.0) -> None:
        """As while somebody has subscribed to metrics."""
        for _ in range(round(seconds / step)):
            self.sampler.used += step
            self.clock.advance(step)
            self.sampler.request(self.history.watched)

    def series(self, back: float, metric: str = "cpu", until: float = 0.0) -> Series:
        return self.history.series(0, metric, self.now() - back, self.now() - until)


class TakingTests(HistoryCase):
    def test_every_ten_seconds(self) -> None:
        self.run_for(30, step=1.0)
        self.assertEqual(self.sampler.taken, 3)
        points = self.series(MINUTE).points
        self.assertEqual([at for at, _ in points], [round((EPOCH + at) * 1000) for at in (10, 20, 30)])

    def test_not_while_nothing_runs(self) -> None:
        self.sampler.pid = None
        self.run_for(MINUTE)
        self.assertEqual((self.sampler.taken, self.series(MINUTE).points), (0, []))

    def test_percent_between_two_looks(self) -> None:
        """[P5]: the first is the average since its start."""
        self.sampler.used = 11.0
        self.run_for(20, cpu=50)
        self.run_for(10, cpu=333.33)
        self.assertEqual([value for _, value in self.series(MINUTE).points], [14.5, 50.0, 333.3])
        self.assertEqual([value for _, value in self.series(MINUTE, "memory").points], [1000] * 3)

    def test_another_child(self) -> None:
        self.run_for(20)
        self.sampler.pid, self.sampler.used = 11, 0.0
        self.run_for(10, cpu=13)
        self.assertEqual(self.series(MINUTE).points[-1][1], 1.0)

    def test_a_gap_is_no_zero(self) -> None:
        self.run_for(20)
        self.sampler.pid = None
        self.run_for(20)
        self.sampler.pid = 12
        self.run_for(10)
        self.assertEqual(len(self.series(MINUTE).points), 3)

    def test_a_look_that_fails_is_not_the_last(self) -> None:
        self.sampler.memory = "much"  # type: ignore[assignment]  # a defect
        self.run_for(10)
        self.assertTrue(self.flushLoggedErrors(ValueError))
        self.sampler.memory = 7
        self.run_for(10)
        self.assertEqual(self.series(MINUTE, "memory").points[-1][1], 7)

    def test_the_end(self) -> None:
        self.history.stop()
        self.history.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deleted(self) -> None:
        self.run_for(10)
        for event in ("stopped", "deleted"):
            self.assertEqual(len(self.series(MINUTE).points), 1)
            told = ProcessEvent(
                event=event, process="web", id=0, app="web", instance=0, namespace="default", details={}
            )
            self.history.offer(Message(1, self.now(), told, told, lambda *_: b""))  # type: ignore[arg-type]
        self.assertEqual(self.series(MINUTE).points, [])

    def test_nobody(self) -> None:
        self.assertEqual(self.history.series(9, "cpu", 0.0, 1e12), Series(10, []))


class ResolutionTests(HistoryCase):
    def test_seconds_while_somebody_watches(self) -> None:
        self.watch_for(400)
        series = self.series(100)
        self.assertEqual((series.resolution, len(series.points)), (1, 101))
        self.assertEqual(self.series(300).resolution, 1)
        self.assertEqual((self.series(400).resolution, len(self.series(400).points)), (10, 40))

    def test_once_a_second_at_most(self) -> None:
        self.watch_for(10, step=0.1)
        self.assertEqual(len(self.series(100).points), 10)

    def test_what_was_watched_long_ago_does_not_hide_the_rest(self) -> None:
        self.watch_for(60)
        self.run_for(HOUR / 2)
        self.watch_for(60)
        self.assertEqual(self.series(HOUR / 2 + 2 * MINUTE).resolution, 10)
        self.assertEqual(self.series(50).resolution, 1)

    def test_an_hour_and_a_day(self) -> None:
        self.run_for(DAY + 2 * HOUR)
        hour, day = self.series(HOUR), self.series(DAY)
        self.assertEqual((hour.resolution, len(hour.points)), (10, 360))
        self.assertEqual((day.resolution, len(day.points)), (60, 1440))
        past = self.series(5 * HOUR, until=4 * HOUR)
        self.assertEqual((past.resolution, len(past.points)), (60, 60))
        self.assertEqual(self.series(2 * DAY, until=DAY + HOUR).points, [])

    def test_a_minute_is_the_mean_of_it(self) -> None:
        self.run_for(2 * HOUR, cpu=10)
        self.run_for(30, cpu=90)
        self.run_for(30, cpu=30)
        self.run_for(2 * HOUR, cpu=10)
        values = [value for _, value in self.series(4 * HOUR).points]
        self.assertEqual(sum(values) - 10 * len(values), 50.0)

    def test_in_order_after_it_came_round(self) -> None:
        self.run_for(2 * DAY)
        for back in (HOUR, DAY):
            times = [at for at, _ in self.series(back).points]
            self.assertEqual(times, sorted(times))


class CostTests(HistoryCase):
    def test_150_kilobytes_at_most(self) -> None:
        """Everything that is allocated for one process, counted by Python itself."""
        self.watch_for(10)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        self.watch_for(400)
        self.run_for(DAY + HOUR)
        used = tracemalloc.get_traced_memory()[0] - before
        rings = self.history._records[0].rings()
        self.assertEqual([len(ring._at) for ring in rings], [300, 360, 1440])
        self.assertTrue(3 * 8 * 2100 <= used < 100_000, used)


class SharingTests(HistoryCase):
    def test_a_sample_that_was_taken_for_others(self) -> None:
        """It may be a second old; its points stand at the time when it was taken."""
        asked: list[float] = []
        old: list[Sample] = []
        self.sampler.request(old.append)

        def request(taker: Taker, fresh: float) -> None:
            asked.append(fresh)
            taker(old[0])

        self.patch(self.sampler, "request", request)
        self.clock.advance(10.0)
        self.assertEqual((asked, self.series(MINUTE).points[0][0]), ([1.0], round(EPOCH * 1000)))

    def test_one_that_was_deleted_while_it_was_handed_out(self) -> None:
        late: list[Sample] = []
        self.sampler.request(late.append)
        self.history._uptimes = dict
        self.history.watched(late[0])
        self.assertEqual(self.history._records, {})
