"""What each command does to one process or one app; ``dispatch`` decides to which, and waits.

An operation on a process runs in that process's queue, so that nothing else changes it meanwhile [R3].
"""

from collections.abc import Awaitable, Callable, Hashable

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.lifecycle import RESTING, State
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import OperationFailed, PMDaemonError, ProcessAlreadyRunning, ProcessStartFailed

__all__ = ["Operations"]

_RUNNING = frozenset({State.ONLINE})


class Operations:
    """Orders for the supervisor's processes; each returns a Deferred that fires when it is done."""

    def __init__(self, supervisor: Supervisor, clock: IReactorTime) -> None:
        self._supervisor = supervisor
        self._clock = clock

    def _submit(
        self, process: Process, action: str, run: Callable[[], Awaitable[None]], key: Hashable = None
    ) -> "Deferred[None]":
        return self._supervisor.queue(process).submit(action, key, run)

    def _want(self, process: Process, wanted: bool) -> None:
        process.wanted = wanted
        self._supervisor.save(process)

    def start(self, process: Process) -> "Deferred[None]":
        """Start it. Fails with ProcessAlreadyRunning, or with why its first attempt failed."""

        async def run() -> None:
            if process.state in _RUNNING:
                raise ProcessAlreadyRunning(
                    f"cannot start '{process.name}': it runs already (pid {process.pid})",
                    hint="restart replaces it",
                )
            self._want(process, True)
            process.start()
            await _up(process, "start")

        return self._submit(process, "start", run)

    def stop(self, process: Process) -> "Deferred[None]":
        """Stop it with its whole tree; what is stopped is left alone."""

        async def run() -> None:
            self._want(process, False)
            process.stop()
            await process.settled(State.STOPPED)

        return self._submit(process, "stop", run)

    def restart(self, process: Process, spec: AppSpec | None = None) -> "Deferred[None]":
        """Replace its child by a new one, of *spec* where that is given."""

        async def run() -> None:
            self._want(process, True)
            process.spec = spec or process.spec
            process.restart()
            await _up(process, "restart")

        return self._submit(process, "restart", run)

    def delete(self, process: Process, *, purge: bool) -> "Deferred[None]":
        """Stop and forget it; the logs stay unless *purge* [R7]."""

        async def run() -> None:
            self._want(process, False)
            process.stop()
            await process.settled(State.STOPPED)
            process.tell("deleted", {"purged": purge})
            self._supervisor.forget(process, purge=purge)

        return self._submit(process, "delete", run, purge)

    def reload(self, process: Process, spec: AppSpec) -> "Deferred[None]":
        """Replace it by one of *spec* [R6]. Fails with what kept the new one down; then the old one goes on."""

        async def run() -> None:
            await self._reload(self._supervisor.processes[process.id], spec)

        return self._submit(process, "reload", run, msgspec.json.encode(spec))

    async def _reload(self, process: Process, spec: AppSpec) -> None:
        if process.state in RESTING and not process.wanted:
            process.spec = spec
            process.tell("reloaded", {"pid": None, "previous_pid": None})
            return
        request = spec.port_request
        if process.state is State.ONLINE and (request is None or request.kind == "auto"):
            await self._roll(process, spec)
        else:
            await self._swap(process, spec)

    async def _roll(self, old: Process, spec: AppSpec) -> None:
        """Start the new one beside the old, and let it take over when it has proved itself."""
        new = self._supervisor.newcomer(old, spec)
        try:
            new.start()
            await _up(new, "reload")
            await _stays_up(new, self._clock)
        except (PMDaemonError, CancelledError):
            await _down(new)
            self._supervisor.dismiss(new)
            raise
        self._supervisor.replace(old, new)
        await _down(old)
        self._supervisor.dismiss(old)

    async def _swap(self, process: Process, spec: AppSpec) -> None:
        """Stop the old one first; if the new one fails, start it again as it was."""
        before, previous_pid = process.spec, process.pid
        process.spec = spec
        process.restart("reload")
        try:
            await _up(process, "reload")
            await _stays_up(process, self._clock)
        except (PMDaemonError, CancelledError) as error:
            process.spec = before
            if isinstance(error, PMDaemonError):
                process.restart("reload failed")
                await process.settled()
            raise
        process.tell("reloaded", {"pid": process.pid, "previous_pid": previous_pid})

    def reset(self, process: Process) -> "Deferred[None]":
        """Set its restart counter to 0 and forget its failures [R8]."""

        async def run() -> None:
            process.restarts = 0
            process.policy.reset()
            self._supervisor.save(process)

        return self._submit(process, "reset", run)

    def signal(self, process: Process, number: int) -> "Deferred[None]":
        """Send a signal to its process group [R8]. Fails with OperationFailed where nothing runs."""

        async def run() -> None:
            if process.pid is None:
                raise OperationFailed(f"cannot signal '{process.name}': it is {process.status}")
            process.signal(number)

        return self._submit(process, "signal", run, number)


async def _up(process: Process, verb: str) -> None:
    """Wait for the outcome of a start. A one-shot that has ended well by then has done its work."""
    state = await process.settled()
    if state in (State.ONLINE, State.STOPPED):
        return
    if process.failure is not None:
        raise process.failure
    raise ProcessStartFailed(
        f"cannot {verb} '{process.name}': {_why(process)}",
        hint="its last lines are in the log" + (", it is tried again" if state is State.BACKOFF else ""),
        details={"exit_code": process.exit_code, "exit_signal": process.exit_signal},
    )


def _why(process: Process) -> str:
    how = f"signal {process.exit_signal}" if process.exit_signal else f"exit code {process.exit_code}"
    return f"it ended before it was ready ({how})"


async def _stays_up(process: Process, clock: IReactorTime) -> None:
    """Wait for ``min_uptime``. Raises ProcessStartFailed where the process leaves online before."""
    left = process.spec.timing.min_uptime - process.uptime
    if left <= 0:
        return
    gone = process.settled(*(state for state in State if state is not State.ONLINE))
    timer = clock.callLater(left, gone.cancel)
    try:
        await gone
    except CancelledError:
        if timer.active():
            timer.cancel()
            raise
        return
    finally:
        if timer.active():
            timer.cancel()
    raise ProcessStartFailed(
        f"cannot reload '{process.name}': the new one did not stay up for its min_uptime ({_why(process)})",
        hint="the old one goes on; see the log",
        details={"exit_code": process.exit_code, "exit_signal": process.exit_signal},
    )


async def _down(process: Process) -> None:
    process.stop("reload")
    await process.settled(State.STOPPED)
