"""What was told, kept for clients that come back: events as they were sent, and which id is where in which log [S7].

Rows go into the store's open transaction; the bus commits before a frame leaves, so that every id a client can have
seen is known after a crash.
"""

from bisect import bisect_left
from collections.abc import Callable
from math import inf

from msgspec import Struct

from pmdaemon.core.selection import Identity
from pmdaemon.daemon.store import Store

__all__ = ["Gap", "Journal", "LogMark", "StoredEvent"]

MAX_EVENTS = 100_000
MAX_BYTES = 64 * 1024 * 1024
MAX_AGE = 30 * 86400.0
MAX_MARKS = 100_000
MAX_TOMBSTONES = 100_000

_SLACK = 200
"""How many marks or tombstones there may be above their bound before the oldest go, which costs more than one more."""


_AT_ONCE = 100
"""How many events go at most when one comes: after a long time away nobody waits until all have gone."""


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

    ``at`` is when they were published, unix seconds, and ``namespace`` what the process was in then. ``line`` is where
    the line of the first piece starts: enough to cut the range into the same pieces again.
    """

    seq: int
    pieces: int
    process: int
    namespace: str
    stream: str
    start: int
    end: int
    line: int
    at: float

    @property
    def last(self) -> int:
        """The number of the last piece."""
        return self.seq + self.pieces - 1


class Gap(Struct, frozen=True):
    """Messages after the asked-for id that are gone: up to ``to``; ``dropped`` is None where nobody counted."""

    to: int
    dropped: int | None


class _Lost(Struct, frozen=True):
    """Events of one kind about one process that are gone: how many, and the newest. It is its process's Identity."""

    type: str
    id: int
    name: str
    app: str
    namespace: str
    count: int
    newest: int


