"""What a reply says of a process and of the machine: the flat process object [P1] and ``system_info`` [R10]."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from pmdaemon.core.events import CpuUsage, LoadAverage, MemoryUsage, ProcessMetricsEntry

__all__ = ["DaemonInfo", "ProcessObject", "SystemInfo"]


class ProcessObject(ProcessMetricsEntry, frozen=True, kw_only=True):
    """One process; units in [P5], times in RFC 3339, ``config`` and ``logs`` in ``process_info`` alone."""

    exit_code: int | None
    exit_signal: str | None
    created_at: str
    started_at: str | None
    config: dict[str, Any] | UnsetType = UNSET
    logs: dict[str, str | None] | UnsetType = UNSET


class DaemonInfo(Struct, frozen=True, kw_only=True):
    """The daemon itself: ``uptime`` in ms, ``memory`` in bytes, ``loop_lag`` in ms.

    ``trouble`` is why its state cannot be written, None while it can.
    """

    version: str
    pid: int
    uptime: int
    memory: int
    clients: int
    loop_lag: float
    trouble: str | None


class SystemInfo(Struct, frozen=True, kw_only=True):
    """The machine: ``uptime`` in ms."""

    cpu: CpuUsage
    memory: MemoryUsage
    load: LoadAverage
    hostname: str
    platform: str
    uptime: int
    daemon: DaemonInfo
