"""Children that the keeper holds: the same transport as ``spawn``'s, for fresh and for adopted ones alike.

Output never comes this way: the keeper moves it into the logs and tells how far they go.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pmdaemon.daemon.hold import Hold
from pmdaemon.daemon.keeperlink import Fact, KeeperError, KeeperLink
from pmdaemon.daemon.launch import refusal
from pmdaemon.daemon.unheard import Unheard

__all__ = ["Birth", "Keeping", "Kept", "KeptProcess"]

Key = tuple[str, int]


class Birth(Struct, frozen=True, kw_only=True):
    """What a child is to the keeper: ``id`` and ``inc`` name it for ever, ``logs`` is by descriptor.

    ``rights`` are ``user``, ``group``, ``umask``, ``nice`` and ``rlimits`` as far as they are set, ``note`` is a
    `rebuild.Note`.
    """

    id: str
    inc: int
    logs: dict[str, dict[str, Any]]
    copy: str | None = None
    on_full: str = "block"
    rights: dict[str, Any] = {}
    note: str | None = None


class Kept(Struct, frozen=True, kw_only=True):
    """A child that the keeper held when the daemon came: its end, where it has ended, is an exit it told."""

    id: str
    inc: int
    pid: int
    at: float
    alive: bool
    asked: int | None
    gone: bool
    acked: bool
    boot: str
    start: int
    exit: dict[str, Any] | None

    @classmethod
    def all_of(cls, state: Fact) -> "list[Kept]":
        """Return those of a keeper's state whose end was not taken to heart yet."""
        about = [msgspec.convert(kid, cls) for kid in state["kids"]]
        return [kept for kept in about if not (kept.acked and kept.gone)]


@implementer(IProcessTransport)
class KeptProcess(Unheard):
    """The transport of one kept child; ``pid`` is None until exec has succeeded and from ``processEnded`` on."""

    pid: int | None = None

    def __init__(self, keeping: "Keeping", key: Key, protocol: ProcessProtocol) -> None:
        self._keeping = keeping
        self.key = key
        self.protocol = protocol
        self.begun = False
        self.over = False
        self.reason: Failure | None = None
        self.hold: Hold | None = None
        self._early: list[str | int] = []

    def born(self, pid: int, hold: Hold) -> None:
        """Its program runs. A keeper knows nothing of a child before, so it gets only now what was to end it."""
        self.begun, self.pid, self.hold = True, pid, hold
        self.protocol.makeConnection(self)
        for signalID in self._early:
            self.signalProcess(signalID)

    def end(self) -> None:
        """Nothing is left of it, or it never came to be."""
        self.over, self.pid = True, None
        if self.hold is not None:
            self.hold.close()
            self.hold = None

    def signalProcess(self, signalID: str | int) -> None:
        """Ask it to end, its group first; "KILL" ends the whole tree. As ``spawn.SpawnedProcess``."""
        if self.over:
            raise ProcessExitedAlready
        if not self.begun:
            self._early.append(signalID)
            return
        number = _number(signalID)
        scope = "tree" if number == signal.SIGKILL else "group"
        self._keeping.post("signal", self.key, sig=number, scope=scope, stop=True)

    def relay_signal(self, signalID: str | int) -> None:
        """Send a signal that is not meant to end it to its group."""
        if self.over or not self.begun:
            raise ProcessExitedAlready
        self._keeping.post("signal", self.key, sig=_number(signalID), scope="group", stop=False)

    def loseConnection(self) -> None:
        """Its output is the keeper's business."""


