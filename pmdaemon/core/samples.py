"""Figures taken at one moment, and what lies between two of them. Units in [P5]."""

from collections.abc import Mapping

from msgspec import Struct

from pmdaemon.core.events import CpuUsage, LoadAverage, MemoryUsage, SystemMetrics

__all__ = ["ProcessSample", "Sample", "SystemSample", "cpu_percent", "system_metrics"]


class ProcessSample(Struct, frozen=True):
    """One process tree at one moment.

    ``cpu``: seconds of CPU since its start, ended descendants included; ``memory``: bytes of resident memory.
    """

    pid: int
    cpu: float
    memory: int


class SystemSample(Struct, frozen=True, kw_only=True):
    """The machine at one moment; ``busy`` and ``total`` are CPU seconds of all cores since boot, memory in bytes."""

    busy: float
    total: float
    cores: int
    memory_total: int
    memory_available: int
    load: tuple[float, float, float]


class Sample(Struct, frozen=True):
    """Everything of one tick: ``at`` in seconds of the reactor's clock, processes by their id."""

    at: float
    processes: Mapping[int, ProcessSample]
    system: SystemSample


def cpu_percent(now: ProcessSample | None, before: ProcessSample | None, elapsed: float, uptime: float) -> float:
    """Return percent of one core over *elapsed* seconds since *before*.

    Without a figure of the same child before it is the average over *uptime* seconds, its whole life.
    """
    if now is None or now is before:
        return 0.0
    if before is None or before.pid != now.pid or elapsed <= 0:
        before, elapsed = ProcessSample(now.pid, 0.0, 0), uptime
    if elapsed <= 0:
        return 0.0
    return round(max(0.0, now.cpu - before.cpu) / elapsed * 1000) / 10  # a third of the cost of round(..., 1)


def system_metrics(now: SystemSample, before: SystemSample | None) -> SystemMetrics:
    """Return the machine's figures; CPU since *before*, or since boot where there is none."""
    busy, total = now.busy - (before.busy if before else 0.0), now.total - (before.total if before else 0.0)
    usage = round(min(100.0, max(0.0, busy / total * 100)), 1) if total > 0 else 0.0
    used = now.memory_total - now.memory_available
    percent = round(used / now.memory_total * 100, 1) if now.memory_total else 0.0
    return SystemMetrics(
        CpuUsage(usage, now.cores),
        MemoryUsage(now.memory_total, used, now.memory_available, percent),
        LoadAverage(*(round(each, 2) for each in now.load)),
    )
