"""One process in a fake world, for the tests of it."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.process import Process
from tests.fakes import FakeWorld, app


class ProcessTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = FakeWorld()
        self.children, self.told = self.world.children, self.world.told

    def process(self, **fields: Any) -> Process:
        return Process(self.world.means(), app(**fields), id=7, name="web", instance=0, created_at=0.0)

    def online(self, **fields: Any) -> Process:
        process = self.process(**fields)
        process.start()
        self.world.pass_time()
        self.assertEqual(process.status, "online")
        self.told.clear()
        return process

    def assert_story(self, *words: str) -> None:
        self.assertEqual(self.told.story(), list(words))
        self.told.clear()

    def assert_at_rest(self, process: Process, status: str) -> None:
        self.assertEqual((process.status, process.pid, process.uptime), (status, None, 0.0))
        self.assertEqual((self.children.alive, self.world.timers()), ([], []))
