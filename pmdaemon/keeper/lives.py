"""The course of each child's life: begun, ended, gone, acknowledged, forgotten. What matters is in the journal first.

Who finds out that one has ended is ``reaper``, what it leaves behind is ``remains``'s.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from pmdaemon.keeper import cgroups
from pmdaemon.keeper.crash import crash_at
from pmdaemon.keeper.journal import Journal
from pmdaemon.keeper.kids import Key, Kid
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.outlets import Outlets
from pmdaemon.keeper.wire import Message

__all__ = ["Lives"]

_TIDY = 0.05  # seconds until what nobody waits for is removed
_RETRY = 1.0  # seconds until the disk may have space again


class Lives:
    """All children that anybody may still have to hear of, by key.

    ``tell`` takes events for the daemon; ``open_outlets`` raises OSError; ``left`` is called when the first process of
    a child has ended, and calls ``gone`` back when nothing is left of it; ``note`` takes what nobody asked for.
    """

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        *,
        tell: Callable[[Message], None],
        open_outlets: Callable[[Kid], Outlets],
        note: Callable[[str], None],
    ) -> None:
        self.kids: dict[Key, Kid] = {}
        self.open_outlets = open_outlets
        self.left: Callable[[Kid], None] = lambda kid: None
        self._loop = loop
        self._journal = journal
        self._tell = tell
        self._note = note
        self._by_pid: dict[int, Kid] = {}
        self._each_second()

    def begin(self, kids: Iterable[Kid]) -> None:
        """Take in children that were forked and must not run before this has succeeded. Raises OSError."""
        kids = list(kids)
        for kid in kids:
            kid.at = time.time()
        self._journal.append(*(kid.birth() for kid in kids))
        for kid in kids:
            self.adopt(kid)

    def adopt(self, kid: Kid) -> None:
        """Take in a child that is in the journal."""
        self.kids[kid.key] = kid
        if kid.own and kid.alive:
            self._by_pid[kid.pid] = kid

    def stillborn(self, kid: Kid, error: Message) -> None:
        """It never became its program: nobody has to hear of it again, but a daemon that came meanwhile."""
        if self.kids.pop(kid.key, None):
            self.record(kid.about("forgotten"))
            self._tell(kid.told("stillborn", error=error))
        if kid.pid:
            self._by_pid[kid.pid] = kid
        else:
            self._clear(kid)
        self._close(kid)

    def reaped(self, pid: int, status: int) -> bool:
        """One of the keeper's own children has ended; False as long as nobody may make the system forget it."""
        kid = self._by_pid.get(pid)
        if kid is not None and kid.settle is not None:
            kid.settle()
        if kid is None:
            return True
        if self.kids.get(kid.key) is not kid:
            self._clear(kid)  # stillborn
        elif not self.ended(kid, status, "child"):
            return False
        del self._by_pid[pid]
        return True

    def ended(self, kid: Kid, status: int | None, how: str) -> bool:
        """It has ended, as far as is known with this wait status; False if that could not be noted.

        ``how`` it is known: "child", of the keeper's own; else "zombie", "pidfd" or, where it is not, "unknown".
        """
        if kid.outlets is not None:
            kid.outlets.drain()
            self._tell_trouble(kid)
        end = kid.outlets.ends if kid.outlets else {}
        facts = {"pid": kid.pid, "status": status, "how": how, "at": time.time(), "end": end}
        if not self.record(kid.about("exit", **facts)):
            return False
        crash_at("after_exit_journal")
        kid.exit = facts
        self._tell(kid.told("exit", **facts))
        # When the system has been let forget it.
        self._loop.soon(lambda: self.left(kid))
        return True

    def gone(self, kid: Kid) -> None:
        """Nothing is left of it."""
        if kid.gone:
            return
        kid.gone = True
        if kid.outlets is not None:
            kid.outlets.drain()  # what those who were left wrote meanwhile
            self._tell_trouble(kid)
        self.record(kid.about("gone"))
        self._clear(kid)
        self._tell(kid.told("gone", end=kid.outlets.ends if kid.outlets else {}))
        self._finish(kid)

    def ack(self, kid: Kid) -> bool:
        """The daemon has taken its end to heart; False if that could not be noted."""
        if not kid.acked:
            crash_at("before_ack")
            kid.acked = self.record(kid.about("acked"))
        self._finish(kid)
        return kid.acked

    def record(self, *records: Message) -> bool:
        """Put them into the journal; False where the disk does not take them."""
        try:
            self._journal.append(*records)
        except OSError as problem:
            self._note(f"cannot write the journal: {problem}")
            return False
        return True

    def compact(self) -> None:
        """Write the journal anew. Raises OSError, and leaves the old one."""
        self._journal.rewrite(record for kid in self.kids.values() for record in kid.records())

    def _each_second(self) -> None:
        self._loop.later(_RETRY, self._each_second)
        if self._journal.overdue:
            with suppress(OSError):
                self.compact()
        for kid in list(self.kids.values()):
            if kid.outlets is None and not kid.gone:
                self.reopen(kid)
            if kid.outlets is not None:
                kid.outlets.tick()
                self._tell_trouble(kid)
            self._finish(kid)

    def reopen(self, kid: Kid) -> None:
        """Open what it prints to; where that is impossible now, it is tried again each second."""
        try:
            kid.outlets = self.open_outlets(kid)
        except OSError as problem:
            self._note(f"cannot take the output of {kid.name}: {problem}")

    def _finish(self, kid: Kid) -> None:
        """Let go of what is not needed any more. What the disk has no space for stays in the pipes until it has."""
        if kid.gone and (kid.outlets is None or not kid.outlets.waiting):
            self._close(kid)
            if kid.acked:
                self.kids.pop(kid.key, None)

    def _tell_trouble(self, kid: Kid) -> None:
        news = kid.outlets.news() if kid.outlets is not None else None
        if news is not None:
            self._tell(kid.told("trouble", **news))

    def _close(self, kid: Kid) -> None:
        if kid.outlets is not None:
            kid.outlets.close()
            kid.outlets = None

    def _clear(self, kid: Kid) -> None:
        if kid.cgroup is not None:
            # Not now: it takes longer than all else about an end, and whoever waits is told first.
            self._loop.later(_TIDY, partial(cgroups.remove, kid.cgroup))
