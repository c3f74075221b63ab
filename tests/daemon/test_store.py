"""The state: what is kept, what is refused with a clear line, and that nothing of it stops the daemon."""

import os
import sqlite3
import stat
import tempfile
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon import store as module
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.store import SCHEMA_VERSION, Store, StoredApp, StoredProcess, StoreError
from tests.daemon.test_journal import WEB
from tests.fakes import app


class StoreCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp()))), "state.db")

    def open(self) -> Store:
        store = Store(self.path)
        self.addCleanup(lambda: store.db.close())
        return store

    def refused(self, *words: str) -> None:
        """It is not opened, one line says why, and the file is as it was."""
        before = self.path.read_bytes() if self.path.is_file() else b""
        message = str(self.assertRaises(StoreError, Store, self.path))
        for word in ("cannot ", str(self.path), *words):
            self.assertIn(word, message)
        self.assertNotIn("\n", message)
        self.assertEqual(self.path.read_bytes() if self.path.is_file() else b"", before)


class KeepingTests(StoreCase):
    def test_apps_and_processes(self) -> None:
        store = self.open()
        web, job = StoredApp(app("web", args=["a"]), "/apps.yaml"), StoredApp(app("job", instances=2), None)
        slots = [StoredProcess(number, "job", number, f"job-{number}", True, 3, 1.5) for number in (0, 1)]
        for each in (web, job):
            store.save_app(each)
        for slot in slots:
            store.save_process(slot)
        store.close()
        store = self.open()
        self.assertEqual((store.apps(), store.processes()), ([web, job], slots))
        store.forget_process(0)
        store.forget_app("web")
        self.assertEqual((store.apps(), store.processes()), ([job], slots[1:]))

    def test_ids_of_processes_are_never_used_again(self) -> None:
        """[P2]"""
        store = self.open()
        self.assertEqual([store.new_process_id() for _ in range(3)], [0, 1, 2])
        store.forget_process(2)
        store.close()
        self.assertEqual(self.open().new_process_id(), 3)

    def test_each_opening_is_an_epoch(self) -> None:
        """[E3]"""
        epochs = []
        for _ in range(3):
            store = Store(self.path)
            epochs.append(store.epoch)
            store.close()
            store.reopen()
            epochs.append(store.epoch)
            store.close()
        self.assertEqual(epochs, [1, 1, 2, 2, 3, 3])

    def test_nobody_else_may_read_it(self) -> None:
        self.open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_writes_last_once_they_are_committed(self) -> None:
        store = self.open()
        written: list[None] = []
        store.written = lambda: written.append(None)
        store.save_app(StoredApp(app("a"), None))
        store.commit()
        store.save_app(StoredApp(app("b"), None))
        self.assertEqual(len(written), 2)
        copy = self.path.with_name("copy.db")  # as a crash would leave it
        copy.write_bytes(self.path.read_bytes())
        Path(f"{copy}-wal").write_bytes(Path(f"{self.path}-wal").read_bytes())
        left = Store(copy)
        self.addCleanup(left.close)
        self.assertEqual([each.spec.name for each in left.apps()], ["a"])


class RefusalTests(StoreCase):
    def test_a_newer_schema(self) -> None:
        self.open().close()
        with sqlite3.connect(self.path) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        db.close()
        self.refused("a newer pmdaemon", f"schema {SCHEMA_VERSION + 1}")
        with sqlite3.connect(self.path) as db:
            self.assertEqual(db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone(), (1,))
        db.close()

    def test_one_that_somebody_has_locked(self) -> None:
        self.patch(module, "_PATIENCE", 0.01)
        store = self.open()
        self.refused("locked")
        store.commit()

    def test_a_directory(self) -> None:
        self.path.mkdir()
        self.refused("unable to open")

    def test_an_app_that_cannot_be_read(self) -> None:
        store = self.open()
        store.write("INSERT INTO apps VALUES ('web', ?, NULL)", b'{"name": "web"}')
        self.assertIn("app 'web'", str(self.assertRaises(StoreError, store.apps)))


