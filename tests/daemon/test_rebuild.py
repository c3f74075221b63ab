"""The state is gone: what the keeper's journal says of the children that run is the state."""

import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.rebuild import note_of, rebuild
from pmdaemon.daemon.store import Store, StoredApp, StoredProcess
from pmdaemon.keeper.journal import Journal
from pmdaemon.keeper.kids import Kid
from pmdaemon.keeper.table import boot
from tests.fakes import app


class _Owner:
    def __init__(self, name: str, **config: Any) -> None:
        self.spec, self.name, self.instance, self.created_at, self.restarts = app(name, **config), name, 0, 5.0, 2


class RebuildTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp()))))
        self.store = Store(self.place / "state.db")
        self.addCleanup(self.store.close)
        self.journal = Journal(str(self.place / "keeper.jsonl"))
        self.addCleanup(self.journal.close)

    def kid(self, id_: str, inc: int, note: str | None, **more: Any) -> Kid:
        kid = Kid(
            (id_, inc), logs={}, copy=None, on_full="block", cookie=("a", "b"), brand=None, cgroup=None, note=note
        )
        kid.pid, kid.start, kid.boot = 1, 1, boot()
        for name, value in more.items():
            setattr(kid, name, value)
        self.journal.append(*kid.records())
        return kid

    def rebuild(self) -> None:
        rebuild(self.store, self.place / "keeper.jsonl")

    def test_those_that_run(self) -> None:
        note = note_of(_Owner("web", args=["a"]))
        self.kid("3", 7, note)
        self.rebuild()
        self.assertEqual(self.store.apps(), [StoredApp(app("web", args=["a"]), None)])
        self.assertEqual(self.store.processes(), [StoredProcess(3, "web", 0, "web", True, 2, 5.0, 7, True)])
        self.assertEqual((self.store.new_process_id(), self.store.new_incarnation()), (4, 8))

    def test_the_newest_of_each(self) -> None:
        """The one before it has been told to end, or is about to be."""
        for inc, args in ((7, "old"), (9, "new"), (8, "middle")):
            self.kid("3", inc, note_of(_Owner("web", args=[args])))
        self.rebuild()
        ((stored,), (process,)) = self.store.apps(), self.store.processes()
        self.assertEqual((stored.spec.args, process.incarnation), (["new"], 9))

    def test_those_that_are_none_of_ours(self) -> None:
        note, exit_ = note_of(_Owner("web")), {"pid": 1, "status": 0, "how": "child", "at": 1.0, "end": {}}
        self.kid("1", 1, None)
        self.kid("2", 2, "{}")
        self.kid("other", 3, note)
        self.kid("3", 4, note, boot="another")
        self.kid("4", 5, note, exit=exit_, gone=True, acked=True)
        self.rebuild()
        self.assertEqual((self.store.apps(), self.store.processes()), ([], []))
        self.assertEqual((self.store.new_process_id(), self.store.new_incarnation()), (5, 6))

    def test_what_was_read_of_the_old_one_stays(self) -> None:
        self.store.save_app(StoredApp(app("job"), "/apps.yaml"))
        self.store.save_process(StoredProcess(1, "job", 0, "job", False, 0, 1.0))
        self.kid("3", 7, note_of(_Owner("web")))
        self.rebuild()
        self.assertEqual([(each.id, each.wanted) for each in self.store.processes()], [(1, False), (3, True)])

    def test_no_journal(self) -> None:
        rebuild(self.store, self.place / "nowhere")
        self.assertEqual(self.store.apps(), [])

    def test_ids_of_messages_go_on_rising(self) -> None:
        self.kid("3", 7, note_of(_Owner("web")))
        os.utime(self.place / "keeper.jsonl", (1_800_000_000, 1_800_000_000))
        self.rebuild()
        self.assertEqual(self.store.epoch, 500_001)
