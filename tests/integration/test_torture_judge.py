"""The judge of the torture can fail: each thing that may go wrong is put before it, written by hand."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from torture.judge import Verdict, judge
from torture.printer import Truth

DARK = [(100.0, 110.0)]
SEEN, UNSEEN = 90.0, 105.0


class JudgeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pmdaemon-judge-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.home, self.truths = self.place / "home", self.place / "truths"
        (self.home / "logs").mkdir(parents=True)
        self.truths.mkdir()
        self.told: list[tuple[str, int | None]] = []
        self.runs = 0

    def run_of(self, name: str, ended: float, *, printed: int, found: Sequence[int], code: int = 3) -> None:
        """A run that printed so many lines, of which these are in the log."""
        self.runs += 1
        run = f"{self.runs}-{100 + self.runs}"
        (self.truths / f"{name}.{run}").write_bytes(Truth(printed, 0, code, 1, 0.0, ended).pack())
        with (self.home / "logs" / f"{name}-out.log").open("a") as log:
            log.writelines(f"{run} {number} xx\n" for number in found)

    def verdict(self) -> Verdict:
        with sqlite3.connect(self.home / "state.db") as db:
            db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT, name TEXT, body TEXT)")
            for name, code in self.told:
                details = {"exit_code": code, "exit_signal": None}
                body = json.dumps({"data": {"event": "crashed", "details": details}})
                db.execute("INSERT INTO events (type, name, body) VALUES ('process_event', ?, ?)", (name, body))
        db.close()
        return judge(self.home, self.truths, DARK)

    def test_all_is_well(self) -> None:
        self.run_of("mortal0", SEEN, printed=3, found=[0, 1, 2])
        self.told = [("mortal0", 3)]
        verdict = self.verdict()
        self.assertTrue(verdict.clean)
        self.assertEqual((verdict.lines, verdict.ends, verdict.orphans), (3, 1, 0))

    def test_who_ended_unseen_may_lack_its_last_lines_and_be_unknown(self) -> None:
        self.run_of("mortal0", UNSEEN, printed=5, found=[0, 1, 2])
        self.told = [("mortal0", None)]
        verdict = self.verdict()
        self.assertTrue(verdict.clean)
        self.assertEqual((verdict.orphans, verdict.orphaned, verdict.unknown, verdict.lost), (1, 2, 1, 0))

    def test_who_ended_unseen_may_lack_no_others(self) -> None:
        self.run_of("mortal0", UNSEEN, printed=5, found=[0, 2])
        self.told = [("mortal0", None)]
        verdict = self.verdict()
        self.assertEqual((verdict.lost, verdict.orphaned, verdict.clean), (3, 0, False))

    def test_who_ended_unseen_did_not_end_well(self) -> None:
        """An end that is not known is never told as success, nor as anything else."""
        self.run_of("mortal0", UNSEEN, printed=1, found=[0])
        self.told = [("mortal0", 0)]
        verdict = self.verdict()
        self.assertEqual((verdict.wrong, verdict.clean), (1, False))

    def test_a_survivor_may_lack_nothing(self) -> None:
        self.run_of("long0", SEEN, printed=5, found=[0, 1, 2])
        self.told = [("long0", 3)]
        verdict = self.verdict()
        self.assertEqual((verdict.lost, verdict.clean), (2, False))

    def test_a_survivor_whose_end_is_unknown(self) -> None:
        self.run_of("mortal0", SEEN, printed=1, found=[0])
        self.told = [("mortal0", None)]
        verdict = self.verdict()
        self.assertEqual((verdict.unexplained, verdict.clean), (1, False))

    def test_doubled_unordered_and_torn(self) -> None:
        self.run_of("mortal0", UNSEEN, printed=4, found=[0, 1, 1, 3, 2])
        with (self.home / "logs" / "mortal0-out.log").open("a") as log:
            log.write("1-101 9\n")
        self.told = [("mortal0", 3)]
        verdict = self.verdict()
        self.assertEqual((verdict.doubled, verdict.unordered, verdict.torn, verdict.clean), (1, 1, 1, False))

    def test_an_end_told_twice_or_not_at_all(self) -> None:
        self.run_of("mortal0", SEEN, printed=1, found=[0])
        self.run_of("mortal1", SEEN, printed=1, found=[0])
        self.told = [("mortal0", 3), ("mortal0", 3)]
        verdict = self.verdict()
        self.assertEqual((verdict.wrong, verdict.clean), (2, False))

    def test_one_that_was_started_a_second_time(self) -> None:
        for _ in range(2):
            self.run_of("long0", SEEN, printed=1, found=[0])
        self.told = [("long0", 3), ("long0", 3)]
        verdict = self.verdict()
        self.assertEqual((verdict.restarted, verdict.clean), (1, False))
