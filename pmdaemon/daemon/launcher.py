"""Starts a child for a process and sets up what surrounds it: its port, its logs, its pid file, what watches it."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport

from pmdaemon.core.lines import Line
from pmdaemon.core.ports import PortPool
from pmdaemon.core.spec import HealthCheck, LogLine
from pmdaemon.daemon.checker import Prober, ProbeResult
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.invocation import cannot_start, invocation
from pmdaemon.daemon.launch import SpawnError
from pmdaemon.daemon.logs import STREAMS, Logs
from pmdaemon.daemon.means import Watch
from pmdaemon.daemon.monitor import HealthMonitor
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.readiness import LogLineReady, NotifyReady, PortReady

__all__ = ["COOKIE", "Launcher", "Spawn"]

COOKIE = "PMDAEMON_COOKIE"
"""Environment variable that marks every process of one child's tree."""

_LAST_LINES = 20
_LAST_BYTES = 8 * 1024

Spawn = Callable[..., IProcessTransport]
"""Starts a program; the signature is that of ``spawn.spawn`` without the reactor."""


class Launcher:
    """The ``spawn``, ``watch``, ``wrote``, ``gone`` and ``last_lines`` of a process's means.

    *inherited* is the environment that all children get; *run* is a directory for sockets.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        spawn: Spawn,
        prober: Prober,
        ports: PortPool,
        logs: Logs,
        inherited: Mapping[str, str],
        run: Path,
    ) -> None:
        self._reactor = reactor
        self._spawn = spawn
        self._prober = prober
        self._ports = ports
        self._logs = logs
        self._inherited = inherited
        self._run = run
        self._cookies = count(1)
        self._holders: dict[Process, str] = {}
        self._environments: dict[Process, Mapping[str, str]] = {}
        self._sockets: dict[Process, NotifyReady] = {}

    def spawn(self, process: Process, child: Child) -> None:
        """Start *child* for *process*. Raises PortInUse or ProcessStartFailed, with nothing left behind."""
        try:
            self._take_port(process)
            self._launch(process, child)
        except BaseException:
            self._clean(process)
            raise
        if process.spec.pid_file is not None and child.pid is not None:
            _write_pid(process, child.pid)

    def _take_port(self, process: Process) -> None:
        request = process.spec.port_request
        if request is None:
            process.port = None
            return
        holder = self._holders[process] = self._holder(process)
        process.port = self._ports.assign(holder, request, process.instance, process.port)

    def _holder(self, process: Process) -> str:
        """Name the holder of a port; during a reload two processes have the same name for a while."""
        return f"{process.name} (new)" if process.name in self._holders.values() else process.name

    def _launch(self, process: Process, child: Child) -> None:
        call = invocation(process.spec, name=process.name, inherited=self._inherited, given=self._given(process))
        self._environments[process] = call.env
        try:
            self._logs.open(process)
        except OSError as why:
            raise cannot_start(process.name, f"its log cannot be opened: {why.strerror}: {why.filename}") from why
        cookie = (COOKIE, f"{os.getpid()}.{next(self._cookies)}")
        try:
            self._spawn(child, call.argv, env=call.env, cwd=call.cwd, cookie=cookie)
        except SpawnError as why:
            self._logs.close(process)
            raise cannot_start(process.name, why.reason) from why

    def _given(self, process: Process) -> dict[str, str]:
        """Return what the child is told by its environment."""
        given = {
            "PM2_INSTANCE_ID": str(process.instance),
            "NODE_APP_INSTANCE": str(process.instance),
            "PMDAEMON_PROCESS_NAME": process.name,
            "PMDAEMON_PROCESS_ID": str(process.id),
            "PMDAEMON_NAMESPACE": process.namespace,
        }
        if process.port is not None:
            given["PORT"] = str(process.port)
        if process.spec.ready_when == "notify":
            path = str(self._run / f"notify-{process.id}-{next(self._cookies)}.sock")
            socket = self._sockets[process] = NotifyReady(self._reactor, path, process.ready)
            socket.start()
            given["NOTIFY_SOCKET"] = path
        return given

    def _clean(self, process: Process) -> None:
        holder = self._holders.pop(process, None)
        if holder is not None:
            self._ports.release(holder)
        self._environments.pop(process, None)
        socket = self._sockets.pop(process, None)
        if socket is not None:
            socket.stop()

    def wrote(self, process: Process, stream: Any, data: bytes) -> None:
        """Put output into the log."""
        self._logs.write(process, stream, data)

    def gone(self, process: Process) -> None:
        """The child has ended: give back what it held."""
        self._logs.close(process)
        self._clean(process)
        if process.spec.pid_file is not None:
            with suppress(OSError):
                os.unlink(process.spec.pid_file)

    def last_lines(self, process: Process) -> list[str]:
        """Return the last lines of both logs as they are now, stderr's after stdout's [P10]."""
        lines: list[str] = []
        for stream in STREAMS:
            file = self._logs.file(process, stream)
            end = file.end()
            start = max(file.tail_start(_LAST_LINES), end - _LAST_BYTES)
            lines += file.read(start, end).decode("utf-8", "replace").splitlines()
        return lines[-_LAST_LINES:]

    # Watching

    def watch(self, process: Process) -> Watch:
        """Watch a child that has just been started: whether it is ready, and whether it is well."""
        watching = _Watching()
        when = process.spec.ready_when
        check = process.spec.check
        if check is not None:
            watching.add(self._monitor(process, check))
        if when == "exec":
            process.ready()
        elif when == "port" and process.port is not None:
            watching.add(PortReady(self._reactor, process.port, process.ready))
        elif isinstance(when, LogLine):
            watching.add(_LogLineWatch(self._logs, process, when.log_line))
        return watching

    def _monitor(self, process: Process, check: HealthCheck) -> HealthMonitor:
        environment = self._environments.get(process, {})

        def probe() -> "Deferred[ProbeResult]":
            return self._prober.probe(check, cwd=process.spec.cwd, env=environment)

        def changed(previous: str, status: str, result: ProbeResult, failures: int) -> None:
            process.health_changed(previous, status, result.details, failures, result.error)
            if status == "healthy" and process.spec.ready_when == "health":
                process.ready()

        return HealthMonitor(self._reactor, check, probe, changed)


class _Watching(Watch):
    def __init__(self) -> None:
        self._parts: list[Any] = []

    def add(self, part: Any) -> None:
        self._parts.append(part)
        part.start()

    def stop(self) -> None:
        for part in self._parts:
            part.stop()


class _LogLineWatch:
    """Ready when a line holds the text."""

    def __init__(self, logs: Logs, process: Process, text: str) -> None:
        self._logs = logs
        self._process = process
        self._ready = LogLineReady(text, self._found)

    def start(self) -> None:
        self._logs.watch(self._process, self._seen)

    def stop(self) -> None:
        self._logs.unwatch(self._process, self._seen)

    def _seen(self, lines: list[Line]) -> None:
        self._ready.seen(lines)

    def _found(self) -> None:
        self.stop()
        self._process.ready()


def _write_pid(process: Process, pid: int) -> None:
    path = Path(str(process.spec.pid_file))
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{pid}\n")
