"""Which operations a command means: on whom, with what configuration, in which order."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pmdaemon.core.commands import Command, Delete, Reload, Reset, Restart, Scale, Signal, Start, Stop
from pmdaemon.core.ecosystem import parse
from pmdaemon.core.fields import FieldError, checked, located
from pmdaemon.core.spec import AppSpec, parse_app
from pmdaemon.core.values import signal_number
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import App, Supervisor
from pmdaemon.errors import InvalidConfiguration, InvalidMessage, ProcessAlreadyExists

__all__ = ["Actions", "Job", "read_ecosystem"]


class Job(Struct, frozen=True):
    """One process's part of a command; ``done`` fires with None or fails with a PMDaemonError."""

    process: Process
    done: "Deferred[None]"


def read_ecosystem(path: str) -> list[AppSpec]:
    """Read an ecosystem file. Raises InvalidConfiguration, also where it cannot be read."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is not UTF-8"
        raise InvalidConfiguration(f"cannot read {path}: {reason}", details={"path": path}) from why
    return parse(text, Path(path).name, str(Path(path).resolve().parent))


class Actions:
    """Turns commands into jobs; *base* is the directory that relative paths in a message refer to [R5]."""

    def __init__(self, supervisor: Supervisor, operations: Operations, *, base: str) -> None:
        self._supervisor = supervisor
        self._operations = operations
        self._base = base
        self._begin: dict[type[Command], Callable[[Any], list[Job]]] = {
            Start: self._start,
            Stop: lambda command: self._each(command, operations.stop),
            Restart: lambda command: self._each(command, operations.restart),
            Reload: self._reload,
            Delete: lambda command: self._each(
                command, lambda process: operations.delete(process, purge=bool(command.purge))
            ),
            Scale: self._scale,
            Signal: self._signal,
            Reset: lambda command: self._each(command, operations.reset),
        }

    def begin(self, command: Command) -> list[Job]:
        """Start carrying *command* out. Raises PMDaemonError where it means nothing."""
        return self._begin[type(command)](command)

    def _each(self, command: Command, operation: Callable[[Process], "Deferred[None]"]) -> list[Job]:
        return [Job(process, operation(process)) for process in self._supervisor.select(command.process)]

    def _start(self, command: Start) -> list[Job]:
        if command.config is None:
            return self._each(command, self._operations.start)
        spec = self._read(command.config, command.process)
        app = self._supervisor.apps.get(spec.name)
        if app is None:
            return self._start_new(spec, None)
        if not command.replace:
            raise ProcessAlreadyExists(
                f"cannot start '{spec.name}': the name is in use",
                hint="leave config out to start it as it is, or send replace: true to give it this configuration",
            )
        self._supervisor.check(spec, app)
        return self._replace(app, spec, None)

    def _read(self, config: dict[str, Any], name: str | int) -> AppSpec:
        if not isinstance(name, str):
            raise InvalidMessage(
                "cannot start a new app: process is an id, not a name",
                hint="process names the new app",
                details={"path": "data.process"},
            )
        return parse_app(config, where="config", base=self._base, name=name)

    def _start_new(self, spec: AppSpec, source: str | None) -> list[Job]:
        app = self._supervisor.declare(spec, source)
        return self._start_all(app.processes.values())

    def _start_all(self, processes: Iterable[Process]) -> list[Job]:
        jobs = []
        for process in list(processes):
            process.tell("created", {})
            jobs.append(Job(process, self._operations.start(process)))
        return jobs

    def _replace(self, app: App, spec: AppSpec, source: str | None) -> list[Job]:
        """Put *spec* in the place of *app*'s: in the same processes where their names stay, in new ones otherwise."""
        names = self._supervisor.names(spec)
        kept = [process for process in app.processes.values() if process.name in names]
        surplus = [process for process in app.processes.values() if process.name not in names]
        if not kept:
            first = surplus[0]
            gone = self._remove(surplus)
            return [Job(first, Deferred.fromCoroutine(self._anew(gone, spec, source)))]
        self._supervisor.redeclare(app, spec, source)
        jobs = [Job(process, self._operations.restart(process, spec)) for process in kept]
        jobs += self._start_all(self._supervisor.resize(app))
        for job in self._remove(surplus):
            job.done.addErrback(lambda _: None)
        return jobs

    def _remove(self, processes: list[Process]) -> list[Job]:
        return [Job(process, self._operations.delete(process, purge=False)) for process in processes]

    async def _anew(self, gone: list[Job], spec: AppSpec, source: str | None) -> None:
        for job in gone:
            await job.done
        for job in self._start_new(spec, source):
            await job.done

    # Reload

    def _reload(self, command: Reload) -> list[Job]:
        selected = self._supervisor.select(command.process)
        apps = list(dict.fromkeys(process.app for process in selected))
        if command.config is not None and len(apps) != 1:
            raise InvalidMessage(
                f"cannot reload {len(apps)} apps with one config",
                hint="name one app",
                details={"path": "data.process"},
            )
        jobs: list[Job] = []
        for name in apps:
            app = self._supervisor.apps[name]
            spec = self._renewed(app, command.config)
            self._supervisor.check(spec, app)
            jobs += self._reload_app(app, spec, [process for process in selected if process.app == name])
        return jobs

    def _renewed(self, app: App, config: dict[str, Any] | None) -> AppSpec:
        """Return the configuration to reload: the one given, else the file's, else the one that is kept [R6]."""
        if config is not None:
            return parse_app(config, where="config", base=self._base, name=app.spec.name)
        if app.source is None:
            return app.spec
        for spec in read_ecosystem(app.source):
            if spec.name == app.spec.name:
                return spec
        raise InvalidConfiguration(
            f"cannot reload '{app.spec.name}': {app.source} no longer has an app of that name",
            hint="put it back, send a config, or delete the app",
            details={"path": app.source},
        )

    def _reload_app(self, app: App, spec: AppSpec, selected: list[Process]) -> list[Job]:
        if self._supervisor.names(spec) != [process.name for process in app.processes.values()]:
            return self._replace(app, spec, app.source)
        if spec != app.spec and len(selected) < len(app.processes):
            raise InvalidMessage(
                f"cannot reload a part of '{app.spec.name}': its configuration has changed",
                hint=f"reload '{app.spec.name}' as a whole",
                details={"path": "data.process"},
            )
        jobs = [Job(process, Deferred()) for process in selected]

        def finish(outcome: Failure | None) -> None:
            for job in jobs:
                job.done.callback(outcome)  # a Failure fails it

        Deferred.fromCoroutine(self._roll(app, spec, selected)).addBoth(finish)
        return jobs

    async def _roll(self, app: App, spec: AppSpec, processes: list[Process]) -> None:
        """Reload one after another, and stop at the first that fails: a bad configuration takes one down at most."""
        for process in processes:
            await self._operations.reload(process, spec)
        if spec != app.spec:
            self._supervisor.redeclare(app, spec, app.source)

    # Further actions [R8]

    def _scale(self, command: Scale) -> list[Job]:
        app = self._supervisor.apps.get(str(command.process))
        if app is None:
            self._supervisor.select(command.process)
            raise InvalidMessage(
                f"cannot scale '{command.process}': it is not an app",
                hint="name the app, not one of its instances",
                details={"path": "data.process"},
            )
        before = len(app.processes)
        changed = msgspec.to_builtins(app.spec) | {"instances": command.instances}
        spec = parse_app(changed, where="config", base=self._base, name=app.spec.name)
        self._supervisor.check(spec, app)
        next(iter(app.processes.values())).tell("scaled", {"instances": command.instances, "previous": before})
        return self._resize(app, spec)

    def _resize(self, app: App, spec: AppSpec) -> list[Job]:
        names = self._supervisor.names(spec)
        surplus = [process for process in app.processes.values() if process.name not in names]
        if len(surplus) == len(app.processes):
            return self._replace(app, spec, app.source)
        self._supervisor.redeclare(app, spec, app.source)
        return [*self._start_all(self._supervisor.resize(app)), *self._remove(surplus)]

    def _signal(self, command: Signal) -> list[Job]:
        try:
            number = checked("signal", signal_number, command.signal)
        except FieldError as wrong:
            raise located(wrong, "data", InvalidMessage) from None
        return self._each(command, lambda process: self._operations.signal(process, number))
