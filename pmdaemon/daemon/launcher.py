"""Starts a child for a process and sets up what surrounds it: its port, its logs, its pid file, what watches it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport

from pmdaemon.core.lines import Line, Stream
from pmdaemon.core.paths import numbered
from pmdaemon.core.ports import PortPool
from pmdaemon.core.spec import HealthCheck, LogLine
from pmdaemon.daemon.checker import Prober, ProbeResult
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.invocation import Invocation, cannot_start, invocation
from pmdaemon.daemon.kept import Birth
from pmdaemon.daemon.launch import SpawnError
from pmdaemon.daemon.log import STREAMS
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.means import Watch
from pmdaemon.daemon.monitor import HealthMonitor
from pmdaemon.daemon.pidfiles import PidFiles
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.readiness import LogLineReady, NotifyReady, PortReady
from pmdaemon.daemon.rebuild import note_of
from pmdaemon.errors import PMDaemonError
from pmdaemon.keeper.identity import NoSuchAccount, owner_of, owner_or_nobody

__all__ = ["COOKIE", "Launcher", "Spawn"]

COOKIE = "PMDAEMON_COOKIE"
"""Environment variable that marks every process of one child's tree; no other child of any daemon has its value."""

_LAST_LINES = 20
_LAST_BYTES = 8 * 1024

Spawn = Callable[..., IProcessTransport]
"""Starts a program; the signature is that of ``kept.Keeping.spawn``."""


class _Holding:
    """What a process holds while its child lives."""

    def __init__(self) -> None:
        self.port_owner: str | None = None
        self.environment: Mapping[str, str] = {}
        self.socket: NotifyReady | None = None
        self.line: _LogLineWatch | None = None
        self.pid_file: tuple[str, int] | None = None