class Keeping:
    """All kept children of this daemon.

    *grown* is called with a log's path and how far it goes now, before anything that happened later; *as_of* runs a
    function with the bus at the time, in unix seconds, at which what it tells has happened; *pipes* is the directory
    of what children print to; *total* is how many bytes all logs may take, None for any number; *other* takes what else
    the keeper tells. What followed from an end is made last by the link before it lets the keeper forget it.
    """

    _log = Logger()

    def __init__(
        self,
        link: Callable[[Callable[[Fact], None], Callable[[Fact], None]], KeeperLink],
        *,
        grown: Callable[[str, int], None],
        as_of: Callable[[float, Callable[[], None]], None],
        pipes: Path,
        total: int | None,
        other: Callable[[Fact], None],
    ) -> None:
        self._grown = grown
        self._as_of = as_of
        self._pipes = pipes
        self._total = total
        self._other = other
        self._kids: dict[Key, KeptProcess] = {}
        self._paths: dict[Key, dict[str, str]] = {}
        self.link = link(self._fact, self._again)

    async def connect(self) -> Fact:
        """Connect to the keeper, and return its state. Raises KeeperError."""
        state = await self.link.connect()
        self.link.post("total", bytes=self._total)
        return state

    def tell_troubles(self, state: Fact) -> None:
        """Pass on which logs cannot be written at present."""
        for about in state["kids"]:
            if about["trouble"] is not None and about["trouble"]["errno"] is not None:
                self._other({"ev": "trouble", "id": about["id"], "inc": about["inc"], **about["trouble"]})

    async def reopen(self) -> list[str]:
        """Have the keeper begin another file for each log that was moved away; return which cannot be, and why."""
        answer = await self.link.order("reopen")
        return [f"{path}: {why}" for path, why in answer["ok"]["failed"].items()]

    def spawn(
        self,
        protocol: ProcessProtocol,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        cookie: tuple[str, str],
        birth: Birth,
        failed: Callable[[str], None],
    ) -> KeptProcess:
        """Order a child; ``makeConnection`` comes when exec has succeeded, *failed* with the reason if it has not."""
        kid = self._take(birth, protocol)
        order = self.link.order(
            "spawn",
            id=birth.id,
            inc=birth.inc,
            argv=list(argv),
            env=dict(env),
            cwd=cwd,
            cookie=list(cookie),
            logs=birth.logs,
            copy=birth.copy,
            on_full=birth.on_full,
            note=birth.note,
            **birth.rights,
        )
        order.addCallbacks(
            lambda answer: self._born(kid, answer["ok"]),
            lambda why: self._refused(kid, _reason(why, argv[0], env, cwd), failed),
        )
        order.addErrback(lambda why: self._log.failure("a new child cannot be taken up", why))
        return kid

    def adopt(self, kept: Kept, protocol: ProcessProtocol, paths: dict[str, str]) -> KeptProcess:
        """Take up a child that the keeper holds; where it has ended meanwhile, ``replay`` tells."""
        kid = self._kids[kept.id, kept.inc] = KeptProcess(self, (kept.id, kept.inc), protocol)
        self._paths[kid.key] = paths
        protocol.transport = kid
        if kept.alive:
            self._born(kid, {"pid": kept.pid, "start": kept.start, "at": kept.at})
        kid.begun = True
        return kid

    def replay(self, kept: Kept) -> None:
        """Tell the end of an adopted child that ended while no daemon was there."""
        if kept.exit is not None:
            self._exited((kept.id, kept.inc), kept.exit)
        if kept.gone:
            self._gone((kept.id, kept.inc), {})

    def dismiss(self, kept: Kept) -> None:
        """End and forget a child that nobody knows."""
        if kept.alive or not kept.gone:
            self.post("signal", (kept.id, kept.inc), sig=int(signal.SIGKILL), scope="tree", stop=True)
        else:
            self.post("ack", (kept.id, kept.inc))

    async def leave(self, *, end: bool) -> None:
        """Let go of the keeper; with *end* it ends too, as nothing is left for it to keep."""
        if end:
            await self.link.quit()
        else:
            self.link.leave()

    def post(self, op: str, key: Key, **fields: Any) -> None:
        """Give an order about a child that nobody waits for."""
        self.link.post(op, id=key[0], inc=key[1], **fields)

    def _take(self, birth: Birth, protocol: ProcessProtocol) -> KeptProcess:
        kid = self._kids[birth.id, birth.inc] = KeptProcess(self, (birth.id, birth.inc), protocol)
        self._paths[kid.key] = {fd: str(log["path"]) for fd, log in birth.logs.items()}
        protocol.transport = kid
        return kid

    def _born(self, kid: KeptProcess, about: Fact) -> None:
        if not kid.begun:
            kid.protocol.started_at = about["at"]  # type: ignore[attr-defined]  # a Child's
            pipes = [str(self._pipes / f"{kid.key[0]}.{kid.key[1]}.{fd}") for fd in self._paths[kid.key]]
            kid.born(about["pid"], Hold(about["pid"], about["start"], pipes))

    def _refused(self, kid: KeptProcess, reason: str, failed: Callable[[str], None]) -> None:
        if not kid.begun:
            kid.end()
            self._forget(kid.key)
            failed(reason)

    def _forget(self, key: Key) -> None:
        self._kids.pop(key, None)
        self._paths.pop(key, None)

    # What the keeper tells

    def _fact(self, fact: Fact) -> None:
        event = fact.get("ev")
        if event == "log":
            self._grown(fact["path"], fact["end"])
        elif event == "exit":
            self._exited((fact["id"], fact["inc"]), fact)
        elif event == "gone":
            self._gone((fact["id"], fact["inc"]), fact.get("end", {}))
        elif event == "stillborn":
            self._stillborn((fact["id"], fact["inc"]))
        else:
            self._other(fact)

    def _again(self, state: Fact) -> None:
        """After the connection was made anew: take up what happened in between. What is told twice counts once."""
        self.link.post("total", bytes=self._total)
        told = set()
        for about in state["kids"]:
            key = about["id"], about["inc"]
            told.add(key)
            for log in about["logs"].values():
                if log["at"] is not None:
                    self._grown(log["path"], log["at"][1])
            kid = self._kids.get(key)
            if kid is not None and about["born"]:
                self._born(kid, about)
            if about["exit"] is not None:
                self._exited(key, about["exit"])
            if about["gone"]:
                self._gone(key, {})
        for key in [key for key, kid in self._kids.items() if kid.begun and key not in told]:
            self._lost(key)
        self.tell_troubles(state)

    def _lost(self, key: Key) -> None:
        """The keeper knows nothing of a child that ran: its journal is gone, and with it all but what we hold."""
        self._log.error("the keeper has lost process {pid}, ending it", pid=self._kids[key].pid)
        hold = self._kids[key].hold
        if hold is not None:
            hold.kill()
        self._gone(key, {})

    def _stillborn(self, key: Key) -> None:
        """One that was taken up before it was known that it never became its program."""
        kid = self._kids.get(key)
        if kid is not None and kid.begun:
            self._gone(key, {})

    def _exited(self, key: Key, exit: Mapping[str, Any]) -> None:
        kid = self._kids.get(key)
        if kid is None or kid.reason is not None:
            return
        self._written(key, exit.get("end") or {})
        status = exit["status"]
        if status is None and kid.hold is not None:  # it ended while no keeper was there
            status = kid.hold.status()
        kid.reason = _outcome(status)
        kid.protocol.ended_at = exit["at"]  # type: ignore[attr-defined]  # a Child's
        kid.protocol.processExited(kid.reason)

    def _gone(self, key: Key, end: Mapping[str, int]) -> None:
        kid = self._kids.get(key)
        if kid is None:
            self.post("ack", key)
            return
        self._written(key, end)
        reason = kid.reason or _outcome(None)
        kid.end()
        self._forget(key)
        ended_at = getattr(kid.protocol, "ended_at", None)
        if ended_at is None:
            kid.protocol.processEnded(reason)
        else:
            self._as_of(ended_at, lambda: kid.protocol.processEnded(reason))
        self.post("ack", key)

    def _written(self, key: Key, end: Mapping[str, int]) -> None:
        paths = self._paths.get(key, {})
        for fd, offset in end.items():
            if fd in paths:
                self._grown(paths[fd], offset)


def _outcome(status: int | None) -> Failure:
    """Return how it ended; a status that is not known is neither 0 nor anything else."""
    if status is None:
        return Failure(ProcessTerminated(None, None, None))
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return Failure(ProcessDone(status))
    return Failure(ProcessTerminated(code if code > 0 else None, -code if code < 0 else None, status))


def _number(signalID: str | int) -> int:
    if isinstance(signalID, int):
        return signalID
    return int(signal.Signals[signalID if signalID.startswith("SIG") else f"SIG{signalID}"])


def _reason(why: Failure, program: str, env: Mapping[str, str], cwd: str) -> str:
    """Return why an order to start was refused, in words."""
    error = why.value.answer.get("error") if isinstance(why.value, KeeperError) else None
    if not isinstance(error, Mapping):
        return str(error or why.value)
    number, where = int(error.get("errno") or 0), error.get("where")
    if number and where in ("exec", "cwd"):
        return refusal(OSError(number, os.strerror(number), cwd if where == "cwd" else None), program, env, cwd)
    return str(error.get("message") or os.strerror(number))
