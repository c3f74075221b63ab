"""The daemon's memory in SQLite: what is declared, what is to run, and the id sequence's epoch.

Writes gather in one transaction that ``commit`` ends, once a reactor turn. Events have their own file, ``journal``.
"""

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from twisted.logger import Logger

from pmdaemon.core.spec import AppSpec

__all__ = ["SCHEMA_VERSION", "Store", "StoreError", "StoredApp", "StoredProcess"]

SCHEMA_VERSION = 1

_PATIENCE = 1.0
"""Seconds to wait for somebody who has the file locked."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS apps (
    name TEXT PRIMARY KEY,
    spec BLOB NOT NULL,
    source TEXT
);
CREATE TABLE IF NOT EXISTS processes (
    id INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    instance INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE,
    wanted INTEGER NOT NULL,
    restarts INTEGER NOT NULL,
    created_at REAL NOT NULL,
    incarnation INTEGER,
    ready INTEGER NOT NULL,
    health TEXT NOT NULL,
    port INTEGER,
    failures TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    process INTEGER NOT NULL,
    name TEXT NOT NULL,
    app TEXT NOT NULL,
    namespace TEXT NOT NULL,
    at REAL NOT NULL,
    body BLOB
);
CREATE TABLE IF NOT EXISTS log_marks (
    seq INTEGER PRIMARY KEY,
    pieces INTEGER NOT NULL,
    process INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    stream TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    line INTEGER NOT NULL,
    at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS crashes (seq INTEGER PRIMARY KEY, process INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS crashes_by_process ON crashes (process, seq);
CREATE INDEX IF NOT EXISTS log_marks_by_log ON log_marks (process, stream, end, start);
"""


class StoreError(Exception):
    """The state cannot be used; the text is one line for the user, and the file was left as it was."""


class StoredApp(Struct, frozen=True):
    """A declared app and the file it came from, if any."""

    spec: AppSpec
    source: str | None


class StoredProcess(Struct, frozen=True):
    """One process slot; ``wanted`` tells whether it is to run, ``created_at`` is in unix seconds.

    The rest is what a later daemon needs to go on with the child that lives: its ``incarnation``, None where none was
    started, whether it was ``ready``, its ``health`` and ``port``, and the ``failures`` of `RestartPolicy.saved`.
    """

    id: int
    app: str
    instance: int
    name: str
    wanted: bool
    restarts: int
    created_at: float
    incarnation: int | None = None
    ready: bool = False
    health: str = "unknown"
    port: int | None = None
    failures: tuple[float, ...] = ()


