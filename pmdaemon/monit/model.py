"""What is known of the daemon and its processes, kept up to date by the messages of a subscription."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from pmdaemon.client import (
    Disconnected,
    EventRecord,
    HealthUpdate,
    Message,
    PMDaemonError,
    ProcessEvent,
    ProcessMetrics,
    ProcessMetricsEntry,
    ProcessStatus,
    Subscribed,
    SystemInfo,
    SystemMetrics,
)

__all__ = ["EVENTS_KEPT", "SORTS", "Model", "Row"]

SAMPLES: Final = 120
"""Figures kept of each process: two minutes of them."""
EVENTS_KEPT: Final = 500
RECENT: Final = 600.0
"""Seconds for which a restart counts as recent."""

SORTS: Final[dict[str, Callable[[ProcessMetricsEntry], Any]]] = {
    "id": lambda each: each.id,
    "name": lambda each: each.name.casefold(),
    "status": lambda each: each.status,
    "pid": lambda each: each.pid or 0,
    "port": lambda each: each.port or 0,
    "cpu": lambda each: -each.cpu,
    "memory": lambda each: -each.memory,
    "uptime": lambda each: -each.uptime,
    "restarts": lambda each: -each.restarts,
    "health": lambda each: each.health,
}
"""What a column sorts by; of figures the largest comes first."""


class Row:
    """One process: its latest figures, those before, oldest first, and when its restarts grew."""

    __slots__ = ("cpu", "entry", "grew", "memory")

    def __init__(self, entry: ProcessMetricsEntry) -> None:
        self.entry = entry
        self.cpu: deque[float | None] = deque(maxlen=SAMPLES)
        self.memory: deque[float | None] = deque(maxlen=SAMPLES)
        self.grew: float | None = None

    def measured(self, entry: ProcessMetricsEntry, now: float) -> None:
        """Take new figures, at *now* in seconds."""
        if entry.restarts > self.entry.restarts:
            self.grew = now
        self.entry = entry
        running = entry.pid is not None
        self.cpu.append(entry.cpu if running else None)
        self.memory.append(entry.memory if running else None)

    def restarted(self, now: float) -> bool:
        """Whether it was restarted not long ago."""
        return self.grew is not None and now - self.grew < RECENT


class Model:
    """All that the screen shows but the log. ``changed`` is True whenever it has to be shown anew.

    ``lost`` is when the connection broke, None while there is one; ``refused`` is why there will be none any more.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.rows: dict[int, Row] = {}
        self.events: deque[EventRecord] = deque(maxlen=EVENTS_KEPT)
        self.system: SystemMetrics | SystemInfo | None = None
        self.cpu: deque[float | None] = deque(maxlen=SAMPLES)
        self.info: SystemInfo | None = None
        self.live = False
        self.lost: datetime | None = None
        self.refused: PMDaemonError | None = None
        self.sort = "id"
        self.reverse = False
        self.wanted: Callable[[ProcessMetricsEntry], bool] = lambda entry: True
        self.changed = True

    def take(self, message: Message) -> None:
        """Learn from one message of the subscription."""
        data = message.data
        self.changed = True
        match data:
            case Subscribed():
                self._begin(data.snapshot)
            case Disconnected():
                self.live = False
                self.lost = datetime.now().astimezone()
                for row in self.rows.values():
                    row.cpu.append(None)
                    row.memory.append(None)
                self.cpu.append(None)
            case ProcessMetrics():
                self._measured(data.processes)
            case SystemMetrics():
                self.measured(data)
            case ProcessStatus():
                self._status(data)
            case HealthUpdate():
                self._record(message)
                if data.id in self.rows:
                    checked = self.rows[data.id]
                    checked.entry = msgspec.structs.replace(checked.entry, health=data.status)
            case ProcessEvent():
                self._record(message)
                if data.event == "deleted":
                    self.rows.pop(data.id, None)

    def measured(self, system: SystemMetrics | SystemInfo) -> None:
        """Take figures of the machine."""
        self.system = system
        self.cpu.append(system.cpu.usage)
        self.changed = True

    def told(self, earlier: Iterable[EventRecord]) -> None:
        """Take events from before the subscription, oldest first."""
        known = {each.id: each for each in (*earlier, *self.events) if each.type != ProcessStatus.type}
        self.events.clear()
        self.events.extend(known[id_] for id_ in sorted(known))
        self.changed = True

    def _begin(self, snapshot: Iterable[ProcessMetricsEntry]) -> None:
        self.live, self.lost = True, None
        there = {entry.id: entry for entry in snapshot}
        self.rows = {id_: row for id_, row in self.rows.items() if id_ in there}
        for id_, entry in there.items():
            if id_ in self.rows:
                row = self.rows[id_]
                if entry.restarts > row.entry.restarts:
                    row.grew = self._now()
                row.entry = entry
            else:
                self.rows[id_] = Row(entry)

    def _measured(self, entries: list[ProcessMetricsEntry]) -> None:
        now = self._now()
        for entry in entries:
            row = self.rows.get(entry.id)
            if row is None:
                row = self.rows[entry.id] = Row(entry)
            row.measured(entry, now)
        if len(entries) != len(self.rows):
            there = {entry.id for entry in entries}
            self.rows = {id_: row for id_, row in self.rows.items() if id_ in there}

    def _status(self, told: ProcessStatus) -> None:
        row = self.rows.get(told.id)
        if row is not None:
            row.entry = msgspec.structs.replace(row.entry, status=told.status, pid=told.pid, port=told.port)
            return
        figures = {"cpu": 0.0, "memory": 0, "uptime": 0, "restarts": 0, "health": "unknown"}
        self.rows[told.id] = Row(msgspec.convert(msgspec.to_builtins(told) | figures, ProcessMetricsEntry))

    def _record(self, message: Message) -> None:
        data: dict[str, Any] = msgspec.to_builtins(message.data)
        self.events.append(EventRecord(type=message.type, data=data, timestamp=message.timestamp, id=message.id))

    # What is shown

    def listed(self) -> list[Row]:
        """Return the rows that are wanted, in order."""
        key = SORTS[self.sort]
        wanted = [row for row in self.rows.values() if self.wanted(row.entry)]
        wanted.sort(key=lambda row: row.entry.id)
        wanted.sort(key=lambda row: key(row.entry), reverse=self.reverse)
        return wanted

    def counts(self) -> Counter[str]:
        """Return how many processes have each status."""
        return Counter(row.entry.status for row in self.rows.values())

    def recent(self, row: Row) -> bool:
        """Whether a process was restarted not long ago."""
        return row.restarted(self._now())