class Journal:
    """The events and log marks of one store, each bounded in number, events in bytes and age (seconds) too."""

    def __init__(
        self,
        store: Store,
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        max_age: float = MAX_AGE,
        max_marks: int = MAX_MARKS,
        max_tombstones: int = MAX_TOMBSTONES,
    ) -> None:
        self._store = store
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._max_marks = max_marks
        self._max_tombstones = max_tombstones
        self._count_all()

    def _count_all(self) -> None:
        count, size = self._store.db.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM events WHERE body IS NOT NULL"
        ).fetchone()
        self._count: int = count
        self._bytes: int = size
        self._pruned = self._one("SELECT max(seq) FROM events WHERE body IS NULL")
        self._oldest = self._time_after(self._pruned)
        self._tombstones = self._one("SELECT count(*) FROM events WHERE body IS NULL")
        self._forgotten = self._one("SELECT value FROM meta WHERE key = 'tombstones_forgotten'")
        self._marks = self._one("SELECT count(*) FROM log_marks")
        self._marks_pruned = self._one("SELECT value FROM meta WHERE key = 'marks_pruned'")
        self._lines_lost = self._one("SELECT value FROM meta WHERE key = 'lines_lost'")

    def _one(self, query: str, *values: object) -> int:
        """Return the only value of the only row, 0 where there is none."""
        row = self._store.db.execute(query, values).fetchone()
        return int(row[0]) if row is not None and row[0] is not None else 0

    # Events

    def add(self, seq: int, at: float, type_: str, who: Identity, body: bytes) -> None:
        """Keep one event; the oldest go when there are too many, or they are too large together or too old."""
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
        self._oldest = min(self._oldest, at)
        for _ in range(_AT_ONCE):
            if not self._is_too_much(at) or not self._prune():
                return

    def _is_too_much(self, at: float) -> bool:
        too_old = self._oldest < at - self._max_age
        return too_old or self._count > self._max_events or self._bytes > self._max_bytes

    def _prune(self) -> bool:
        """Turn the oldest event into a tombstone, which says that there was one, so that a gap can be counted."""
        oldest = self._store.db.execute(
            "SELECT seq, length(body) FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (self._pruned,)
        ).fetchone()
        if oldest is None:
            return False
        self._pruned, size = oldest
        self._oldest = self._time_after(self._pruned)
        self._store.write("UPDATE events SET body = NULL WHERE seq = ?", self._pruned)
        self._count -= 1
        self._bytes -= size
        self._tombstones += 1
        if self._tombstones > self._max_tombstones + _SLACK:
            self._bury()
        return True

    def _time_after(self, seq: int) -> float:
        """Return when the first event newer than *seq* happened, unix seconds; infinity where there is none."""
        row = self._store.db.execute("SELECT at FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (seq,)).fetchone()
        return inf if row is None else float(row[0])

    def _bury(self) -> None:
        self._forgotten = self._one("SELECT seq FROM events ORDER BY seq LIMIT 1 OFFSET ?", _SLACK - 1)
        self._tombstones -= self._store.write("DELETE FROM events WHERE seq <= ?", self._forgotten)
        self._keep("tombstones_forgotten", self._forgotten)

    def _keep(self, key: str, value: int) -> None:
        self._store.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    def events(self, after: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* retained events newer than *after*, in order."""
        rows = self._store.db.execute(
            "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (max(after, self._pruned), limit)
        )
        return [StoredEvent(*row) for row in rows]

    def before(self, seq: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* retained events older than *seq*, the newest first."""
        rows = self._store.db.execute(
            "SELECT * FROM events WHERE seq > ? AND seq < ? ORDER BY seq DESC LIMIT ?", (self._pruned, seq, limit)
        )
        return [StoredEvent(*row) for row in rows]

    def last_before(self, at: float, newest: int) -> int:
        """Return the number, at most *newest*, behind which the events from unix seconds *at* on come."""
        numbers = range(self._pruned, newest)
        return self._pruned + bisect_left(numbers, at, key=self._time_after)

    # Log marks

    def mark(self, mark: LogMark) -> None:
        """Keep where a batch of published lines came from."""
        self._store.write(
            "INSERT INTO log_marks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            mark.seq,
            mark.pieces,
            mark.process,
            mark.namespace,
            mark.stream,
            mark.start,
            mark.end,
            mark.line,
            mark.at,
        )
        self._marks += 1
        if self._marks > self._max_marks + _SLACK:
            self._prune_marks()

    def _prune_marks(self) -> None:
        self._marks_pruned = self._one(
            "SELECT seq + pieces - 1 FROM log_marks ORDER BY seq LIMIT 1 OFFSET ?", _SLACK - 1
        )
        self._marks -= self._store.write("DELETE FROM log_marks WHERE seq <= ?", self._marks_pruned)
        self._keep("marks_pruned", self._marks_pruned)

    def forget_marks(self, process: int, stream: str) -> None:
        """Drop the marks of a log that is nobody's any more."""
        self._marks -= self._store.write("DELETE FROM log_marks WHERE process = ? AND stream = ?", process, stream)

    def lose_marks(self, process: int, stream: str, upto: int) -> None:
        """Drop the marks of lines that are gone, those before offset *upto* of a log; who missed them will be told."""
        chosen = "FROM log_marks WHERE process = ? AND stream = ? AND end <= ?"
        newest = self._one(f"SELECT max(seq + pieces - 1) {chosen}", process, stream, upto)
        if newest:
            self._lines_lost = max(self._lines_lost, newest)
            self._keep("lines_lost", self._lines_lost)
            self._marks -= self._store.write(f"DELETE {chosen}", process, stream, upto)

    @property
    def marks_pruned(self) -> int:
        """Up to which id it is not known any more what was told of the logs."""
        return self._marks_pruned

    def marks(self, after: int, limit: int) -> list[LogMark]:
        """Return at most *limit* marks, and one more, that hold ids newer than *after*, in order."""
        rows = self._store.db.execute(
            "SELECT * FROM log_marks WHERE seq >= coalesce((SELECT max(seq) FROM log_marks WHERE seq <= ?), 0) "
            "ORDER BY seq LIMIT ?",
            (after, limit + 1),
        )
        return [mark for mark in (LogMark(*row) for row in rows) if mark.last > after]

    def told_by(self, process: int, stream: str, seq: int) -> int:
        """Return the start of the newest line of a log that was told by id *seq*, 0 where none is known."""
        query = "SELECT max(start) FROM log_marks WHERE process = ? AND stream = ? AND seq <= ?"
        return self._one(query, process, stream, seq)

    def told(self, process: int, stream: str, after: int) -> list[tuple[int, int]]:
        """Return the ranges of one log that were published and end after offset *after*, by where they start."""
        rows = self._store.db.execute(
            "SELECT start, end FROM log_marks WHERE process = ? AND stream = ? AND end > ? ORDER BY start, end",
            (process, stream, after),
        )
        return [(start, end) for start, end in rows]

    # Both

    def lose(self, upto: int) -> None:
        """Take it that of what has an id up to *upto* some may not have been written; who asks for it will be told."""
        self._keep("tombstones_forgotten", upto)
        self._keep("lines_lost", upto)
        self._count_all()

    def lost(self, since: int, wants: Callable[[str, Identity], bool], *, logs: bool) -> Gap | None:
        """Return what is no longer retained after id *since* of the events that *wants* (by type and process) names.

        With *logs* that includes log lines, which nobody counts. None where nothing is gone.
        """
        dropped, to = 0, since
        for lost in self._tombstones_after(since):
            if wants(lost.type, lost):
                dropped, to = dropped + lost.count, max(to, lost.newest)
        counted = since >= self._forgotten
        if not counted:
            to = max(to, self._forgotten)
        lines = max(self._marks_pruned, self._lines_lost)
        if logs and since < lines:
            counted, to = False, max(to, lines)
        return Gap(to, dropped if counted else None) if to > since else None

    def _tombstones_after(self, since: int) -> list[_Lost]:
        if since >= self._pruned:
            return []
        rows = self._store.db.execute(
            "SELECT type, process, name, app, namespace, count(*), max(seq) FROM events "
            "WHERE seq > ? AND seq <= ? GROUP BY type, process, name, app, namespace",
            (since, self._pruned),
        )
        return [_Lost(*row) for row in rows]

    def time_of(self, seq: int) -> float | None:
        """Return a time, unix seconds, at or before which *seq* was given out: that of the newest known before it."""
        row = self._store.db.execute(
            "SELECT max(at) FROM (SELECT * FROM (SELECT at FROM events WHERE seq <= ? ORDER BY seq DESC LIMIT 1) "
            "UNION ALL SELECT * FROM (SELECT at FROM log_marks WHERE seq <= ? ORDER BY seq DESC LIMIT 1))",
            (seq, seq),
        ).fetchone()
        return None if row is None else row[0]
