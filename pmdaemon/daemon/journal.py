"""What was told, kept for clients that come back: events as they were sent, and which id is where in which log [S7].

Rows go into the store's open transaction; the bus commits before a frame leaves, so that every id a client can have
seen is known after a crash.
"""

from msgspec import Struct

from pmdaemon.core.selection import Identity
from pmdaemon.daemon.store import Store

__all__ = ["Gap", "Journal", "LogMark", "StoredEvent"]

MAX_EVENTS = 10_000
MAX_BYTES = 8 * 1024 * 1024
MAX_MARKS = 100_000
_MAX_TOMBSTONES = 100_000
_BATCH = 200


class StoredEvent(Struct, frozen=True):
    """An event as it was sent, at unix seconds ``at``; ``body`` is the whole message. It is its process's Identity."""

    seq: int
    type: str
    id: int
    name: str
    app: str
    namespace: str
    at: float
    body: bytes


class LogMark(Struct, frozen=True):
    """``pieces`` log lines with the ids from ``seq`` on came from bytes ``start`` to ``end`` of one log.

    ``at`` is when they were published, unix seconds; ``line`` is where the line of the first piece starts: enough to cut the range into the same pieces again.
    """

    seq: int
    pieces: int
    process: int
    stream: str
    start: int
    end: int
    line: int
    at: float


class Gap(Struct, frozen=True):
    """Events after the asked-for id that are gone: up to ``to``; ``dropped`` is None where nobody counted."""

    to: int
    dropped: int | None


class Journal:
    """The events and log marks of one store, each bounded in number, events in bytes too."""

    def __init__(self, store: Store, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._max_events = max_events
        self._max_bytes = max_bytes
        count, size = store.db.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM events WHERE body IS NOT NULL"
        ).fetchone()
        self._count: int = count
        self._bytes: int = size
        self._pruned = self._one("SELECT max(seq) FROM events WHERE body IS NULL") or 0
        self._marks: int = self._one("SELECT count(*) FROM log_marks") or 0
        self._marks_pruned: int = self._meta("marks_pruned")

    def _one(self, query: str, *values: object) -> int | None:
        (value,) = self._store.db.execute(query, values).fetchone()
        return value if isinstance(value, int) else None

    def _meta(self, key: str) -> int:
        row = self._store.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return 0 if row is None else int(row[0])

    def add(self, seq: int, at: float, type_: str, who: Identity, body: bytes) -> None:
        """Keep one event; the oldest go when there are too many or they are too large together."""
        self._store.write(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            seq,
            type_,
            who.id,
            who.name,
            who.app,
            who.namespace,
            at,
            body,
        )
        self._count += 1
        self._bytes += len(body)
        if self._count > self._max_events or self._bytes > self._max_bytes:
            self._prune()

    def _prune(self) -> None:
        """Turn the oldest events into tombstones: a tombstone keeps the id alone, so that a gap can be counted."""
        rows = self._store.db.execute(
            "SELECT seq, length(body) FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (self._pruned, _BATCH)
        ).fetchall()
        for seq, size in rows:
            if self._count <= self._max_events and self._bytes <= self._max_bytes:
                break
            self._store.write("UPDATE events SET body = NULL WHERE seq = ?", seq)
            self._pruned = seq
            self._count -= 1
            self._bytes -= size
        self._bury()

    def _bury(self) -> None:
        rows = self._store.db.execute(
            "SELECT seq FROM events WHERE body IS NULL ORDER BY seq DESC LIMIT 1 OFFSET ?", (_MAX_TOMBSTONES,)
        ).fetchone()
        if rows is not None:
            self._store.write("DELETE FROM events WHERE seq <= ?", rows[0])
            self._store.write("INSERT OR REPLACE INTO meta VALUES ('tombstones_forgotten', ?)", rows[0])

    def mark(self, mark: LogMark) -> None:
        """Keep where a batch of published lines came from."""
        self._store.write(
            "INSERT INTO log_marks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            mark.seq,
            mark.pieces,
            mark.process,
            mark.stream,
            mark.start,
            mark.end,
            mark.line,
            mark.at,
        )
        self._marks += 1
        if self._marks > MAX_MARKS + _BATCH:
            self._prune_marks()

    def _prune_marks(self) -> None:
        last = self._one("SELECT seq + pieces - 1 FROM log_marks ORDER BY seq LIMIT 1 OFFSET ?", _BATCH - 1)
        self._store.write("DELETE FROM log_marks WHERE seq <= ?", last)
        self._store.write("INSERT OR REPLACE INTO meta VALUES ('marks_pruned', ?)", last)
        self._marks_pruned = last or 0
        self._marks = self._one("SELECT count(*) FROM log_marks") or 0

    def forget_marks(self, process: int, stream: str) -> None:
        """Drop the marks of a log that was replaced by another file."""
        self._store.write("DELETE FROM log_marks WHERE process = ? AND stream = ?", process, stream)

    def gap(self, since: int, *, logs: bool) -> Gap | None:
        """Return what is no longer retained after id *since*, or None; *logs* looks at log marks too."""
        if logs and since < self._marks_pruned and self._marks_pruned > self._pruned:
            return Gap(self._marks_pruned, None)
        if since >= self._pruned:
            return None
        dropped = self._one("SELECT count(*) FROM events WHERE seq > ? AND seq <= ?", since, self._pruned)
        return Gap(self._pruned, dropped if since >= self._meta("tombstones_forgotten") else None)

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* retained events newer than *after*, in order."""
        rows = self._store.db.execute(
            "SELECT * FROM events WHERE seq > ? AND body IS NOT NULL ORDER BY seq LIMIT ?", (after, limit)
        )
        return [StoredEvent(*row) for row in rows]

    def marks(self, after: int, limit: int) -> list[LogMark]:
        """Return at most *limit* marks that hold ids newer than *after*, in order."""
        rows = self._store.db.execute(
            "SELECT * FROM log_marks WHERE seq >= coalesce((SELECT max(seq) FROM log_marks WHERE seq <= ?), 0) "
            "ORDER BY seq LIMIT ?",
            (after, limit + 1),
        )
        return [mark for mark in (LogMark(*row) for row in rows) if mark.seq + mark.pieces - 1 > after]

    def last_mark(self, process: int, stream: str) -> LogMark | None:
        """Return the newest mark of one log, or None where none of its lines was ever published."""
        row = self._store.db.execute(
            "SELECT * FROM log_marks WHERE process = ? AND stream = ? ORDER BY seq DESC LIMIT 1", (process, stream)
        ).fetchone()
        return None if row is None else LogMark(*row)

    def newest_event(self, upto: int) -> StoredEvent | None:
        """Return the newest retained event not after id *upto*: it tells about when that id was given out."""
        row = self._store.db.execute(
            "SELECT * FROM events WHERE seq <= ? AND body IS NOT NULL ORDER BY seq DESC LIMIT 1", (upto,)
        ).fetchone()
        return None if row is None else StoredEvent(*row)
