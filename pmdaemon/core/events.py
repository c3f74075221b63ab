"""What the daemon tells unasked: one frozen Struct per message type, named as on the wire.

An event is an immutable fact. Its id and time belong to the envelope and are given by the bus when it is published.
"""

from typing import Any, ClassVar

from msgspec import Struct

__all__ = [
    "EVENTS",
    "JOURNALED",
    "METRICS",
    "CpuUsage",
    "Event",
    "HealthUpdate",
    "LoadAverage",
    "LogMessage",
    "MemoryUsage",
    "ProcessEvent",
    "ProcessMetrics",
    "ProcessMetricsEntry",
    "ProcessStatus",
    "SystemMetrics",
]


class ProcessStatus(Struct, frozen=True, kw_only=True):
    """A process's status changed; ``previous_status`` of the first is None [P7]."""

    type: ClassVar[str] = "process_status"

    id: int
    name: str
    app: str
    instance: int
    namespace: str
    status: str
    previous_status: str | None
    pid: int | None
    port: int | None


class ProcessEvent(Struct, frozen=True, kw_only=True):
    """Something happened in a process's life; ``details`` per event in [P10]."""

    type: ClassVar[str] = "process_event"

    event: str
    process: str
    id: int
    app: str
    instance: int
    namespace: str
    details: dict[str, Any]


class HealthUpdate(Struct, frozen=True, kw_only=True):
    """A process's health changed; ``details`` per kind of check in [P12]."""

    type: ClassVar[str] = "health_update"

    process: str
    id: int
    app: str
    instance: int
    namespace: str
    status: str
    previous_status: str
    check_type: str
    details: dict[str, Any]


class LogMessage(Struct, frozen=True, kw_only=True):
    """One line of a process's output, or a piece of one [P13]; ``offset`` is where the line starts, in bytes."""

    type: ClassVar[str] = "log_message"

    process: str
    id: int
    app: str
    instance: int
    namespace: str
    level: str
    message: str
    stream: str
    offset: int
    partial: bool = False
    truncated: bool = False


class ProcessMetricsEntry(Struct, frozen=True, kw_only=True):
    """One process in ``process_metrics``: numbers are never None [P4]; units in [P5]."""

    id: int
    name: str
    cpu: float
    memory: int
    uptime: int
    restarts: int
    status: str
    pid: int | None
    port: int | None
    app: str
    instance: int
    namespace: str
    health: str


class ProcessMetrics(Struct, frozen=True):
    """The figures of every process of one subscription's filter."""

    type: ClassVar[str] = "process_metrics"

    processes: list[ProcessMetricsEntry]


class CpuUsage(Struct, frozen=True):
    """``usage`` in percent of all ``cores``."""

    usage: float
    cores: int


class MemoryUsage(Struct, frozen=True):
    """Bytes; ``used`` is ``total - available``."""

    total: int
    used: int
    available: int
    usage_percent: float


class LoadAverage(Struct, frozen=True):
    """The machine's load averages over 1, 5 and 15 minutes."""

    one: float
    five: float
    fifteen: float


class SystemMetrics(Struct, frozen=True):
    """The machine's figures."""

    type: ClassVar[str] = "system_metrics"

    cpu: CpuUsage
    memory: MemoryUsage
    load: LoadAverage


Event = ProcessStatus | ProcessEvent | HealthUpdate | LogMessage | ProcessMetrics | SystemMetrics

EVENTS = frozenset(
    {
        ProcessStatus.type,
        ProcessMetrics.type,
        SystemMetrics.type,
        HealthUpdate.type,
        ProcessEvent.type,
        LogMessage.type,
    }
)
"""Every name that ``subscribe`` knows."""

JOURNALED = frozenset({ProcessStatus.type, ProcessEvent.type, HealthUpdate.type})
"""Kept in the events table and replayed from there [S7]; log lines are replayed from their files."""

METRICS = frozenset({ProcessMetrics.type, SystemMetrics.type})
"""Sent on an interval rather than on change [S8]."""
