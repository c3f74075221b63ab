"""Which operations a command means: on whom, with what configuration, in which order."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred

from pmdaemon.core.access import Caller, require, require_processes
from pmdaemon.core.commands import Command, Delete, Flush, Reload, Reset, Restart, Scale, Signal, Start, Stop
from pmdaemon.core.ecosystem import parse
from pmdaemon.core.fields import FieldError, checked, located
from pmdaemon.core.selection import Identity
from pmdaemon.core.spec import AppSpec, parse_app
from pmdaemon.core.values import signal_number
from pmdaemon.daemon.changes import Changes
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import App, Supervisor
from pmdaemon.errors import InvalidConfiguration, InvalidMessage, ProcessAlreadyExists

__all__ = ["Actions", "Job", "read_ecosystem"]


class Job(Struct, frozen=True):
    """A part of a command: ``name`` is what it is about, ``processes`` tells which those are when it is done.

    ``done`` fires with None or fails with a PMDaemonError.
    """

    name: str
    done: "Deferred[None]"
    processes: Callable[[], list[Process]]


def read_ecosystem(path: str) -> list[AppSpec]:
    """Read an ecosystem file. Raises InvalidConfiguration, also where it cannot be read."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is not UTF-8"
        raise InvalidConfiguration(f"cannot read {path}: {reason}", details={"path": path}) from why
    return parse(text, Path(path).name, str(Path(path).resolve().parent))


def _of_file(path: str, name: str, caller: Caller, action: str, hint: str) -> AppSpec:
    """Return one app of an ecosystem file. Raises InvalidConfiguration."""
    try:
        declared = read_ecosystem(path)
    except InvalidConfiguration as why:
        if caller.processes.selectors is None:
            raise
        raise InvalidConfiguration(  # why tells of other apps, too
            f"cannot {action} '{name}': its ecosystem file cannot be read",
            hint="who may see all processes is told why",
        ) from why
    for spec in declared:
        if spec.name == name:
            return spec
    raise InvalidConfiguration(
        f"cannot {action} '{name}': {path} has no app of that name", hint=hint, details={"path": path}
    )


class _Future(Struct, frozen=True):
    """A process that is yet to be made."""

    id: int
    name: str
    app: str
    namespace: str


