"""Words processes, the machine and the daemon for replies and metrics; what it says, it reads at that moment."""

import os
import platform
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET

import pmdaemon
from pmdaemon.core.events import ProcessMetrics, ProcessMetricsEntry
from pmdaemon.core.info import DaemonInfo, ProcessObject, SystemInfo
from pmdaemon.core.samples import ProcessSample, Sample, cpu_percent, system_metrics
from pmdaemon.core.selection import Selection
from pmdaemon.core.times import rfc3339
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.sampler import Sampler, boot_time, own_memory
from pmdaemon.daemon.supervisor import Supervisor

__all__ = ["PAGE", "Describer", "bounded", "page"]

PAGE = 384 * 1024
"""Bytes of one page of a list; no message passes 512 KiB [E6]."""

_LARGEST = 128 * 1024

_moment = lru_cache(4096)(rfc3339)
"""Said again of the same processes for each who asks."""


class Describer:
    """*now* gives unix seconds; *clients* the number of connections; *trouble* why the state cannot be written."""

    def __init__(
        self,
        supervisor: Supervisor,
        logs: Logs,
        sampler: Sampler,
        *,
        now: Callable[[], float],
        clients: Callable[[], int],
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._supervisor = supervisor
        self._logs = logs
        self._sampler = sampler
        self._now = now
        self._clients = clients
        self._trouble = trouble
        self._since = now()

    def metrics(self, selection: Selection, sample: Sample, before: Sample | None) -> ProcessMetrics:
        """Return the figures of every selected process, stopped ones too; CPU since *before* [P4], [P5]."""
        chosen = [process for process in self._supervisor.select(None) if process in selection]
        now, earlier = sample.processes, {} if before is None else before.processes
        at, elapsed = self._now(), 0.0 if before is None else sample.at - before.at
        return ProcessMetrics([_figures(each, at, now.get(each.id), earlier.get(each.id), elapsed) for each in chosen])

    def processes(self, processes: Iterable[Process], *, whole: bool = False) -> list[ProcessObject]:
        """Return the process objects [P1]; with *whole* also their configuration and log files."""
        sample = self._sampler.sample()
        return [self._object(process, sample, whole) for process in processes]

    def _object(self, process: Process, sample: Sample, whole: bool) -> ProcessObject:
        started = process.started_at
        return ProcessObject(
            **msgspec.structs.asdict(_figures(process, self._now(), sample.processes.get(process.id), None, 0.0)),
            exit_code=process.exit_code,
            exit_signal=process.exit_signal,
            created_at=_moment(process.created_at),
            started_at=_moment(started) if started is not None else None,
            config=bounded(process.spec.public()) if whole else UNSET,
            logs=self._paths(process) if whole else UNSET,
        )

    def _paths(self, process: Process) -> dict[str, str | None]:
        out, error, both = self._logs.paths(process)
        return {"stdout": out, "stderr": error, "both": both}

    def system(self, loop_lag: float) -> SystemInfo:
        """Return the machine's and the daemon's figures [R10]; *loop_lag* is in seconds."""
        metrics = system_metrics(self._sampler.sample().system, None)
        return SystemInfo(
            cpu=metrics.cpu,
            memory=metrics.memory,
            load=metrics.load,
            hostname=socket.gethostname(),
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            uptime=round((self._now() - boot_time()) * 1000),
            daemon=DaemonInfo(
                version=pmdaemon.__version__,
                pid=os.getpid(),
                uptime=round((self._now() - self._since) * 1000),
                memory=own_memory(),
                clients=self._clients(),
                loop_lag=round(loop_lag * 1000, 1),
                trouble=self._trouble(),
            ),
        )


def _figures(
    process: Process, at: float, now: ProcessSample | None, earlier: ProcessSample | None, elapsed: float
) -> ProcessMetricsEntry:
    """Say it for *at*, unix seconds. A thousand of these are made at once; so nothing is asked twice."""
    child, spec = process.living, process.spec
    pid, uptime = None, 0.0
    if child is not None:
        pid, uptime = child.pid, max(0.0, at - child.started_at)
    if now is not None and now.pid != pid:
        now = None  # another child's, which has ended since
    return ProcessMetricsEntry(
        id=process.id,
        name=process.name,
        cpu=cpu_percent(now, earlier, elapsed, uptime),
        memory=now.memory if now is not None else 0,
        uptime=round(uptime * 1000),
        restarts=process.restarts,
        status=process.status,
        pid=pid,
        port=process.port,
        app=spec.name,
        instance=process.instance,
        namespace=spec.namespace,
        health=process.health,
    )


def bounded(config: dict[str, Any]) -> dict[str, Any]:
    """Leave the longest values out of a configuration that would not fit a message [E6]."""
    if _size(config) <= _LARGEST:
        return config
    sizes = {key: _size(value) for key, value in config.items()}
    return {key: value for key, value in config.items() if sizes[key] <= _LARGEST // 16} | {"truncated": True}


def _size(value: object) -> int:
    """Return how many bytes *value* takes as JSON, a little more where a path in it is not text."""
    try:
        return len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return len(repr(value))


def page(objects: list[ProcessObject], *, beside: int = 0) -> tuple[list[ProcessObject], int | None]:
    """Return as many of *objects*, which are in the order of their ids, as fit one message with *beside* more bytes.

    The second value is the cursor: the id of the first one that is left out, or None where none is.
    """
    size = beside
    for count, each in enumerate(objects):
        size += _size(each) + 1
        if size > PAGE and count:
            return objects[:count], each.id
    return objects, None
