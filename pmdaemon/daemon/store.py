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
    created_at REAL NOT NULL
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
    stream TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    line INTEGER NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS log_marks_by_log ON log_marks (process, stream, seq);
"""


class StoreError(Exception):
    """The state cannot be used; the text is one line for the user, and the file was left as it was."""


class StoredApp(Struct, frozen=True):
    """A declared app and the file it came from, if any."""

    spec: AppSpec
    source: str | None


class StoredProcess(Struct, frozen=True):
    """One process slot; ``wanted`` tells whether it is to run, ``created_at`` is in unix seconds."""

    id: int
    app: str
    instance: int
    name: str
    wanted: bool
    restarts: int
    created_at: float


class Store:
    """The open database. Raises StoreError where it cannot be opened.

    ``written`` is called after each write, so that whoever ends the turn can ``commit``.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: Callable[[], None] = lambda: None
        try:
            self.db = self._open(path)
        except sqlite3.Error as why:
            raise StoreError(f"cannot open the state {path}: {why}") from why

    def _open(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            db.close()
            raise StoreError(
                f"cannot open the state {path}: it was written by a newer pmdaemon "
                f"(schema {version}, this one knows {SCHEMA_VERSION}); install that version or give another --home"
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("INSERT INTO meta VALUES ('epoch', 1) ON CONFLICT DO UPDATE SET value = value + 1")
        return db

    @property
    def epoch(self) -> int:
        """How often this state was opened; part of every message id [E3]."""
        (epoch,) = self.db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        return int(epoch)

    def write(self, statement: str, *values: object) -> None:
        """Run *statement* inside the open transaction, opening one where there is none.

        A write that fails (a full disk) is logged and does not raise: the children go on, and what was kept before
        stays as it was.
        """
        try:
            if not self.db.in_transaction:
                self.db.execute("BEGIN IMMEDIATE")
            self.db.execute(statement, values)
        except sqlite3.OperationalError as why:
            self._log.critical("cannot write the state {path}: {why}", path=str(self.path), why=str(why))
        else:
            self.written()

    def commit(self) -> None:
        """Make everything written so far last; a failure is logged and the transaction given up."""
        if not self.db.in_transaction:
            return
        try:
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as why:
            self._log.critical("cannot write the state {path}: {why}", path=str(self.path), why=str(why))
            self.db.execute("ROLLBACK")

    def close(self) -> None:
        """Commit and close the file."""
        self.commit()
        self.db.close()

    def _bump(self, key: str, first: int = 1) -> int:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        value = first if row is None else row[0] + 1
        self.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)
        return value

    def new_process_id(self) -> int:
        """Return the next process id; ids start at 0 and are never used again [P2]."""
        return self._bump("last_process_id", first=0)

    def save_app(self, app: StoredApp) -> None:
        """Keep an app's declaration under its name."""
        body = msgspec.json.encode(app.spec)
        self.write("INSERT OR REPLACE INTO apps VALUES (?, ?, ?)", app.spec.name, body, app.source)

    def save_process(self, process: StoredProcess) -> None:
        """Keep one process slot under its id."""
        self.write("INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?, ?, ?)", *msgspec.structs.astuple(process))

    def forget_app(self, name: str) -> None:
        """Drop an app's declaration."""
        self.write("DELETE FROM apps WHERE name = ?", name)

    def forget_process(self, id_: int) -> None:
        """Drop a process slot; its events stay until they age out."""
        self.write("DELETE FROM processes WHERE id = ?", id_)
        self.write("DELETE FROM log_marks WHERE process = ?", id_)

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
    return dict(zip(StoredProcess.__struct_fields__, row, strict=True))
