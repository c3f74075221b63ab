"""A child's whole tree: signalled as ordered, and what is left of it when its first process has ended seen to be gone.

Whoever is in its control group belongs to it. Where there is none: its session, what bears its marks, who was seen of
it when it was asked to stop, and all their descendants.
"""

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property, partial

from pmdaemon.keeper import cgroups
from pmdaemon.keeper.kids import Kid
from pmdaemon.keeper.loop import Loop, Timer
from pmdaemon.keeper.table import Entry, Mark, Table, kill, marks, read, snapshot

__all__ = ["Remains"]

_FIRST_POLL, _SLOWEST_POLL = 0.005, 0.1  # seconds between looks whether they have gone; doubled each time


class _Sight:
    """One look at all processes for several children; what nobody asks for is not read."""

    def __init__(self, wanted: Iterable[Mark]) -> None:
        self._wanted = list(wanted)

    @cached_property
    def bearers(self) -> dict[Mark, list[int]]:
        """The pids that bear each mark; read first, as whoever is here is then in the table, if alive."""
        return marks(self._wanted)

    @cached_property
    def table(self) -> Table:
        """All processes."""
        return snapshot()


class Remains:
    """``gone`` is called once for each child after ``left``, when nothing is left of it; ``note`` takes complaints."""

    def __init__(self, loop: Loop, *, gone: Callable[[Kid], None], note: Callable[[str], None]) -> None:
        self._loop = loop
        self._gone = gone
        self._note = note
        self._now: Table | None = None
        self._looking: set[Kid] = set()
        self._polls: dict[Kid, Timer] = {}
        self._not_before = 0.0
        self._due = False
        self._untouchable: set[tuple[int, int]] = set()

    def stop(self, kid: Kid, number: int, scope: str) -> None:
        """Send a signal meant to end it: to its "main" process, its "group", or the whole "tree".

        When the first process has ended, all that is left gets the signal, unless it had it, and time until the next.
        Raises ProcessLookupError when nothing is there to get it, PermissionError when none of it may be signalled.
        """
        if kid.gone:
            raise ProcessLookupError
        kid.asked = number
        if not kid.alive:
            kid.known = dict.fromkeys(kid.known, False)
            self.left(kid)
            return
        tree = self._tree_now(kid)  # before the signal, which may orphan them
        kid.known = {entry.identity: False for entry in tree if entry.pid != kid.pid}
        self._send(kid, number, scope)
        for entry in tree:
            kid.known[entry.identity] = _had(entry, kid, scope)
        if scope == "tree":
            self._tell(kid, tree)

    def relay(self, kid: Kid, number: int, scope: str) -> None:
        """Send a signal that is not meant to end it; raises as ``stop``."""
        if not kid.alive:
            raise ProcessLookupError
        tree = self._tree_now(kid) if scope == "tree" else []
        self._send(kid, number, scope)
        for entry in tree:
            if not _had(entry, kid, scope):
                with suppress(PermissionError):
                    kill(*entry.identity, number)

    def left(self, kid: Kid) -> None:
        """The first process has ended and been reaped: see that the rest goes. After no stop, by SIGKILL at once."""
        self._looking.add(kid)
        if kid in self._polls:
            self._polls.pop(kid).cancel()
        if not self._due:
            self._due = True
            self._loop.later(max(0.0, self._not_before - self._loop.now()), self._look)

    def _tree_now(self, kid: Kid) -> list[Entry]:
        """Who can be seen to belong to it now, as seen in this turn."""
        if kid.cgroup is not None:
            return _read_all(pid for pid in cgroups.members(kid.cgroup) if pid != kid.pid)
        if self._now is None:
            self._now = snapshot()
            self._loop.soon(self._end_turn)
        return self._now.tree(kid.pid)

    def _end_turn(self) -> None:
        self._now = None

    def _send(self, kid: Kid, number: int, scope: str) -> None:
        """To the first process, which has not been reaped, or to its group."""
        if not kid.own and _gone(kid.pid, kid.start):
            raise ProcessLookupError
        if scope == "main":
            os.kill(kid.pid, number)
        else:
            os.killpg(kid.pid, number)

    def _look(self) -> None:
        """For all who wait for a look, with one sight."""
        self._due = False
        began = self._loop.now()
        kids, self._looking = self._looking, set()
        sight = _Sight(mark for kid in kids if kid.cgroup is None for mark in kid.marks)
        for kid in kids:
            self._see(kid, sight)
        ended = self._loop.now()
        self._not_before = ended + (ended - began)  # so that many who end one by one do not cost a look each

    def _see(self, kid: Kid, sight: _Sight) -> None:
        if kid.cgroup is not None and cgroups.is_empty(kid.cgroup):
            self._gone(kid)
            return
        found = _read_all(cgroups.members(kid.cgroup)) if kid.cgroup is not None else _find(kid, sight)
        left = [entry for entry in found if not entry.zombie]
        self._tell(kid, left)
        left = [entry for entry in left if entry.identity not in self._untouchable]
        kid.known = {entry.identity: kid.known.get(entry.identity, False) for entry in left}
        if left:
            self._poll_later(kid, _FIRST_POLL)
        elif kid.cgroup is None and _ended_meanwhile(kid, sight):
            self.left(kid)
        else:
            self._gone(kid)

    def _poll_later(self, kid: Kid, delay: float) -> None:
        self._polls[kid] = self._loop.later(delay, partial(self._poll, kid, delay))

    def _poll(self, kid: Kid, delay: float) -> None:
        del self._polls[kid]
        if any(not _gone(*identity) for identity in kid.known):
            self._poll_later(kid, min(2 * delay, _SLOWEST_POLL))
        else:
            self.left(kid)

    def _tell(self, kid: Kid, entries: Iterable[Entry]) -> None:
        """Give those the last signal that have not had it."""
        number = kid.asked or signal.SIGKILL
        if number == signal.SIGKILL and kid.cgroup is not None:
            cgroups.kill_all(kid.cgroup)
        for entry in entries:
            if kid.known.get(entry.identity) or entry.identity in self._untouchable:
                continue
            kid.known[entry.identity] = True
            try:
                kill(*entry.identity, number)
            except PermissionError:
                self._untouchable.add(entry.identity)
                self._note(f"process {entry.pid}, left by {kid.name}, became another user's and cannot be stopped")