class Actions:
    """Turns commands into jobs; *base* is the directory that relative paths in a message refer to [R5]."""

    def __init__(self, supervisor: Supervisor, operations: Operations, *, base: str) -> None:
        self._supervisor = supervisor
        self._operations = operations
        self._changes = Changes(supervisor, operations)
        self._base = base
        self._begin: dict[type[Command], Callable[[Any, Caller], list[Job]]] = {
            Start: self._start,
            Stop: lambda command, caller: self._each(command, caller, operations.stop),
            Restart: lambda command, caller: self._each(command, caller, operations.restart),
            Reload: self._reload,
            Delete: lambda command, caller: self._each(
                command, caller, lambda process: operations.delete(process, purge=bool(command.purge))
            ),
            Scale: self._scale,
            Signal: self._signal,
            Reset: lambda command, caller: self._each(command, caller, operations.reset),
            Flush: lambda command, caller: self._each(command, caller, operations.flush),
        }

    def begin(self, command: Command, caller: Caller) -> list[Job]:
        """Start carrying *command* out, for a *caller* who may ask for it.

        Raises PMDaemonError where it means nothing, or touches what is none of the caller's.
        """
        return self._begin[type(command)](command, caller)

    def _each(self, command: Command, caller: Caller, operation: Callable[[Process], "Deferred[None]"]) -> list[Job]:
        selected = self._supervisor.select(command.process, caller.processes)
        return [self._of_process(each, operation(each)) for each in selected]

    def _of_process(self, process: Process, done: "Deferred[None]") -> Job:
        return Job(process.name, done, lambda: [self._supervisor.processes.get(process.id, process)])

    def _of_app(self, name: str, done: "Deferred[None]") -> Job:
        def processes() -> list[Process]:
            app = self._supervisor.apps.get(name)
            return [] if app is None else sorted(app.processes.values(), key=lambda each: each.id)

        return Job(name, done, processes)

    def _start(self, command: Start, caller: Caller) -> list[Job]:
        if command.config is None and command.file is None:
            return self._each(command, caller, self._operations.start)
        spec, source = self._read(command, caller), command.file
        app = self._supervisor.apps.get(spec.name)
        self._require(caller, spec, app, f"start '{spec.name}'")
        if app is None:
            created = self._changes.create(spec, source)
            return [self._of_process(each, self._operations.start(each)) for each in created]
        if self._supervisor.leaving(app):
            return [self._of_app(spec.name, self._changes.follow(app, spec, source))]
        if not command.replace:
            raise ProcessAlreadyExists(
                f"cannot start '{spec.name}': the name is in use",
                hint="leave config out to start it as it is, or send replace: true to give it this configuration",
            )
        self._supervisor.check(spec, app)
        return [self._of_app(spec.name, self._changes.replace(app, spec, source))]

    def _read(self, command: Start, caller: Caller) -> AppSpec:
        """Return the app that *command* declares, itself or by the file it names."""
        if not isinstance(command.process, str):
            raise InvalidMessage(
                "cannot start a new app: process is an id, not a name",
                hint="process names the new app",
                details={"path": "data.process"},
            )
        if command.file is None:
            return parse_app(command.config, where="config", base=self._base, name=command.process)
        if command.config is not None or not command.file.startswith("/"):
            raise InvalidMessage(
                f"cannot start '{command.process}': file is not an absolute path, or config is given too",
                hint="name the file by its whole path, and leave config out",
                details={"path": "data.file"},
            )
        return _of_file(command.file, command.process, caller, "start", "name one of its apps")

    def _require(self, caller: Caller, spec: AppSpec, app: App | None, doing: str) -> None:
        """Raise PermissionDenied unless all that *app* has, and all that *spec* would make of it, are the caller's."""
        present: Iterable[Identity] = () if app is None else app.processes.values()
        require_processes(caller, present, doing, told=spec.name)
        future = [_Future(-1, name, spec.name, spec.namespace) for name in self._supervisor.names(spec)]
        require_processes(caller, future, doing)

    # Reload

    def _reload(self, command: Reload, caller: Caller) -> list[Job]:
        selected = self._supervisor.select(command.process, caller.processes)
        apps = list(dict.fromkeys(process.app for process in selected))
        if command.config is not None and len(apps) != 1:
            raise InvalidMessage(
                f"cannot reload {len(apps)} apps with one config",
                hint="name one app",
                details={"path": "data.process"},
            )
        specs = {name: self._renewed(self._supervisor.apps[name], command.config, caller) for name in apps}
        chosen = {name: [process for process in selected if process.app == name] for name in apps}
        for name, spec in specs.items():
            if spec != self._supervisor.apps[name].spec:
                doing = f"reload '{name}' with a changed configuration"
                require(caller, "start", doing)
                self._require(caller, spec, self._supervisor.apps[name], doing)
            self._check_reload(self._supervisor.apps[name], spec, chosen[name])
        return [
            self._of_app(name, self._changes.reload(self._supervisor.apps[name], spec, chosen[name]))
            for name, spec in specs.items()
        ]

    def _renewed(self, app: App, config: dict[str, Any] | None, caller: Caller) -> AppSpec:
        """Return the configuration to reload: the one given, else the file's, else the one that is kept [R6]."""
        if config is not None:
            return parse_app(config, where="config", base=self._base, name=app.spec.name)
        if app.source is None:
            return app.spec
        hint = "put it back, send a config, or delete the app"
        return _of_file(app.source, app.spec.name, caller, "reload", hint)

    def _check_reload(self, app: App, spec: AppSpec, selected: list[Process]) -> None:
        self._supervisor.check(spec, app)
        if spec != app.spec and len(selected) < len(app.processes):
            raise InvalidMessage(
                f"cannot reload a part of '{app.spec.name}': its configuration has changed",
                hint=f"reload '{app.spec.name}' as a whole",
                details={"path": "data.process"},
            )

    # Further actions [R8]

    def _scale(self, command: Scale, caller: Caller) -> list[Job]:
        self._supervisor.select(command.process, caller.processes)
        app = self._supervisor.apps.get(str(command.process))
        if app is None:
            raise InvalidMessage(
                f"cannot scale '{command.process}': it is not an app",
                hint="name the app, not one of its instances",
                details={"path": "data.process"},
            )
        scaled = app

        def renewed() -> AppSpec:
            changed = msgspec.to_builtins(scaled.spec) | {"instances": command.instances}
            return parse_app(changed, where="config", base=self._base, name=scaled.spec.name)

        self._require(caller, renewed(), app, f"scale '{app.spec.name}'")
        self._supervisor.check(renewed(), app)
        return [self._of_app(app.spec.name, self._changes.scale(app, renewed))]

    def _signal(self, command: Signal, caller: Caller) -> list[Job]:
        try:
            number = checked("signal", signal_number, command.signal)
        except FieldError as wrong:
            raise located(wrong, "data", InvalidMessage) from None
        return self._each(command, caller, lambda process: self._operations.signal(process, number))
