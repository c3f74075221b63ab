"""What each command does to one process; ``actions`` decides to which, ``changes`` is for what concerns a whole app.

An operation runs in its process's queue, so that nothing else changes the process meanwhile [R3].
"""

from collections.abc import Awaitable, Callable, Hashable

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.lifecycle import State
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.flushing import Flush, flush_files
from pmdaemon.daemon.outcome import down, up
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.replacement import Replacement
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import OperationFailed, ProcessAlreadyRunning, ProcessNotFound

__all__ = ["Operations"]


class Operations:
    """Orders for the supervisor's processes; each returns a Deferred that fires when it is done.

    A process that a reload has replaced meanwhile stands for its successor; one that was deleted is ProcessNotFound.
    """

    def __init__(self, supervisor: Supervisor, clock: IReactorTime, flush: Flush = flush_files) -> None:
        self._supervisor = supervisor
        self._flush = flush
        self._replacement = Replacement(supervisor, clock)

    def _submit(
        self, process: Process, action: str, run: Callable[[Process], Awaitable[None]], key: Hashable = None
    ) -> "Deferred[None]":
        async def carry_out() -> None:
            await run(self._supervisor.present(process))

        try:
            return self._supervisor.queue(process).submit(action, key, carry_out)
        except ProcessNotFound as gone:
            return fail(gone)

    def _want(self, process: Process, wanted: bool) -> None:
        process.wanted = wanted
        self._supervisor.save(process)

    def start(self, process: Process) -> "Deferred[None]":
        """Start it. Fails with ProcessAlreadyRunning, or with why its first attempt failed."""

        async def run(process: Process) -> None:
            if process.state is State.ONLINE:
                raise ProcessAlreadyRunning(
                    f"cannot start '{process.name}': it runs already (pid {process.pid})",
                    hint="restart replaces it",
                )
            self._want(process, True)
            process.start()
            await up(process, "start")

        return self._submit(process, "start", run)

    def stop(self, process: Process) -> "Deferred[None]":
        """Stop it with its whole tree; what is stopped is left alone."""

        async def run(process: Process) -> None:
            self._want(process, False)
            await down(process, "command")

        return self._submit(process, "stop", run)

    def restart(self, process: Process, spec: AppSpec | None = None) -> "Deferred[None]":
        """Replace its child by a new one, of *spec* where that is given."""

        async def run(process: Process) -> None:
            self._want(process, True)
            if spec is not None:
                process.adopt(spec)
            process.restart()
            await up(process, "restart")

        return self._submit(process, "restart", run, _key(spec))

    def delete(self, process: Process, *, purge: bool) -> "Deferred[None]":
        """Stop and forget it; the logs stay unless *purge* [R7]."""

        async def run(process: Process) -> None:
            self._want(process, False)
            await down(process, "command")
            process.tell("deleted", {"purged": purge})
            self._supervisor.forget(process, purge=purge)

        return self._submit(process, "delete", run, purge)

    def reload(self, process: Process, spec: AppSpec) -> "Deferred[None]":
        """Replace it by one of *spec* [R6]. Fails with what kept the new one down; then the old one goes on."""

        async def run(process: Process) -> None:
            await self._replacement.carry_out(process, spec)

        return self._submit(process, "reload", run, _key(spec))

    def reset(self, process: Process) -> "Deferred[None]":
        """Set its restart counter to 0 and forget its failures [R8]."""

        async def run(process: Process) -> None:
            process.restarts = 0
            process.policy.reset()
            self._supervisor.save(process)

        return self._submit(process, "reset", run)

    def flush(self, process: Process) -> "Deferred[None]":
        """Empty its logs [R8]."""

        async def run(process: Process) -> None:
            await self._flush(process, self._supervisor.log_paths(process))

        return self._submit(process, "flush", run)

    def signal(self, process: Process, number: int) -> "Deferred[None]":
        """Send a signal to its process group [R8]. Fails with OperationFailed where nothing runs."""

        async def run(process: Process) -> None:
            if process.pid is None:
                raise OperationFailed(f"cannot signal '{process.name}': it is {process.status}")
            try:
                process.signal(number)
            except PermissionError:
                raise OperationFailed(f"cannot signal '{process.name}': it became another user's") from None

        return self._submit(process, "signal", run, number)


def _key(spec: AppSpec | None) -> Hashable:
    return None if spec is None else msgspec.json.encode(spec)
