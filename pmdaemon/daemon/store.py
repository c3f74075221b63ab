"""The daemon's memory in SQLite: what is declared, what is to run, and the id sequence's epoch.

Writes gather in one transaction that ``commit`` ends, once a reactor turn. Events have their own file, ``journal``. A
file that is damaged is set aside whole; what is put into a new one beside what can be read of it is ``rebuild``'s.
"""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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


_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_COUNTERS = ("last_process_id", "last_incarnation")
_HOUR = 3600


class _Damaged(sqlite3.DatabaseError):
    """What is in the file is not what was written."""


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

    ``written`` is called after each write, so that whoever ends the turn can ``commit``. ``fresh`` tells that nobody
    knows what is declared, and ``settle`` that it is known from now on; ``set_aside`` is where a damaged file is now,
    and ``damage`` what was found in it. ``trouble`` is why it cannot be written at present: from the first write that
    fails, when ``failed`` is called, what is on disk stays as it was until ``mend``.
    """

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: Callable[[], None] = lambda: None
        self.failed: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        self._mending = False
        self.fresh = False
        self.damage: str | None = None
        self.set_aside: Path | None = None
        try:
            self._open()
        except _Damaged as why:
            self.damage, self.set_aside = str(why), _set_aside(path)
            self._open()
            self._salvage(self.set_aside)

    def _open(self) -> None:
        try:
            self._connect()
            self._prepare()
        except StoreError:
            self.db.close()
            raise
        except (OSError, sqlite3.Error) as why:
            with suppress(AttributeError):  # it may not even have been opened
                self.db.close()
            if isinstance(why, _Damaged) or getattr(why, "sqlite_errorcode", None) in _DAMAGE:
                raise _Damaged(str(why)) from why
            raise StoreError(f"cannot open the state {self.path}: {why}") from why

    def reopen(self) -> None:
        """Open the file again after ``close``: SQLite may not be taken over a fork. Raises StoreError."""
        try:
            self._connect()
        except (OSError, sqlite3.Error) as why:
            raise StoreError(f"cannot open the state {self.path}: {why}") from why

    def _connect(self) -> None:
        self.db = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE)
        self.path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        # The home's lock is ours, so nobody else has a say here; who held up a write would hold up the daemon.
        self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.db.execute("PRAGMA synchronous = NORMAL")

    def _prepare(self) -> None:
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"cannot open the state {self.path}: it was written by a newer pmdaemon "
                f"(schema {version}, this one knows {SCHEMA_VERSION}); install that version or give another --home"
            )
        (found,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _Damaged(" ".join(found.split()))
        # An epoch that was lost with the machine's power would be given out again: only this write waits for the disk.
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.executescript(_SCHEMA)
        self.db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.db.execute("INSERT INTO meta VALUES ('epoch', 1) ON CONFLICT DO UPDATE SET value = value + 1")
        self.db.execute("PRAGMA synchronous = NORMAL")
        counters = dict(self.db.execute("SELECT key, value FROM meta").fetchall())
        self.fresh = "settled" not in counters
        self._last_process_id, self._last_incarnation = (
            int(counters.get(name, first)) for name, first in zip(_COUNTERS, (-1, 0), strict=True)
        )

    def _salvage(self, damaged: Path) -> None:
        """Take over what can still be read of the file that was set aside, and give out no number again."""
        self.rise(damaged.stat().st_mtime)
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{damaged.as_uri()}?mode=ro", uri=True)) as old:
            known = dict(_readable(old, "SELECT key, value FROM meta"))
            self.reserve(*(int(known.get(name, -1)) for name in _COUNTERS))
            self.write("UPDATE meta SET value = max(value, ?) WHERE key = 'epoch'", int(known.get("epoch", 0)) + 1)
            apps = set()
            for name, body, source in _readable(old, "SELECT name, spec, source FROM apps ORDER BY rowid"):
                with suppress(StoreError, TypeError):
                    self.save_app(StoredApp(self._spec(name, body), source))
                    apps.add(name)
            for row in _readable(old, "SELECT * FROM processes ORDER BY id"):
                with suppress(ValueError, TypeError, msgspec.MsgspecError):
                    process = msgspec.convert(_as_stored(row), StoredProcess, strict=False)
                    if process.app in apps:
                        self.save_process(process)

    def settle(self) -> None:
        """Make last what a fresh state was given; from now on what is not in it is not declared."""
        self.write("INSERT OR REPLACE INTO meta VALUES ('settled', 1)")
        self.commit()

    @property
    def epoch(self) -> int:
        """How often this state was opened; part of every message id [E3]."""
        (epoch,) = self.db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        return int(epoch)

    def write(self, statement: str, *values: object) -> int:
        """Run *statement* inside the open transaction, opening one where there is none; return the rows it touched.

        A write that fails (a full disk) is logged and does not raise: the children go on, and what was kept before
        stays as it was until all is written anew.
        """
        if self.trouble is not None:
            return 0
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

    def _cannot_write(self, why: Exception) -> None:
        if self.db.in_transaction:
            with suppress(sqlite3.DatabaseError):
                self.db.execute("ROLLBACK")
        if not self._mending:
            self._log.critical(
                "cannot write the state {path}: {why}; the processes go on, and all is written when that can be again",
                path=str(self.path),
                why=str(why),
            )
        self.trouble = str(why)
        self.failed()

    def mend(self, rewrite: Callable[[], None]) -> bool:
        """Have *rewrite* write anew all apps and processes there are; return whether that has succeeded, and lasts."""
        self._mending, self.trouble = True, None
        self.write("DELETE FROM apps")
        self.write("DELETE FROM processes")
        self.reserve(-1, -1)
        rewrite()
        self.commit()
        self._mending = False
        return self.trouble is None

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

    def rise(self, at: float) -> None:
        """Have an epoch that is above those of all daemons before *at*, unix seconds, where nobody knows them.

        None was started more often than once an hour since 1970.
        """
        self.write("UPDATE meta SET value = max(value, ?) WHERE key = 'epoch'", int(at) // _HOUR + 1)

    def reserve(self, process_id: int, incarnation: int) -> None:
        """Give out neither these numbers again nor any that is lower."""
        self._last_process_id = max(self._last_process_id, process_id)
        self._last_incarnation = max(self._last_incarnation, incarnation)
        for name, value in zip(_COUNTERS, (self._last_process_id, self._last_incarnation), strict=True):
            self.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)

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


def _set_aside(path: Path) -> Path:
    """Rename a file, with what belongs to it, so that it tells when it was last written."""
    stamp = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}.{number}")
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _readable(db: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows as far as they can be read."""
    with suppress(sqlite3.Error):
        yield from db.execute(query)
