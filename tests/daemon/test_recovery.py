"""The disk of the state is full for a while: the daemon goes on, says so, and loses nothing of what is declared."""

from pmdaemon.core.selection import Identity
from pmdaemon.daemon.journal import Gap, Journal
from pmdaemon.daemon.recovery import Recovery
from tests.daemon.supervised import Supervised, SupervisedTestCase
from tests.daemon.test_journal import WEB


class _Bus:
    last = 70


def everything(type_: str, who: Identity) -> bool:
    return True


class RecoveryTests(SupervisedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = self.daemon.store
        self.journal = Journal(self.store)
        self.recovery = Recovery(
            self.daemon.clock,
            self.store,
            self.daemon.supervisor,
            self.journal,
            _Bus(),  # type: ignore[arg-type]  # all that is asked of it
        )

    def fill(self) -> None:
        """Have the disk full, and commands whose outcome it does not take."""
        self.succeeds(self.daemon.start("before"))
        self.journal.add(1, 1.0, "process_event", WEB, b"{}")
        self.store.commit()
        (pages,) = self.store.db.execute("PRAGMA page_count").fetchone()
        self.store.db.execute(f"PRAGMA max_page_count = {pages}")
        self.succeeds(self.daemon.start("large", args=["x" * 60_000]))
        self.succeeds(self.daemon.start("after"))
        self.succeeds(self.daemon.do("stop", "before"))
        self.journal.add(60, 6.0, "process_event", WEB, b"{}")
        self.store.commit()
        self.assertIsNotNone(self.store.trouble)

    def make_room(self) -> None:
        self.store.db.execute("PRAGMA max_page_count = 100000")

    def kept(self) -> dict[str, bool]:
        return {each.name: each.wanted for each in self.store.processes()}

    def test_all_is_written_when_there_is_room(self) -> None:
        self.fill()
        self.daemon.pass_time(60.0)
        self.assertEqual(self.kept(), {"before": True}, "what was there stays as it was")
        self.make_room()
        self.daemon.pass_time(3.0)
        self.assertIsNone(self.store.trouble)
        self.assertEqual(self.kept(), {"before": False, "large": True, "after": True})
        self.daemon.close()
        self.daemon = Supervised(self.state)
        self.daemon.supervisor.load()
        self.assertEqual(sorted(self.daemon.supervisor.apps), ["after", "before", "large"])

    def test_who_comes_back_is_told_that_events_are_missing(self) -> None:
        self.fill()
        self.make_room()
        self.daemon.pass_time(3.0)
        for journal in (self.journal, Journal(self.store)):
            self.assertEqual(journal.lost(1, everything, logs=False), Gap(70, None))
            self.assertEqual(journal.lost(1, everything, logs=True), Gap(70, None))
            self.assertIsNone(journal.lost(70, everything, logs=True))

    def test_a_daemon_that_stops_tries_a_last_time(self) -> None:
        self.fill()
        self.make_room()
        self.recovery.stop()
        self.assertEqual(len(self.kept()), 3)
        self.recovery.stop()
        self.daemon.pass_time(60.0)
