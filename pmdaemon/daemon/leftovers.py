"""A process tree from the first stop signal until nothing of it is left: found, signalled, awaited.

What is left when the first process has ended is known by its session; when a stop was asked for also by the tree
as it was then and by the cookie in the environment, which costs more and also finds what made a session of its own.
"""

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.logger import Logger

from pmdaemon.daemon.scans import Scans, Sight
from pmdaemon.keeper.table import Entry, kill, read

__all__ = ["Leftovers"]

_FIRST_POLL, _SLOWEST_POLL = 0.005, 0.1  # seconds between looks whether they have gone; doubled each time


class Leftovers:
    """The tree that ``leader``, a child of ours, leads; ``gone`` is called once, after `clear`, when none is left."""

    _log = Logger()

    def __init__(self, reactor: Any, leader: int, cookie: tuple[str, str], gone: Callable[[], None]) -> None:
        self._reactor = reactor
        self._scans = Scans.of(reactor)
        self._leader = leader
        self._cookie = cookie
        self._gone = gone
        self._asked: int | None = None  # the last stop signal
        self._reaped = False
        self._known: dict[tuple[int, int], Entry] = {}
        self._told: set[tuple[int, int]] = set()  # who had that signal
        self._untouchable: set[tuple[int, int]] = set()
        self._looking = False
        self._poll: DelayedCall | None = None
        self._delay = _FIRST_POLL

    def stop(self, signalnum: int) -> None:
        """Send a stop signal: to the leader's group, or when the leader has ended to all that is left.

        SIGKILL goes to the whole tree. Raises ProcessLookupError when the group has gone, PermissionError when none
        of it may be signalled.
        """
        self._asked = signalnum
        self._told.clear()
        if self._reaped:
            self._look_again()
            return
        tree = self._scans.now().table.tree(self._leader)  # before the signal, which may orphan them
        self._known.update((entry.identity, entry) for entry in tree)
        os.killpg(self._leader, signalnum)
        self._told.update(entry.identity for entry in tree if entry.group == self._leader)
        if signalnum == signal.SIGKILL:
            self._tell(self._known.values())

    def clear(self) -> None:
        """The leader has ended and been reaped: see that the rest goes.

        After a stop they get the last signal, unless they had it, and the time until the next; else SIGKILL.
        """
        self._reaped = True
        self._look_again()

    def _look_again(self) -> None:
        if self._poll:
            self._poll.cancel()
            self._poll = None
        self._delay = _FIRST_POLL
        if not self._looking:
            self._looking = True
            self._scans.next(self._look)

    def _look(self, sight: Sight) -> None:
        self._looking = False
        found = self._all(sight) if self._asked else self._session(sight)
        left = {
            entry.identity: entry for entry in found if not entry.zombie and entry.identity not in self._untouchable
        }
        self._tell(left.values())
        left = {identity: entry for identity, entry in left.items() if identity not in self._untouchable}
        self._known = left
        if left:
            self._poll_later()
        elif self._asked and self._ended_meanwhile(sight):
            self._look_again()
        else:
            self._gone()

    def _ended_meanwhile(self, sight: Sight) -> bool:
        """Tell whether one lived when cookies were read and had ended when the table was: it may have left another."""
        name, value = self._cookie
        entries = (sight.table.get(pid) for pid in sight.cookies(name).get(value, ()))
        return any(entry is None or entry.zombie for entry in entries)

    def _session(self, sight: Sight) -> list[Entry]:
        entries = [read(pid) for pid in sight.sessions.get(self._leader, ())]
        if any(entry and entry.pid == self._leader for entry in entries):
            return []  # the pid, free again, was given to a stranger who made a session
        return [entry for entry in entries if entry]

    def _all(self, sight: Sight) -> list[Entry]:
        name, value = self._cookie
        roots = list(sight.cookies(name).get(value, ()))  # first: whoever is in it is then in the table, if alive
        table = sight.table
        if table.get(self._leader) is None:
            roots.append(self._leader)
        known = (table.get(entry.pid) for entry in self._known.values())
        roots += [entry.pid for entry in known if entry and entry.identity in self._known]
        return [entry for root in roots for entry in table.tree(root)]

    def _tell(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.identity in self._told:
                continue
            self._told.add(entry.identity)
            try:
                kill(entry.pid, entry.start, self._asked or signal.SIGKILL)
            except PermissionError:
                self._untouchable.add(entry.identity)
                self._log.warn(
                    "process {pid}, left by {leader}, became another user's and cannot be stopped",
                    pid=entry.pid,
                    leader=self._leader,
                )

    def _poll_later(self) -> None:
        self._poll = self._reactor.callLater(self._delay, self._look_whether_gone)
        self._delay = min(2 * self._delay, _SLOWEST_POLL)

    def _look_whether_gone(self) -> None:
        self._poll = None
        if any(_lives(entry) for entry in self._known.values()):
            self._poll_later()
        else:
            self._look_again()


def _lives(entry: Entry) -> bool:
    now = read(entry.pid)
    return now is not None and now.identity == entry.identity and not now.zombie
