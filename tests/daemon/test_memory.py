"""Memory limits: who is looked at, how often, and what becomes of one that is over its limit [P10], [P14]."""

from typing import Any

from pmdaemon.core.samples import ProcessSample, Sample
from pmdaemon.daemon.memory import PERIOD, MemoryLimits
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.sampler import Taker
from tests.daemon.processcase import ProcessTestCase


class FakeSampler:
    """The tree of ``process`` uses ``memory`` bytes; ``looks`` tells how old a sample might have been, each time."""

    process: Process

    def __init__(self) -> None:
        self.memory = 0
        self.looks: list[float] = []
        self.broken = False

    def request(self, taker: Taker, *, fresh: float) -> None:
        self.looks.append(fresh)
        if self.broken:
            raise OSError("no /proc")
        each = self.process
        taker(Sample(0.0, {} if each.pid is None else {each.id: ProcessSample(each.pid, 0.0, self.memory)}, None))


class MemoryTests(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.sampler = FakeSampler()
        self.limits = MemoryLimits(self.world.clock, self.sampler)
        self.world.saved = self.limits.changed

    def limited(self, **fields: Any) -> Process:
        self.sampler.process = self.online(max_memory_restart="1M", **fields)
        return self.sampler.process

    def test_nobody_is_looked_at_without_a_limit(self) -> None:
        self.online()
        self.world.pass_time(10.0)
        self.assertEqual((self.sampler.looks, self.world.timers()), ([], []))

    def test_only_while_it_runs(self) -> None:
        process = self.limited()
        self.world.pass_time(2 * PERIOD)
        self.assertEqual(self.sampler.looks, [PERIOD / 2] * 2)
        process.stop()
        self.world.pass_time(10.0)
        self.assertEqual((len(self.sampler.looks), self.world.timers()), (2, []))

    def test_over_the_limit(self) -> None:
        """Told with both figures, restarted, and looked at again."""
        process = self.limited()
        self.sampler.memory = 1024 * 1024
        self.world.pass_time(PERIOD)
        self.assert_story()
        self.sampler.memory += 1
        self.world.pass_time(PERIOD)
        self.assertEqual(self.told.details("memory_limit_exceeded"), {"memory": 1024 * 1024 + 1, "limit": 1024 * 1024})
        restarted = self.told.details("restarted")
        self.assertEqual((restarted["reason"], restarted["cause"]), ("memory_limit", {"rule": "memory 2M > 1M"}))
        self.assert_story("+memory_limit_exceeded", "restarting", "starting", "online", "+restarted")
        self.world.pass_time(PERIOD)
        self.assertEqual((len(self.sampler.looks), process.restarts), (3, 2))

    def test_told_once(self) -> None:
        """One that takes its time to end is not told of again."""
        self.children.stubborn = True
        self.limited(kill_timeout="1h")
        self.sampler.memory = 2 * 1024 * 1024
        self.world.pass_time(5 * PERIOD)
        self.assert_story("+memory_limit_exceeded", "restarting")

    def test_before_it_is_ready(self) -> None:
        process = self.process(max_memory_restart="1M", readiness={"log_line": "ready"}, max_restarts=0)
        self.sampler.process = process
        process.start()
        self.sampler.memory = 2 * 1024 * 1024
        self.world.pass_time(PERIOD)
        self.assert_story("starting", "+memory_limit_exceeded", "restarting", "errored", "+gave_up")

    def test_a_look_that_fails(self) -> None:
        """It is logged, and the next one is taken all the same."""
        self.limited()
        self.sampler.broken = True
        self.world.pass_time(PERIOD)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.sampler.broken, self.sampler.memory = False, 2 * 1024 * 1024
        self.world.pass_time(PERIOD)
        self.assertIn("+memory_limit_exceeded", self.told.story())