class DamageTests(StoreCase):
    """A damaged file is set aside as it is, and what can be read of it is taken over."""

    def fill(self) -> None:
        store = self.open()
        store.settle()
        for number in range(40):
            store.save_app(StoredApp(app(f"app{number}", args=["x" * 100]), "/apps.yaml"))
            id_, incarnation = store.new_process_id(), store.new_incarnation()
            process = StoredProcess(id_, f"app{number}", 0, f"app{number}", True, 3, 1.5, incarnation, True)
            store.save_process(process)
        journal = Journal(store)
        for seq in range(1, 2000):
            journal.add(seq, float(seq), "process_event", WEB, b"x" * 200)
        store.close()

    def aside(self, damaged: bytes) -> Store:
        """Open a state of these bytes, which are set aside."""
        for left in ("-wal", "-shm"):
            Path(f"{self.path}{left}").unlink(missing_ok=True)
        self.path.write_bytes(damaged)
        os.utime(self.path, (1_800_000_000, 1_800_000_000))
        store = self.open()
        assert store.set_aside is not None
        self.assertEqual(store.set_aside.name, "state.db.damaged-20270115T080000Z")
        self.assertEqual(store.set_aside.read_bytes(), damaged)
        self.assertTrue(store.damage and store.fresh)
        return store

    def test_what_is_no_database(self) -> None:
        store = self.aside(b"these are notes, not a database\n" * 100)
        self.assertEqual((store.apps(), store.processes()), ([], []))
        self.assertEqual(store.epoch, 1_800_000_000 // 3600 + 1, "ids go on rising, whatever they were")

    def test_events_that_cannot_be_read(self) -> None:
        self.fill()
        raw = self.path.read_bytes()
        store = self.aside(raw[: len(raw) // 2] + b"\xff" * 8192 + raw[len(raw) // 2 + 8192 :])
        self.assertEqual([each.spec.name for each in store.apps()], [f"app{number}" for number in range(40)])
        self.assertEqual({each.source for each in store.apps()}, {"/apps.yaml"})
        self.assertEqual([each.id for each in store.processes()], list(range(40)))
        self.assertEqual((store.new_process_id(), store.new_incarnation()), (40, 41))

    def test_a_torn_file(self) -> None:
        """As it is where the machine's power has failed, or a copy of it was not finished."""
        self.fill()
        raw = self.path.read_bytes()
        for size in (100, 4096, 10_000, len(raw) // 3, len(raw) - 4096):
            store = self.aside(raw[:size])
            names = {each.spec.name for each in store.apps()}
            self.assertTrue({each.app for each in store.processes()} <= names)
            store.new_process_id()
            store.close()
            assert store.set_aside is not None
            store.set_aside.unlink()
            again = self.open()
            self.assertEqual((again.set_aside, {each.spec.name for each in again.apps()}), (None, names))
            again.close()

    def test_twice_in_the_same_second(self) -> None:
        self.aside(b"garbage" * 1000).close()
        self.path.write_bytes(b"garbage" * 1000)
        os.utime(self.path, (1_800_000_000, 1_800_000_000))
        again = self.open()
        assert again.set_aside is not None
        self.assertEqual(again.set_aside.name, "state.db.damaged-20270115T080000Z.2")

    def test_fresh_until_it_is_settled(self) -> None:
        """A daemon that dies before it has put in what the keeper knows leaves that to the next one."""
        self.open().close()
        store = self.open()
        self.assertTrue(store.fresh)
        store.settle()
        store.close()
        self.assertFalse(self.open().fresh)


class FailureTests(StoreCase):
    def full(self, store: Store) -> None:
        """There is no room for more than a few small rows."""
        (pages,) = store.db.execute("PRAGMA page_count").fetchone()
        store.db.execute(f"PRAGMA max_page_count = {pages}")

    def room(self, store: Store) -> None:
        store.db.execute("PRAGMA max_page_count = 100000")

    def test_a_full_disk(self) -> None:
        """Nothing of a transaction that fails lasts, nothing is half written, and then all is written anew."""
        store = self.open()
        failed: list[None] = []
        store.failed = lambda: failed.append(None)
        large = [StoredApp(app(name, args=[name * 50_000]), None) for name in ("a", "b")]
        store.save_app(large[0])
        store.commit()
        self.full(store)
        with capturedLogs() as logged:
            store.new_process_id()
            store.save_app(large[1])
            store.commit()
            self.assertEqual((len(failed), store.trouble), (1, "database or disk is full"))
            store.forget_app("a")
            self.assertEqual(store.new_process_id(), 1)
            store.commit()
            self.assertEqual(store.apps(), [large[0]], "what was there stays as it was")
            for _ in range(2):
                self.assertFalse(store.mend(lambda: [store.save_app(each) for each in large]))
        self.assertEqual(len(logged), 1, "it is said once")
        self.assertIn("cannot write the state", logged[0]["log_format"])
        self.assertEqual(store.apps(), [large[0]])
        self.room(store)
        self.assertTrue(store.mend(lambda: store.save_app(large[1])))
        store.close()
        store = self.open()
        self.assertEqual((store.apps(), store.new_process_id(), store.trouble), ([large[1]], 2, None))

    def test_a_commit_that_fails(self) -> None:
        store = self.open()
        store.db.execute("CREATE TABLE whole (id INTEGER PRIMARY KEY)")
        store.db.execute("CREATE TABLE part (id INTEGER REFERENCES whole DEFERRABLE INITIALLY DEFERRED)")
        store.db.execute("PRAGMA foreign_keys = ON")
        store.write("INSERT INTO part VALUES (5)")
        with capturedLogs() as logged:
            store.commit()
        self.assertEqual((len(logged), store.db.in_transaction), (1, False))
        self.assertTrue(store.mend(lambda: store.save_app(StoredApp(app("a"), None))))
        self.assertEqual([each.spec.name for each in store.apps()], ["a"])
