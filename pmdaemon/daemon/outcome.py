"""Waiting for what becomes of a process: up, still up, or down; and why it did not come up, in words."""

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.lifecycle import State
from pmdaemon.core.restart import End
from pmdaemon.daemon.process import Process
from pmdaemon.errors import ProcessStartFailed

__all__ = ["down", "stays_up", "up"]

_WHY = {
    "not_ready": "it was not ready within its listen_timeout",
    "unhealthy": "it became unhealthy before it was ready",
    "memory_limit": "it went over its max_memory_restart before it was ready",
}

_NOT_ONLINE = tuple(state for state in State if state is not State.ONLINE)


async def up(process: Process, verb: str) -> None:
    """Wait for the outcome of a start. A one-shot that has ended well by then has done its work.

    Raises what kept a child from being started, ProcessStartFailed where one ended before it was ready.
    """
    state = await process.settled()
    if state in (State.ONLINE, State.STOPPED):
        return
    if process.failure is not None:
        raise process.failure
    end = process.ended
    reason = (end and end.failed and _WHY.get(end.failed)) or f"it ended before it was ready ({_how(end)})"
    hint = "its last lines are in the log" + ("; it is tried again" if state is State.BACKOFF else "")
    raise _start_failed(f"cannot {verb} '{process.name}': {reason}", hint, end)


async def stays_up(process: Process, clock: IReactorTime, hint: str) -> None:
    """Wait for the ``min_uptime`` of a process on trial.

    Raises ProcessStartFailed where its child ends before; that of a one-shot may end well.
    """
    left = process.spec.timing.min_uptime - process.uptime
    if process.state is State.ONLINE and left > 0:
        gone = process.settled(*_NOT_ONLINE)
        timer = clock.callLater(left, gone.cancel)
        try:
            await gone
        except CancelledError:
            if timer.active():  # it is we who are not to wait any longer
                raise
        finally:
            if timer.active():
                timer.cancel()
    if process.state in (State.ONLINE, State.STOPPED):
        return
    reason = f"the new one did not stay up for its min_uptime ({_how(process.ended)})"
    raise _start_failed(f"cannot reload '{process.name}': {reason}", hint, process.ended)


async def down(process: Process, reason: str) -> None:
    """End a process, and wait until it is stopped."""
    process.stop(reason)
    await process.settled(State.STOPPED)


def _start_failed(message: str, hint: str, end: End | None) -> ProcessStartFailed:
    details = {} if end is None else {"exit_code": end.exit_code, "exit_signal": end.exit_signal}
    return ProcessStartFailed(message, hint=hint, details=details)


def _how(end: End | None) -> str:
    if end is None:
        return "nothing is known of its end"
    return f"signal {end.exit_signal}" if end.exit_signal else f"exit code {end.exit_code}"
