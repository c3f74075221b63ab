"""Ends children of an earlier daemon that nobody holds any more, before another is started in the place of each.

There are none as long as a keeper lives or its journal can be read; without a keeper, a child that prints nothing
outlives a daemon that was killed. They are known by the cookie in their environment.
"""

import signal
from collections.abc import Iterable
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from pmdaemon.daemon.launcher import COOKIE
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.proctable import cookies
from pmdaemon.keeper.table import Entry, kill, read, snapshot

__all__ = ["Strays"]

_LOOK, _LOOKS = 0.01, 200
"""Seconds between looks whether they have gone, and how many there are at most."""


class Strays:
    """Those of the daemon of *home*, a path."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, home: str) -> None:
        self._clock = clock
        self._home = home

    async def end(self, processes: Iterable[Process]) -> None:
        """Kill what was started for *processes* that have no child now; returns when they have ended."""
        lost = {f"{self._home}:{each.incarnation}" for each in processes if each.child is None and each.incarnation}
        entries = _found(lost) if lost else []
        for entry in entries:
            self._log.warn("ending process {pid}, started by an earlier daemon and held by nobody", pid=entry.pid)
            with suppress(PermissionError):
                kill(entry.pid, entry.start, signal.SIGKILL)
        for _ in range(_LOOKS):
            if not any(map(_lives, entries)):
                return
            await deferLater(self._clock, _LOOK)


def _found(values: set[str]) -> list[Entry]:
    """Return those whose cookie has one of these values."""
    table = snapshot()  # first: a pid that was given to another since is not killed
    entries = [table.get(pid) for value, pids in cookies(COOKIE).items() if value in values for pid in pids]
    return [entry for entry in entries if entry is not None and not entry.zombie]


def _lives(entry: Entry) -> bool:
    now = read(entry.pid)
    return now is not None and now.identity == entry.identity and not now.zombie
