"""Replacing one process by another of a new configuration, so that a bad one never takes its place [R6].

What a reload means for a whole app is ``changes``.
"""

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.lifecycle import RESTING, State
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.outcome import stays_up, up
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import PMDaemonError

__all__ = ["Replacement"]

_SERVES = frozenset({"http", "tcp"})


class Replacement:
    """Replaces processes of *supervisor*; *clock* measures their ``min_uptime``."""

    def __init__(self, supervisor: Supervisor, clock: IReactorTime) -> None:
        self._supervisor = supervisor
        self._clock = clock

    async def carry_out(self, process: Process, spec: AppSpec) -> None:
        """Replace *process* by one of *spec*. Raises what kept the new one down; the old one goes on then."""
        if process.state in RESTING and not process.wanted:
            process.adopt(spec)
            process.tell("reloaded", {"pid": None, "previous_pid": None})
        elif process.state is State.ONLINE and _both_fit(process.spec, spec):
            await self._roll(process, spec)
        else:
            await self._swap(process, spec)

    async def _roll(self, old: Process, spec: AppSpec) -> None:
        """Start the new one beside the old, and let it take over when it has proved itself."""
        new = self._supervisor.newcomer(old, spec)
        try:
            new.start()
            await up(new, "reload")
            await stays_up(new, self._clock, "the old one goes on; if it listens on a port, declare it with port")
        except (PMDaemonError, CancelledError):
            await self._dismiss(new)
            raise
        self._supervisor.replace(old, new)
        await self._dismiss(old)

    async def _dismiss(self, process: Process) -> None:
        """End a process that is only passing; it is held until it has ended, even if nobody waits for that."""
        process.stop("reload")
        process.settled(State.STOPPED).addCallback(lambda _: self._supervisor.dismiss(process))
        await process.settled(State.STOPPED)

    async def _swap(self, process: Process, spec: AppSpec) -> None:
        """Stop the old one first; if the new one fails, start it again as it was."""
        before, previous_pid = process.spec, process.pid
        process.adopt(spec)
        process.on_trial = True
        process.restart("reload")
        try:
            await up(process, "reload")
            await stays_up(process, self._clock, "the old configuration is back; see the log")
        except (PMDaemonError, CancelledError) as error:
            process.adopt(before)
            process.on_trial = False
            if isinstance(error, PMDaemonError):
                process.restart("reload failed")
                await process.settled()
            raise
        process.on_trial = False
        process.tell("reloaded", {"pid": process.pid, "previous_pid": previous_pid})


def _both_fit(old: AppSpec, new: AppSpec) -> bool:
    """Tell whether the two can run side by side: no port that only one of them can have, no log of its own for each."""
    if (old.out_file, old.error_file, old.log_file) != (new.out_file, new.error_file, new.log_file):
        return False
    if new.port_request is not None:
        return new.port_request.kind == "auto"
    return new.check is None or new.check.check_type not in _SERVES
