"""The torture in a short form: what `make torture` does for minutes; see ``torture``."""

import os
import shutil
import tempfile
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from torture.scene import Outcome, Scene, play


class TortureTests(TestCase):
    timeout = 120

    async def play(self, scene: Scene) -> Outcome:
        place = Path(tempfile.mkdtemp(prefix="pmdaemon-torture-"))
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        outcome: Outcome = await deferToThread(play, scene, place)
        return outcome

    async def test_daemon_and_keeper_killed_in_turn(self) -> None:
        scene = Scene(
            "short",
            ("daemon", "keeper", "daemon"),
            long=4,
            mortal=4,
            pause=(0.3, 0.8),
            down=(0.1, 0.5),
            rotate=100_000,
        )
        outcome = await self.play(scene)
        verdict = outcome.verdict
        self.assertTrue(verdict.clean, outcome)
        self.assertEqual(verdict.unknown, 0 if os.uname().sysname == "Linux" else verdict.unknown, outcome)
        self.assertGreater(verdict.lines, 5000, outcome)
        self.assertGreater(verdict.segments, 5, outcome)
        self.assertGreater(verdict.ends, 8, outcome)

    async def test_that_the_judge_sees_what_is_lost_without_a_keeper(self) -> None:
        scene = Scene(
            "control",
            ("daemon",),
            long=2,
            mortal=2,
            pause=(0.3, 0.6),
            down=(0.3, 0.5),
            options=("--no-keeper",),
        )
        verdict = (await self.play(scene)).verdict
        self.assertGreater(verdict.killed, 0, verdict)
        self.assertFalse(verdict.clean, verdict)
