"""From a request to its answer: the one entry for every client, whatever it came by.

Commands on several processes run side by side; the answer comes when all of them are done [R1].
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pmdaemon.core.access import Caller, check
from pmdaemon.core.commands import Command, GetConfig, GetInfo, GetSystem, Ping, Request
from pmdaemon.daemon.actions import Actions, Job
from pmdaemon.daemon.audit import Audit
from pmdaemon.daemon.cause import CAUSE
from pmdaemon.daemon.describe import Describer, page
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import InternalError, OperationFailed, PMDaemonError, ProcessAlreadyRunning, TimedOut

__all__ = ["Answer", "Dispatcher", "Reply"]

_TIMEOUT = 60_000
"""Milliseconds a command is waited for unless it says otherwise [R1]."""

_MAX_TOLD, _MAX_TOLD_TEXT = 100, 500
"""How many errors are told of a command on several processes, and how much of each: they are one message [E6]."""


class Reply(Struct, frozen=True):
    """The type and data of an answer."""

    type: str
    data: Any


Answer = Callable[[Any, Caller], Awaitable[Reply]]
"""Answers the requests of one type."""


class Dispatcher:
    """Carries out requests; subscribing is the connection's own business and never comes here.

    *answers* are those to requests that are answered elsewhere, by their types; *remembered* makes last what was done,
    and returns what keeps it from that, if anything does.
    """

    _log = Logger()

    def __init__(
        self,
        supervisor: Supervisor,
        actions: Actions,
        describer: Describer,
        audit: Audit,
        clock: IReactorTime,
        answers: Mapping[type, Answer],
        *,
        remembered: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._supervisor = supervisor
        self._actions = actions
        self._describer = describer
        self._audit = audit
        self._clock = clock
        self._remembered = remembered
        self._answers: dict[type, Answer] = {
            GetInfo: self._get_info,
            GetSystem: self._get_system,
            Ping: self._ping,
            **answers,
        }

    async def execute(self, request: Request, caller: Caller) -> Reply:
        """Carry *request* out for *caller* and return its answer. Raises PMDaemonError and nothing else."""
        try:
            check(caller, request)
            if isinstance(request, Command):
                reply = await self._command(request, caller)
                self._check_remembered(request)
            else:
                reply = await self._answers[type(request)](request, caller)
            waited = not isinstance(request, Command) or request.wait is not False
            self._record(caller, request, "ok" if waited else "begun")
            return reply
        except PMDaemonError as error:
            self._record(caller, request, error.code)
            raise self._told_to(caller, error) from None
        except Exception:  # the door to the client: a defect becomes a logged one-line answer
            self._log.failure("cannot carry out {request}", request=type(request).__name__)
            self._record(caller, request, InternalError.code)
            raise InternalError(
                "cannot carry this out: the daemon has a defect", hint="the daemon's log has the details"
            ) from None

    def _check_remembered(self, command: Command) -> None:
        """Raise where a later daemon would not know of it: what is not kept is not acknowledged."""
        why = self._remembered()
        if why is not None:
            raise OperationFailed(
                f"cannot keep the {command.action} of '{command.process}', which was carried out: {why}",
                hint="make room on the disk of the daemon's home: it is kept as soon as that is possible",
                details={"carried_out": True},
            )

    def _record(self, caller: Caller, request: Request, outcome: str) -> None:
        if isinstance(request, Command) or (isinstance(request, GetConfig) and request.secrets):
            self._audit.record(caller, request, outcome)

    async def _ping(self, request: Ping, caller: Caller) -> Reply:
        return Reply("pong", {})

    async def _get_system(self, request: GetSystem, caller: Caller) -> Reply:
        asked: Deferred[None] = Deferred()
        before = self._clock.seconds()
        self._clock.callLater(0, asked.callback, None)
        await asked
        return Reply("system_info", self._describer.system(max(0.0, self._clock.seconds() - before)))

    async def _get_info(self, request: GetInfo, caller: Caller) -> Reply:
        selected = self._supervisor.select(request.process, caller.processes)
        chosen = [each for each in selected if request.cursor is None or each.id >= request.cursor]
        objects, cursor = page(self._describer.processes(chosen, whole=True))
        if request.process in self._supervisor.apps and len(selected) > 1:
            key = "instances"
        elif len(objects) == 1 and _means_one(request.process, selected[0]):
            return Reply("process_info", objects[0])
        else:
            key = "processes"
        more = {} if cursor is None else {"more": True, "cursor": cursor}
        return Reply("process_info", {key: objects, **more})

    async def _command(self, command: Command, caller: Caller) -> Reply:
        if self._supervisor.closing:
            raise OperationFailed(f"cannot {command.action}: the daemon is stopping")
        CAUSE.set({"client": caller.name, "action": command.action})
        jobs = self._actions.begin(command, caller)
        if command.wait is False:
            for job in jobs:
                job.done.addErrback(self._unheard, job.name)
            return self._result(command, jobs, caller)
        results = await self._within(jobs, command)
        errors = [
            (job.name, self._told_to(caller, self._reason(result, job.name)))
            for job, (ok, result) in zip(jobs, results, strict=True)
            if not ok
        ]
        if len(errors) < len(jobs):
            errors = [(name, error) for name, error in errors if not isinstance(error, ProcessAlreadyRunning)]
        if errors:
            raise _together(command, errors, len(jobs))
        return self._result(command, jobs, caller)

    async def _within(self, jobs: list[Job], command: Command) -> list[tuple[bool, Any]]:
        """Wait for all jobs or for the timeout; then they go on without anybody waiting [R1]."""
        timeout = _TIMEOUT if command.timeout is None else command.timeout
        gathered = DeferredList([job.done for job in jobs], consumeErrors=True)
        waiting: Deferred[list[tuple[bool, Any]]] = Deferred()
        timer = self._clock.callLater(timeout / 1000, waiting.errback, Failure(_too_late(command, timeout)))

        def done(results: list[tuple[bool, Any]]) -> None:
            if timer.active():
                timer.cancel()
                waiting.callback(results)

        gathered.addCallback(done)
        return await waiting

    def _result(self, command: Command, jobs: list[Job], caller: Caller) -> Reply:
        done = {process.id: process for job in jobs for process in job.processes() if process in caller.processes}
        objects, cursor = page(self._describer.processes(done[id_] for id_ in sorted(done)))
        data = {"action": command.action, "process": command.process, "success": True, "processes": objects}
        return Reply("command_result", data if cursor is None else {**data, "more": True, "cursor": cursor})

    def _reason(self, failure: Failure, name: str) -> PMDaemonError:
        if isinstance(failure.value, PMDaemonError):
            return failure.value
        self._log.failure("a command on {name} failed", failure, name=name)
        return InternalError(f"cannot do this to '{name}': the daemon has a defect; its log has the details")

    def _told_to(self, caller: Caller, error: PMDaemonError) -> PMDaemonError:
        """Return *error* as a caller may hear it: of processes that do not exist for the caller not even the name."""
        known = (name for each in self._supervisor.select(None, caller.processes) for name in (each.name, each.app))
        return error if error.other is None or error.other in known else error.discreet()

    def _unheard(self, failure: Failure, name: str) -> None:
        """Nobody waits for this outcome; the events tell what became of the process."""
        self._log.info("{reason}", reason=self._reason(failure, name).message)


def _means_one(selector: str | int | None, process: Process) -> bool:
    return selector in (process.id, str(process.id), process.name, process.app)


def _too_late(command: Command, timeout: int) -> TimedOut:
    return TimedOut(
        f"cannot tell yet whether {command.action} of '{command.process}' succeeds: not done within {timeout} ms",
        hint="it goes on; its outcome comes as process_status, or send a longer timeout",
        details={"timeout": timeout},
    )


def _together(command: Command, errors: list[tuple[str, PMDaemonError]], count: int) -> PMDaemonError:
    """Return the only error as it is, or the first one's kind with all of them in its details."""
    first = errors[0][1]
    if count == 1:
        return first
    failed = [
        {"process": name, "code": error.code, "message": error.message[:_MAX_TOLD_TEXT]}
        for name, error in errors[:_MAX_TOLD]
    ]
    return type(first)(
        f"cannot {command.action} {len(errors)} of {count} processes: {first.message}",
        hint=first.hint,
        details={**first.details, "failed": failed},
    )