def _had(entry: Entry, kid: Kid, scope: str) -> bool:
    """Whether a signal of this scope has reached it."""
    return entry.pid == kid.pid or (scope != "main" and entry.group == kid.pid)


def _find(kid: Kid, sight: _Sight) -> list[Entry]:
    roots = [pid for mark in kid.marks for pid in sight.bearers[mark]]
    table = sight.table
    leader = table.get(kid.pid)
    # If the pid was free for long, it may have been another's, whose session is not ours to touch.
    if kid.seen and (leader is None or leader.start == kid.start):
        roots.append(kid.pid)
    known = (table.get(pid) for pid, _ in kid.known)
    roots += [entry.pid for entry in known if entry and entry.identity in kid.known]
    return list({entry.pid: entry for root in roots for entry in table.tree(root)}.values())


def _ended_meanwhile(kid: Kid, sight: _Sight) -> bool:
    """Tell whether one lived when marks were read and had ended when the table was: it may have left another.

    Of one that has ended the environment cannot be read, while its brand can until it is reaped.
    """
    for mark in kid.marks:
        for pid in sight.bearers[mark]:
            entry = sight.table.get(pid)
            if entry is None or (entry.zombie and mark[0] != "brand"):
                return True
    return False


def _read_all(pids: Iterable[int]) -> list[Entry]:
    return [entry for pid in pids if (entry := read(pid))]


def _gone(pid: int, start: int) -> bool:
    entry = read(pid)
    return entry is None or entry.start != start or entry.zombie
