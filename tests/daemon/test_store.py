"""The state: what is kept, what is refused with a clear line, and that nothing of it stops the daemon."""

import os
import sqlite3
import stat
import tempfile
from pathlib import Path

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon import store as module
from pmdaemon.daemon.store import SCHEMA_VERSION, Store, StoredApp, StoredProcess, StoreError
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

    def test_what_is_no_database(self) -> None:
        self.path.write_bytes(b"these are notes, not a database\n" * 100)
        self.refused("not a database")

    def test_a_damaged_database(self) -> None:
        store = self.open()
        for number in range(100):
            store.save_app(StoredApp(app(f"app{number}", args=["x" * 1000]), None))
        store.close()
        raw = self.path.read_bytes()
        self.path.write_bytes(raw[:4096] + b"\xff" * 4096 + raw[8192 : len(raw) // 2])
        self.refused("malformed")

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


class FailureTests(StoreCase):
    def test_a_write_that_fails_is_logged_and_the_daemon_goes_on(self) -> None:
        store = self.open()
        store.save_app(StoredApp(app("a"), None))
        store.commit()
        store.db.execute("PRAGMA query_only = ON")
        with capturedLogs() as logged:
            self.assertEqual([store.new_process_id() for _ in range(2)], [0, 1])
            store.save_app(StoredApp(app("b"), None))
            store.commit()
        self.assertEqual(len(logged), 3)
        self.assertIn("cannot write the state", logged[0]["log_format"])
        store.db.execute("PRAGMA query_only = OFF")
        self.assertEqual((store.new_process_id(), [each.spec.name for each in store.apps()]), (2, ["a"]))

    def test_a_commit_that_fails(self) -> None:
        store = self.open()
        store.db.execute("CREATE TABLE whole (id INTEGER PRIMARY KEY)")
        store.db.execute("CREATE TABLE part (id INTEGER REFERENCES whole DEFERRABLE INITIALLY DEFERRED)")
        store.db.execute("PRAGMA foreign_keys = ON")
        store.write("INSERT INTO part VALUES (5)")
        with capturedLogs() as logged:
            store.commit()
        self.assertEqual((len(logged), store.db.in_transaction), (1, False))
        store.save_app(StoredApp(app("a"), None))
        store.commit()
        self.assertEqual([each.spec.name for each in store.apps()], ["a"])
