"""When a process is probed and what counts [P8], with a clock that stands still until it is told to go."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.spec import HealthCheck
from pmdaemon.daemon.checker import ProbeResult
from pmdaemon.daemon.monitor import HealthMonitor

WELL = ProbeResult(True, {"exit_code": 0, "output": ""}, None)
ILL = ProbeResult(False, {"exit_code": 1, "output": ""}, "ill")


class MonitorTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.begun: list[float] = []
        self.probes: list[Deferred[ProbeResult]] = []
        self.told: list[tuple[str, str, ProbeResult, int]] = []
        self.results: list[ProbeResult] = []

    def monitor(self, **check: Any) -> HealthMonitor:
        spec = HealthCheck(check_type="script", script="x", **check)
        monitor = HealthMonitor(self.clock, spec, self.probe, lambda *told: self.told.append(told))
        monitor.start()
        return monitor

    def probe(self) -> "Deferred[ProbeResult]":
        """Answers at once while there are results, else later by `answer`."""
        self.begun.append(self.clock.seconds())
        probe: Deferred[ProbeResult] = Deferred()
        self.probes.append(probe)
        if self.results:
            probe.callback(self.results.pop(0))
        return probe

    def answer(self, result: ProbeResult) -> None:
        self.probes[-1].callback(result)

    def run_through(self, results: str, **check: Any) -> list[tuple[str, str, int]]:
        """Changes told by a sequence of successes (+) and failures (-)."""
        self.results = [WELL if each == "+" else ILL for each in results]
        monitor = self.monitor(**check)
        while self.results:
            self.clock.advance(0.5)
        monitor.stop()
        return [(previous, status, failures) for previous, status, _, failures in self.told]


class Schedule(MonitorTestCase):
    def test_at_once_then_each_second_until_healthy(self) -> None:
        self.results = [ILL, ILL, WELL, WELL, ILL, WELL]
        self.monitor(interval=30)
        for _ in range(100):
            self.clock.advance(1)
        assert self.begun == [0, 1, 2, 32, 62, 92]

    def test_short_interval_from_the_start(self) -> None:
        self.results = [ILL, ILL, WELL, WELL]
        self.monitor(interval="250ms")
        for _ in range(4):
            self.clock.advance(0.25)
        assert self.begun == [0, 0.25, 0.5, 0.75, 1]

    def test_from_start_to_start(self) -> None:
        self.monitor(interval=10)
        self.clock.advance(4)
        self.answer(WELL)
        self.clock.advance(5.5)
        assert self.begun == [0]
        self.clock.advance(0.5)
        assert self.begun == [0, 10]

    def test_never_two_at_once(self) -> None:
        self.monitor(interval=10)
        self.answer(WELL)
        self.clock.advance(10)
        self.clock.advance(25)
        assert self.begun == [0, 10]
        self.answer(WELL)
        self.clock.advance(0)
        assert self.begun == [0, 10, 35]

    def test_clock_set_back_during_a_probe(self) -> None:
        self.clock.advance(1000)
        self.monitor(interval=10)
        self.clock.rightNow = 100.0
        self.answer(WELL)
        (call,) = self.clock.getDelayedCalls()
        assert call.getTime() == 110


class Counting(MonitorTestCase):
    def test_failures_before_the_first_success_do_not_count(self) -> None:
        assert self.run_through("-----+", retries=2) == [("unknown", "healthy", 0)]

    def test_failures_afterwards_do(self) -> None:
        assert self.run_through("+-+--", retries=2, interval=1) == [
            ("unknown", "healthy", 0),
            ("healthy", "unhealthy", 2),
        ]

    def test_told_of_changes_only(self) -> None:
        assert self.run_through("++----++", retries=2, interval=1) == [
            ("unknown", "healthy", 0),
            ("healthy", "unhealthy", 2),
            ("unhealthy", "healthy", 0),
        ]

    def test_failures_within_start_period_do_not_count(self) -> None:
        assert self.run_through("+---", retries=1, interval=1, start_period=3.5) == [("unknown", "healthy", 0)]

    def test_failures_after_start_period_do(self) -> None:
        self.results = [WELL, ILL, ILL, ILL, ILL]
        monitor = self.monitor(retries=2, interval=1, start_period=3)
        for _ in range(3):
            self.clock.advance(1)
        assert monitor.status == "healthy"
        self.clock.advance(1)
        assert monitor.status == "unhealthy"
        assert self.told[-1] == ("healthy", "unhealthy", ILL, 2)

    def test_probe_that_began_within_start_period(self) -> None:
        self.results = [WELL]
        monitor = self.monitor(retries=1, interval=1, start_period=2)
        self.clock.advance(1)
        self.clock.advance(2)
        self.answer(ILL)
        assert monitor.status == "healthy"


class Stopping(MonitorTestCase):
    def test_between_probes(self) -> None:
        self.results = [WELL]
        self.monitor().stop()
        assert self.clock.getDelayedCalls() == []

    def test_during_a_probe(self) -> None:
        self.monitor().stop()
        assert self.probes[0].called
        assert (self.told, self.clock.getDelayedCalls()) == ([], [])

    def test_result_that_comes_all_the_same(self) -> None:
        stubborn: Deferred[ProbeResult] = Deferred(lambda probe: probe.callback(WELL))
        self.patch(self, "probe", lambda: stubborn)
        self.monitor().stop()
        assert stubborn.called
        assert (self.told, self.clock.getDelayedCalls()) == ([], [])

    def test_by_who_is_told(self) -> None:
        self.results = [WELL]
        check = HealthCheck(check_type="script", script="x")
        monitor = HealthMonitor(self.clock, check, self.probe, lambda *told: monitor.stop())
        monitor.start()
        assert self.clock.getDelayedCalls() == []

    def test_before_it_started_and_twice(self) -> None:
        check = HealthCheck(check_type="script", script="x")
        monitor = HealthMonitor(self.clock, check, self.probe, lambda *told: None)
        monitor.stop()
        monitor.stop()


class Defects(MonitorTestCase):
    def test_probe_that_fails_is_logged_and_is_a_failure(self) -> None:
        self.results = [WELL]
        monitor = self.monitor(retries=1, interval=1)
        self.clock.advance(1)
        self.probes[-1].errback(RuntimeError("a defect"))
        assert monitor.status == "unhealthy"
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        self.clock.advance(1)
        assert len(self.begun) == 3

    def test_who_is_told_and_fails_does_not_end_it(self) -> None:
        def fail(*told: object) -> None:
            raise RuntimeError("a defect")

        self.results = [WELL]
        HealthMonitor(self.clock, HealthCheck(check_type="script", script="x"), self.probe, fail).start()
        assert len(self.flushLoggedErrors(RuntimeError)) == 1
        self.clock.advance(30)
        assert self.begun == [0, 30]
