"""Tells clients what keeps the keeper from writing a log, or has made it delete old ones: events of whose log it is."""

import os
from collections.abc import Callable
from weakref import WeakKeyDictionary

from twisted.logger import Logger

from pmdaemon.daemon.keeperlink import Fact
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor

__all__ = ["LogTrouble"]


_AGAIN = 60.0
"""Seconds after which it is told again of a log what is dropped, while it cannot be written."""


class LogTrouble:
    """What is told of processes that nobody knows any more is told to nobody; *now* is in unix seconds."""

    _log = Logger()

    def __init__(self, supervisor: Supervisor, now: Callable[[], float]) -> None:
        self._supervisor = supervisor
        self._now = now
        self._told: WeakKeyDictionary[Process, tuple[str | None, float]] = WeakKeyDictionary()

    def told(self, fact: Fact) -> None:
        """Take what the keeper tells of a log."""
        if fact.get("ev") == "trouble":
            self._trouble(fact)
        elif fact.get("ev") == "capped":
            self._capped(fact["path"], fact["bytes"])

    def _trouble(self, fact: Fact) -> None:
        process = self._supervisor.processes.get(int(fact["id"])) if fact["id"].isdecimal() else None
        if process is None or process.incarnation != fact["inc"]:
            return
        error = None if fact["errno"] is None else os.strerror(fact["errno"])
        before, at = self._told.get(process, (None, -_AGAIN))
        if error is not None and error == before and at <= self._now() < at + _AGAIN:
            return
        self._told[process] = error, self._now()
        details = {"error": error, "dropped_bytes": fact["dropped_bytes"], "dropped_lines": fact["dropped_lines"]}
        if error is not None:
            self._log.error("cannot write the log of {name}: {error}", name=process.name, error=error)
        process.tell("log_trouble", details)

    def _capped(self, path: str, size: int) -> None:
        self._log.warn("deleted {size} bytes of {path}: all logs have reached their cap", size=size, path=path)
        for process in self._supervisor.processes.values():
            if path in map(os.path.realpath, self._supervisor.log_paths(process)):
                process.tell("log_capped", {"path": path, "bytes": size})
