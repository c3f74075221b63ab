"""Learns how children end, and lets the system forget them only when that has been noted.

The keeper's own it is told of as their parent. Those of a keeper that died are nobody's: of them the kernel tells
through a descriptor that was open before they ended, if it is new enough.
"""

import os
import signal
from collections.abc import Callable
from functools import partial

from pmdaemon.keeper.features import allowed, exit_status, has_pidfd
from pmdaemon.keeper.kids import Kid
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.table import Entry, read

__all__ = ["Orphans", "Reaper"]

_RETRY = 1.0  # seconds until the disk may have space again
_POLL = 0.1  # seconds, where nobody tells when a process ends


class Reaper:
    """``reaped(pid, status)`` is called for each child that has ended, before the system forgets it, if it says so."""

    def __init__(self, loop: Loop, reaped: Callable[[int, int], bool]) -> None:
        self._loop = loop
        self._reaped = reaped
        self._pending: tuple[int, int] | None = None
        self._can_look = hasattr(os, "waitid") and allowed("waitid")
        loop.on_signal(signal.SIGCHLD, self.reap)

    def reap(self) -> None:
        """Deal with all who have ended."""
        while ended := self._next():
            if not self._reaped(*ended):
                self._loop.later(_RETRY, self.reap)
                return
            self._pending = None
            if self._can_look:
                os.waitpid(ended[0], 0)

    def _next(self) -> tuple[int, int] | None:
        """The pid and wait status of one; where the system cannot tell without forgetting, of the last as needed."""
        if self._pending is None:
            try:
                self._pending = _look() if self._can_look else _wait()
            except ChildProcessError:
                return None
        return self._pending


def _look() -> tuple[int, int] | None:
    info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if info is None:
        return None
    dumped = 0x80 if info.si_code == os.CLD_DUMPED else 0
    return info.si_pid, info.si_status << 8 if info.si_code == os.CLD_EXITED else info.si_status | dumped


def _wait() -> tuple[int, int] | None:
    pid, status = os.waitpid(-1, os.WNOHANG)
    return (pid, status) if pid else None


class Orphans:
    """Children of a keeper that died; ``ended(kid, status, how)`` is called until it returns true."""

    def __init__(self, loop: Loop, ended: Callable[[Kid, int | None, str], bool]) -> None:
        self._loop = loop
        self._ended = ended

    def watch(self, kid: Kid) -> None:
        """Find out when it ends and, where that can be, how."""
        pidfd = _open(kid.pid) if has_pidfd() else None
        # Looked at after it was opened, so that it cannot be a later process's.
        if pidfd is not None and _same(kid):
            self._loop.watch(pidfd, partial(self._heard, kid, pidfd))
            return
        if pidfd is not None:
            os.close(pidfd)
        self._poll(kid)

    def lost(self, kid: Kid) -> None:
        """It has ended while nobody watched: nobody knows how."""
        if not self._ended(kid, None, "unknown"):
            self._loop.later(_RETRY, partial(self.lost, kid))

    def _heard(self, kid: Kid, pidfd: int) -> None:
        self._loop.forget(pidfd)
        self._tell(kid, pidfd)

    def _poll(self, kid: Kid) -> None:
        entry = _same(kid)
        if entry is None or entry.zombie:
            self._tell(kid, None)
        else:
            self._loop.later(_POLL, partial(self._poll, kid))

    def _tell(self, kid: Kid, pidfd: int | None) -> None:
        status, how = _how(kid, pidfd)
        if not self._ended(kid, status, how):
            self._loop.later(_RETRY, partial(self._tell, kid, pidfd))
        elif pidfd is not None:
            os.close(pidfd)


def _how(kid: Kid, pidfd: int | None) -> tuple[int | None, str]:
    """How it ended: its parent may or may not have taken notice of it yet."""
    entry = _same(kid)
    if entry is not None and entry.status is not None:
        return entry.status, "zombie"
    status = exit_status(pidfd) if pidfd is not None else None
    return status, "unknown" if status is None else "pidfd"


def _same(kid: Kid) -> Entry | None:
    entry = read(kid.pid)
    return entry if entry is not None and entry.start == kid.start else None


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