class Store:
    """The open database. Raises StoreError where it cannot be opened.

    ``written`` is called after each write, so that whoever ends the turn can ``commit``.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: Callable[[], None] = lambda: None
        self.reopen()
        try:
            self._prepare()
        except sqlite3.Error as why:
            self.db.close()
            raise StoreError(f"cannot open the state {path}: {why}") from why
        except StoreError:
            self.db.close()
            raise

    def reopen(self) -> None:
        """Open the file again after ``close``: SQLite may not be taken over a fork. Raises StoreError."""
        try:
            self.db = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE)
            self.path.chmod(stat.S_IRUSR | stat.S_IWUSR)
            # The home's lock is ours, so nobody else has a say here; who held up a write would hold up the daemon.
            self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.db.execute("PRAGMA synchronous = NORMAL")
        except (OSError, sqlite3.Error) as why:
            raise StoreError(f"cannot open the state {self.path}: {why}") from why

    def _prepare(self) -> None:
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"cannot open the state {self.path}: it was written by a newer pmdaemon "
                f"(schema {version}, this one knows {SCHEMA_VERSION}); install that version or give another --home"
            )
        # An epoch that was lost with the machine's power would be given out again: only this write waits for the disk.
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.executescript(_SCHEMA)
        self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.db.execute("INSERT INTO meta VALUES ('epoch', 1) ON CONFLICT DO UPDATE SET value = value + 1")
        self.db.execute("PRAGMA synchronous = NORMAL")
        row = self.db.execute("SELECT value FROM meta WHERE key = 'last_process_id'").fetchone()
        self._last_process_id = -1 if row is None else int(row[0])
        row = self.db.execute("SELECT value FROM meta WHERE key = 'last_incarnation'").fetchone()
        self._last_incarnation = 0 if row is None else int(row[0])

    @property
    def epoch(self) -> int:
        """How often this state was opened; part of every message id [E3]."""
        (epoch,) = self.db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        return int(epoch)

    def write(self, statement: str, *values: object) -> int:
        """Run *statement* inside the open transaction, opening one where there is none; return the rows it touched.

        A write that fails (a full disk) is logged and does not raise: the children go on, and what was kept before
        stays as it was.
        """
        try:
            if not self.db.in_transaction:
                self.db.execute("BEGIN IMMEDIATE")
            touched = self.db.execute(statement, values).rowcount
        except sqlite3.DatabaseError as why:
            self._cannot_write(why)
            return 0
        self.written()
        return touched

    def commit(self) -> None:
        """Make everything written so far last; a failure is logged and the transaction given up."""
        if not self.db.in_transaction:
            return
        try:
            self.db.execute("COMMIT")
        except sqlite3.DatabaseError as why:
            self._cannot_write(why)
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def _cannot_write(self, why: Exception) -> None:
        self._log.critical("cannot write the state {path}: {why}", path=str(self.path), why=str(why))

    def close(self) -> None:
        """Commit and close the file."""
        self.commit()
        self.db.close()

    def new_process_id(self) -> int:
        """Return the next process id; ids start at 0 and are never used again [P2]."""
        self._last_process_id += 1
        self.write("INSERT OR REPLACE INTO meta VALUES ('last_process_id', ?)", self._last_process_id)
        return self._last_process_id

    def new_incarnation(self) -> int:
        """Return a number for a new child; none is ever used again, so that it names one child for good."""
        self._last_incarnation += 1
        self.write("INSERT OR REPLACE INTO meta VALUES ('last_incarnation', ?)", self._last_incarnation)
        return self._last_incarnation

    def save_app(self, app: StoredApp) -> None:
        """Keep an app's declaration under its name."""
        body = msgspec.json.encode(app.spec)
        self.write("INSERT OR REPLACE INTO apps VALUES (?, ?, ?)", app.spec.name, body, app.source)

    def save_process(self, process: StoredProcess) -> None:
        """Keep one process slot under its id."""
        values = msgspec.structs.asdict(process) | {"failures": msgspec.json.encode(process.failures).decode()}
        places = ", ".join("?" * len(values))
        self.write(f"INSERT OR REPLACE INTO processes VALUES ({places})", *values.values())

    def forget_app(self, name: str) -> None:
        """Drop an app's declaration."""
        self.write("DELETE FROM apps WHERE name = ?", name)

    def forget_process(self, id_: int) -> None:
        """Drop a process slot and its crashes; its events stay until they age out."""
        self.write("DELETE FROM processes WHERE id = ?", id_)
        self.write("DELETE FROM crashes WHERE process = ?", id_)

    def apps(self) -> list[StoredApp]:
        """Return every app. Raises StoreError where one cannot be read."""
        rows = self.db.execute("SELECT name, spec, source FROM apps ORDER BY rowid").fetchall()
        return [StoredApp(self._spec(name, body), source) for name, body, source in rows]

    def _spec(self, name: str, body: bytes) -> AppSpec:
        try:
            return msgspec.json.decode(body, type=AppSpec)
        except msgspec.DecodeError as why:
            raise StoreError(f"cannot read the state {self.path}: app {name!r}: {why}") from why

    def processes(self) -> list[StoredProcess]:
        """Return every process slot by id."""
        rows = self.db.execute("SELECT * FROM processes ORDER BY id").fetchall()
        return [msgspec.convert(row, StoredProcess, strict=False) for row in map(_as_stored, rows)]


def _as_stored(row: tuple[object, ...]) -> dict[str, object]:
    stored = dict(zip(StoredProcess.__struct_fields__, row, strict=True))
    return {**stored, "failures": msgspec.json.decode(str(stored["failures"]))}