class Launcher:
    """The ``spawn``, ``watch``, ``wrote``, ``gone`` and ``last_lines`` of a process's means.

    *inherited* is the environment that all children get, as is *umask*; *run* is a directory for sockets, *public_run*
    for those of other users' children; *incarnation* returns a number that no child ever had.
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
        public_run: Path,
        incarnation: Callable[[], int],
        umask: int,
    ) -> None:
        self._reactor = reactor
        self._spawn = spawn
        self._prober = prober
        self._ports = ports
        self._logs = logs
        self._inherited = inherited
        self._run = run
        self._public_run = public_run
        self._incarnation = incarnation
        self._umask = umask
        self._pid_files = PidFiles()
        self._holdings: dict[Process, _Holding] = {}
        self._begun: WeakKeyDictionary[Process, dict[Stream, int]] = WeakKeyDictionary()

    def spawn(self, process: Process, child: Child) -> None:
        """Start *child* for *process*. Raises PortInUse or ProcessStartFailed, with nothing left behind."""
        holding = self._holdings[process] = _Holding()
        try:
            self._take_port(process, holding)
            self._launch(process, child, holding)
        except BaseException:
            self._clean(process)
            raise

    def adopt(self, process: Process) -> None:
        """Hold for a process what its child, started by an earlier daemon, has."""
        holding = self._holdings[process] = _Holding()
        if process.port is not None:
            holding.port_owner = process.name
            self._ports.claim(process.name, process.port)
        try:
            holding.environment = self._invocation(process, holding).env
        except PMDaemonError:  # its directory or a file is gone; what it was started with is not known any more
            holding.environment = {**self._inherited, **process.spec.environment}
        self._logs.open(process)
        since = float("inf") if process.child is None else process.child.started_at
        self._begun[process] = {stream: self._logs.file(process, stream).offset_at(since) for stream in STREAMS}
        if not process.became_ready:
            self._await_line(process, holding)

    def _take_port(self, process: Process, holding: _Holding) -> None:
        request = process.spec.port_request
        if request is None:
            process.port = None
            return
        owner = f"{process.name} (new)" if any(self._owners_named(process.name)) else process.name
        process.port = self._ports.assign(owner, request, process.instance, process.port)
        holding.port_owner = owner

    def _owners_named(self, name: str) -> Iterator[_Holding]:
        """Yield who holds a port for a process of that name: during a reload there are two for a while."""
        return (held for process, held in self._holdings.items() if process.name == name and held.port_owner)

    def _launch(self, process: Process, child: Child, holding: _Holding) -> None:
        process.incarnation = self._incarnation()
        call, birth = self._invocation(process, holding), self._birth(process)
        holding.environment = call.env
        try:
            self._logs.open(process)
        except OSError as why:
            raise cannot_start(process.name, f"its log cannot be opened: {why.strerror}: {why.filename}") from why
        self._begun[process] = {stream: self._logs.file(process, stream).end() for stream in STREAMS}
        self._await_line(process, holding)
        try:
            self._spawn(
                child,
                call.argv,
                env=call.env,
                cwd=call.cwd,
                cookie=(COOKIE, f"{self._run.parent}:{process.incarnation}"),
                birth=birth,
                failed=partial(self._failed, process, child),
            )
        except SpawnError as why:
            self._logs.close(process)
            raise cannot_start(process.name, why.reason) from why

    def _await_line(self, process: Process, holding: _Holding) -> None:
        """Wait for the line that shows that a child is ready, from before it can write one."""
        when = process.spec.ready_when
        if isinstance(when, LogLine):
            holding.line = _LogLineWatch(self._logs, process, when.log_line)
            holding.line.start()

    def _invocation(self, process: Process, holding: _Holding) -> Invocation:
        given = self._given(process, holding)
        return invocation(process.spec, name=process.name, inherited=self._inherited, given=given)

    def _birth(self, process: Process) -> Birth:
        """Return what a keeper has to know beside what is executed."""
        out, err, both = self._logs.paths(process)
        limits = process.spec.log_limits
        try:
            owner = owner_of(process.spec.user, process.spec.group)
        except NoSuchAccount as why:
            raise cannot_start(process.name, why.reason) from why
        logs = {fd: {"path": path, "owner": owner, **limits} for fd, path in (("1", out), ("2", err))}
        return Birth(
            id=str(process.id),
            inc=process.incarnation or 0,
            logs=logs,
            copy=both,
            on_full=process.spec.on_full,
            rights={"umask": self._umask, **process.spec.rights},
            note=note_of(process),
        )

    def _failed(self, process: Process, child: Child, reason: str) -> None:
        """A keeper says that a child it was to start did not come to be."""
        self.gone(process)
        process.never_started(child, cannot_start(process.name, reason))

    def _given(self, process: Process, holding: _Holding) -> dict[str, str]:
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
            owner = owner_or_nobody(process.spec.user, process.spec.group)
            directory = self._run if owner is None else self._public_run
            path = str(directory / f"notify-{process.id}-{process.incarnation}.sock")
            holding.socket = NotifyReady(self._reactor, path, process.ready, owner)
            holding.socket.start()
            given["NOTIFY_SOCKET"] = path
        return given

    def _clean(self, process: Process) -> None:
        holding = self._holdings.pop(process)
        if holding.port_owner is not None:
            self._ports.release(holding.port_owner)
            for heir in self._owners_named(process.name):  # a reload's newcomer is the only one now
                self._ports.rename(str(heir.port_owner), process.name)
                heir.port_owner = process.name
        if holding.socket is not None:
            holding.socket.stop()
        if holding.line is not None:
            holding.line.stop()
        if holding.pid_file is not None:
            self._pid_files.remove(*holding.pid_file)

    def wrote(self, process: Process, stream: Any, data: bytes) -> None:
        """Put output into the log."""
        self._logs.write(process, stream, data)

    def gone(self, process: Process) -> None:
        """The child has ended: give back what it held."""
        self._logs.close(process)
        self._clean(process)

    def begun(self, process: Process) -> Mapping[Stream, int]:
        """Return where the output of the latest child begins in each log, as far as that is known."""
        return self._begun.get(process, {})

    def last_lines(self, process: Process) -> list[str]:
        """Return the last lines of the latest child's output, stderr's after stdout's [P10]."""
        begun = self.begun(process)
        files = {self._logs.file(process, stream).path: stream for stream in reversed(STREAMS)}
        lines: list[str] = []
        room = _LAST_BYTES
        for stream in files.values():
            file = self._logs.file(process, stream)
            end = file.end()
            start = max(begun.get(stream, end), file.tail_start(_LAST_LINES), end - room)
            data = file.read(min(start, end), end)
            room -= len(data)
            lines = data.decode("utf-8", "replace").splitlines() + lines
        return lines[-_LAST_LINES:]

    # Watching

    def watch(self, process: Process) -> Watch:
        """Watch a child whose program runs: whether it is ready, and whether it is well."""
        self._write_pid(process)
        watching = _Watching()
        when = process.spec.ready_when
        check = process.spec.check
        if check is not None:
            watching.add(self._monitor(process, check))
        if process.became_ready:
            return watching
        if when == "exec":
            process.ready()
        elif when == "port" and process.port is not None:
            watching.add(PortReady(self._reactor, process.port, process.ready))
        return watching

    def _write_pid(self, process: Process) -> None:
        holding, path, pid = self._holdings[process], _pid_path(process), process.pid
        if path is not None and pid is not None:
            holding.pid_file = path, pid
            self._pid_files.add(path, pid, self._logs.owner(process, path))

    def _monitor(self, process: Process, check: HealthCheck) -> HealthMonitor:
        environment = self._holdings[process].environment
        owner = owner_or_nobody(process.spec.user, process.spec.group)

        def probe() -> "Deferred[ProbeResult]":
            return self._prober.probe(check, cwd=process.spec.cwd, env=environment, owner=owner)

        def changed(previous: str, status: str, result: ProbeResult, failures: int) -> None:
            process.health_changed(previous, status, result.details, failures, result.error)
            if status == "healthy" and process.spec.ready_when == "health":
                process.ready()

        return HealthMonitor(self._reactor, check, probe, changed, process.health)


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


def _pid_path(process: Process) -> str | None:
    path = process.spec.pid_file
    return path if path is None or process.name == process.app else numbered(path, process.instance)
