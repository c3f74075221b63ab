"""What changes a whole app: its configuration, how many processes it has, and what they are called [R6], [R8].

Such changes of one app run one after another; what each does to a process waits in that process's own queue.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence, Set
from contextlib import suppress

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from pmdaemon.core.fields import FieldError
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import App, Supervisor
from pmdaemon.errors import PMDaemonError, ProcessNotFound

__all__ = ["Changes"]


class Changes:
    """Changes of the supervisor's apps; each returns a Deferred that fires when it is done."""

    def __init__(self, supervisor: Supervisor, operations: Operations) -> None:
        self._supervisor = supervisor
        self._operations = operations

    def _submit(self, app: App, action: str, run: Callable[[], Awaitable[None]], key: Hashable) -> "Deferred[None]":
        async def carry_out() -> None:
            self._must_be_there(app, action)
            await run()

        return app.queue.submit(action, key, carry_out)

    def _must_be_there(self, app: App, action: str) -> None:
        if self._supervisor.apps.get(app.spec.name) is not app:
            raise ProcessNotFound(f"cannot {action} '{app.spec.name}': it was deleted meanwhile")

    def reload(self, app: App, spec: AppSpec, processes: list[Process]) -> "Deferred[None]":
        """Give *processes* of *app* the configuration *spec*, one after another [R6].

        The first that fails ends it: a bad configuration takes one down at most.
        """

        async def run() -> None:
            names, present = self._supervisor.names(spec), set(app.processes)
            for process in processes:
                if process.name in names:
                    with suppress(ProcessNotFound):  # deleted meanwhile
                        await self._operations.reload(process, spec)
            self._must_be_there(app, "reload")
            if spec != app.spec:
                await self._reshape(app, spec, app.source, without=present - set(app.processes))

        return self._submit(app, "reload", run, (msgspec.json.encode(spec), *(each.id for each in processes)))

    def replace(self, app: App, spec: AppSpec, source: str | None = None) -> "Deferred[None]":
        """Put *spec* in the place of *app*'s configuration, all at once, and run it [R4].

        *source* is the file that it came from.
        """

        async def run() -> None:
            self._supervisor.check(spec, app)
            names = self._supervisor.names(spec)
            kept = [process for process in app.processes.values() if process.name in names]
            restarts = DeferredList([self._operations.restart(each, spec) for each in kept], consumeErrors=True)
            await self._reshape(app, spec, source, run=True)
            _raise_first(await restarts)

        return self._submit(app, "replace", run, (msgspec.json.encode(spec), source))

    def scale(self, app: App, renewed: Callable[[], AppSpec]) -> "Deferred[None]":
        """Give *app* as many processes as *renewed* says, which is asked when it is this change's turn [R8]."""

        async def run() -> None:
            spec, before = renewed(), len(app.processes)
            await self._reshape(app, spec, app.source)
            for process in app.processes.values():
                _rescale(process, spec)
            for process in list(app.processes.values())[:1]:
                process.tell("scaled", {"instances": len(app.processes), "previous": before})

        return self._submit(app, "scale", run, msgspec.json.encode(renewed()))

    def follow(self, leaving: App, spec: AppSpec, source: str | None = None) -> "Deferred[None]":
        """Start an app of *spec* as soon as *leaving*, which has its name and is being deleted, has gone."""

        async def run() -> None:
            await self._delete_all(list(leaving.processes.values()))
            await self._run_all(self.create(spec, source))

        return leaving.queue.submit("start", (msgspec.json.encode(spec), source), run)

    def create(self, spec: AppSpec, source: str | None = None) -> list[Process]:
        """Take up a new app, not started; its processes. Raises what stands against it."""
        app = self._supervisor.declare(spec, source)
        return _told_created(app.processes.values())

    async def _reshape(
        self, app: App, spec: AppSpec, source: str | None, *, run: bool = False, without: Set[str] = frozenset()
    ) -> None:
        """Give *app* the processes that *spec* asks for, but for those named in *without*.

        New ones run if old ones do, or if *run* says so.
        Where an app goes from one instance to several or back, all its processes have new names: then the old ones
        go when the new ones are up, and come back if those fail.
        """
        self._supervisor.check(spec, app)
        before, old_source = app.spec, app.source
        names = self._supervisor.names(spec)
        old = [process for process in app.processes.values() if process.name not in names]
        moved = len(old) == len(app.processes)
        wanted = [process for process in app.processes.values() if process.wanted]
        stopped = wanted if moved and _same_ports(spec) else []
        self._supervisor.redeclare(app, spec, source)
        new = _told_created(self._supervisor.resize(app, without))
        try:
            await _all(self._operations.stop(process) for process in stopped)
            if run or wanted:
                await self._run_all(new)
        except PMDaemonError as error:
            if moved and self._supervisor.apps.get(spec.name) is app:
                self._supervisor.redeclare(app, before, old_source)
                await self._delete_all(new)
                await self._bring_back(stopped, error)
            raise
        await self._delete_all(old)

    async def _bring_back(self, stopped: Iterable[Process], error: PMDaemonError) -> None:
        """Start again what was stopped for nothing, unless it was a user's stop that *error* tells of."""
        if error.details.get("superseded_by") not in ("stop", "delete"):
            with suppress(PMDaemonError):  # the error that led here is the one to tell
                await self._run_all(stopped)

    async def _run_all(self, processes: Iterable[Process]) -> None:
        await _all(self._operations.start(process) for process in processes)

    async def _delete_all(self, processes: Iterable[Process]) -> None:
        await _all((self._operations.delete(process, purge=False) for process in processes), but=ProcessNotFound)


def _same_ports(spec: AppSpec) -> bool:
    """Tell whether new processes are to have the ports that old ones hold."""
    return spec.port_request is not None and spec.port_request.kind != "auto"


def _told_created(processes: Iterable[Process]) -> list[Process]:
    created = list(processes)
    for process in created:
        process.tell("created", {})
    return created


async def _all(orders: "Iterable[Deferred[None]]", *, but: type[Exception] | tuple[()] = ()) -> None:
    """Wait for all of them. Raises the first failure that is not one of *but*."""
    results: list[tuple[bool, None]] = await DeferredList(list(orders), consumeErrors=True)
    _raise_first(results, but)


def _raise_first(results: Sequence[tuple[bool, object]], but: type[Exception] | tuple[()] = ()) -> None:
    for _, result in results:
        if isinstance(result, Failure) and not isinstance(result.value, but):
            result.raiseException()


def _rescale(process: Process, spec: AppSpec) -> None:
    """Tell a process of how many it is one now; the rest of what its child was started with stays as it is.

    A child that a failed reload left with an older configuration, which has no port for so many, gives way to *spec*
    when it ends.
    """
    try:
        process.adopt(msgspec.structs.replace(process.spec, instances=spec.instances), now=True)
    except FieldError:
        process.adopt(spec)
