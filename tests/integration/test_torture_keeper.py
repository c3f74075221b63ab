"""The torture in a short form: what `make torture` does for minutes; see ``torture``."""

import shutil
import tempfile
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pmdaemon.keeper.features import summary
from torture.judge import judge
from torture.scene import Outcome, Scene, play


class TortureTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pmdaemon-torture-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)

    async def play(self, scene: Scene) -> Outcome:
        outcome: Outcome = await deferToThread(play, scene, self.place)
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
        if "pidfd_exit" not in summary(cgroup=False):
            verdict = verdict._replace(unexplained=0)
        self.assertTrue(verdict.clean, outcome)
        self.assertGreater(verdict.lines, 5000, outcome)
        self.assertGreater(verdict.segments, 5, outcome)
        self.assertGreater(verdict.ends, 8, outcome)

    async def test_both_killed_at_once(self) -> None:
        scene = Scene("both", ("both", "both"), long=3, mortal=8, pause=(0.3, 0.8), down=(0.8, 1.2))
        outcome = await self.play(scene)
        verdict = outcome.verdict
        self.assertTrue(verdict.clean, outcome)
        self.assertGreater(verdict.lines, 5000, outcome)
        self.assertGreater(verdict.unknown, 0, outcome)
        self.assertLessEqual(verdict.unknown, verdict.orphans, outcome)
        self.assertEqual(verdict.restarted, 0, outcome)
        strict = judge(self.place / "home", self.place / "truths")
        self.assertFalse(strict.clean, "who may have died unseen is told apart by when both were dead, by nothing else")
        self.assertEqual((strict.unexplained, strict.lost), (verdict.unknown, verdict.orphaned))

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
