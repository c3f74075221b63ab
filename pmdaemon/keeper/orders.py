"""What each order of the daemon does. An order for the same thing again does nothing again, and is answered the same.

How orders come and answers go is ``server``'s.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pmdaemon.keeper.births import Births
from pmdaemon.keeper.crash import crash_at
from pmdaemon.keeper.identity import Owner
from pmdaemon.keeper.kids import Kid
from pmdaemon.keeper.lives import Lives
from pmdaemon.keeper.outlets import Shelf
from pmdaemon.keeper.remains import Remains
from pmdaemon.keeper.segments import Limits, SegmentedLog
from pmdaemon.keeper.server import Reply
from pmdaemon.keeper.table import boot, read
from pmdaemon.keeper.wire import OLDEST, VERSION, LogOrder, Malformed, Message, Spawn, agree, get, natural_in, text_in

__all__ = ["Orders"]

_SCOPES = ("main", "group", "tree")


class _Refused(Exception):
    """An order that cannot be carried out, in a word or two."""


class Orders:
    """Carries them out; ``features`` are named in the answer to "hello"."""

    def __init__(
        self,
        *,
        lives: Lives,
        births: Births,
        remains: Remains,
        shelf: Shelf,
        features: list[str],
        set_total: Callable[[int | None], None],
        upgrade: Callable[[list[str] | None, Reply], None],
        quit: Callable[[], None],
    ) -> None:
        self._lives = lives
        self._births = births
        self._remains = remains
        self._shelf = shelf
        self._features = features
        self._set_total = set_total
        self._upgrade = upgrade
        self._quit = quit
        self._known: dict[str, Callable[[Message], Message]] = {
            "hello": self._hello,
            "ping": lambda order: {"ok": {}},
            "leave": lambda order: {"ok": {}},
            "signal": self._signal,
            "ack": self._ack,
            "forget": self._forget,
            "state": self._state,
            "limits": self._limits,
            "reopen": self._reopen,
            "total": self._total,
            "flush": self._flush,
            "quit": self._end,
        }

    def execute(self, order: Message, reply: Reply) -> None:
        """Carry out one; the reply comes now or later."""
        try:
            crash_at(f"on_{order.get('op')}")
            self._execute(order, reply)
        except Malformed as problem:
            reply({"error": f"malformed: {problem}"})
        except _Refused as problem:
            reply({"error": str(problem)})
        except Exception as problem:  # a defect: whoever waits is told, and the next life of the keeper is not asked
            reply({"error": f"defect: {problem!r}"})
            raise

    def _execute(self, order: Message, reply: Reply) -> None:
        kind = order.get("op")
        if kind == "spawn":
            self._births.order(Spawn.from_wire(order), reply)
        elif kind == "upgrade":
            self._upgrade(get(order, "argv", _command, None), reply)
        elif isinstance(kind, str) and kind in self._known:
            reply(self._known[kind](order))
        else:
            reply({"error": "unknown"})

    def _hello(self, order: Message) -> Message:
        version = agree(order.get("version"))
        keeper = {
            "pid": os.getpid(),
            "start": entry.start if (entry := read(os.getpid())) else 0,
            "boot": boot(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "linux": self._features,
            "versions": [OLDEST, VERSION],
        }
        return {"error": "version", "keeper": keeper} if version is None else {"version": version, "keeper": keeper}

    def _kid(self, order: Message) -> Kid:
        kid = self._lives.kids.get((get(order, "id", text_in), get(order, "inc", natural_in)))
        if kid is None:
            raise _Refused("no such child")
        return kid

    def _signal(self, order: Message) -> Message:
        kid = self._kid(order)
        number, scope = get(order, "sig", signal.Signals), get(order, "scope", text_in, "group")
        if scope not in _SCOPES:
            raise Malformed("scope: not main, group or tree")
        stop = get(order, "stop", bool, number == signal.SIGKILL)
        try:
            if stop:
                self._remains.stop(kid, number, scope)
                self._lives.record(kid.stop())
            else:
                self._remains.relay(kid, number, scope)
        except ProcessLookupError:
            raise _Refused("ended") from None
        except PermissionError:
            raise _Refused("not permitted") from None
        return {"ok": {}}

    def _ack(self, order: Message) -> Message:
        key = get(order, "id", text_in), get(order, "inc", natural_in)
        kid = self._lives.kids.get(key)
        if kid is not None and kid.alive:
            raise _Refused("alive")
        if kid is not None and not self._lives.ack(kid):
            raise _Refused("journal")
        return {"ok": {}}

    def _forget(self, order: Message) -> Message:
        """Acknowledge all that has ended of an id."""
        name = get(order, "id", text_in)
        kids = [kid for kid in self._lives.kids.values() if kid.key[0] == name and not kid.alive]
        acked = [self._lives.ack(kid) for kid in kids]
        if not all(acked):
            raise _Refused("journal")
        return {"ok": {}}

    def _state(self, order: Message) -> Message:
        return {"ok": {"kids": [self._about(kid) for kid in self._lives.kids.values()]}}

    def _about(self, kid: Kid) -> Message:
        logs: Message = {}
        for fd, log in kid.logs.items():
            written = self._shelf.get(log.path)
            logs[str(fd)] = {"path": log.path, "at": [written.base, written.end] if written else None}
        return {
            "id": kid.key[0],
            "inc": kid.key[1],
            "pid": kid.pid,
            "start": kid.start,
            "boot": kid.boot,
            "at": kid.at,
            "own": kid.own,
            "born": kid.settle is None,
            "alive": kid.alive,
            "asked": kid.asked,
            "exit": kid.exit,
            "acked": kid.acked,
            "gone": kid.gone,
            "logs": logs,
            "copy": kid.copy,
            "trouble": kid.outlets.trouble if kid.outlets else None,
        }

    def _limits(self, order: Message) -> Message:
        path = get(order, "path", text_in)
        limits = {name: value for name, value in order.items() if name in Limits._fields}
        for kid in self._lives.kids.values():
            for fd, log in kid.logs.items():
                if log.path == path:
                    kid.logs[fd] = LogOrder(path, {**log.limits, **limits})
                    self._lives.record(kid.about("limits", fd=fd, limits=kid.logs[fd].limits))
        written = self._shelf.get(path)
        if written is not None:
            written.set_limits(Limits.from_wire({**written.limits._asdict(), **limits}))
        return {"ok": {}}

    def _reopen(self, order: Message) -> Message:
        return self._each(self._shelf, SegmentedLog.reopen)

    def _total(self, order: Message) -> Message:
        """Have all logs together take so many bytes at most; without ``bytes``, any number."""
        self._set_total(get(order, "bytes", natural_in, None))
        return {"ok": {}}

    def _flush(self, order: Message) -> Message:
        """Empty the logs of an id, or those at ``paths``, also while nobody writes them."""
        kids = [kid for kid in self._lives.kids.values() if kid.key[0] == order.get("id")]
        paths = {log.path for kid in kids for log in kid.logs.values()} | {kid.copy for kid in kids if kid.copy}
        paths |= set(get(order, "paths", _command, []))
        owner = get(order, "owner", Owner.from_wire, None)
        taken: list[SegmentedLog] = []
        try:
            for path in paths:
                taken.append(self._shelf.take(path, Limits(), owner))
            return self._each(taken, SegmentedLog.flush_all)
        except OSError as problem:
            raise _Refused(f"{problem.strerror}: {problem.filename}") from None
        finally:
            for log in taken:
                self._shelf.give_back(log)

    def _each(self, logs: Iterable[SegmentedLog], act: Callable[[SegmentedLog], None]) -> Message:
        """Do it to all of them, whichever fail, and tell where each is now."""
        at: Message = {}
        failed: Message = {}
        for log in logs:
            try:
                act(log)
            except OSError as problem:
                failed[log.path] = problem.strerror
            at[log.path] = [log.base, log.end]
        return {"ok": {"logs": at, "failed": failed}}

    def _end(self, order: Message) -> Message:
        if self._births.busy or any(kid.alive or not kid.gone for kid in self._lives.kids.values()):
            raise _Refused("children")
        self._quit()
        return {"ok": {}}


def _command(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise TypeError("not a list of strings")
    return value
