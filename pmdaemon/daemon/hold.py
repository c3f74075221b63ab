"""What the daemon holds of a kept child, so that nothing is lost of it while no keeper is there.

A descriptor that stands for the process tells how it ended, whoever reaped it, where the kernel is new enough; reading
ends of its pipes, which are never read here, keep what it printed until a new keeper takes it.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

from pmdaemon.keeper.features import exit_status, has_pidfd
from pmdaemon.keeper.table import read

__all__ = ["Hold"]


class Hold:
    """Holds one child; what cannot be had is done without."""

    def __init__(self, pid: int, start: int, pipes: Iterable[str]) -> None:
        self._pipes: list[int] = []
        for pipe in pipes:
            with suppress(OSError):
                self._pipes.append(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC))
        self._pidfd = _open(pid, start)

    def status(self) -> int | None:
        """Return the wait status of a child that has ended and was reaped; None where it is not known."""
        return None if self._pidfd is None else exit_status(self._pidfd)

    def kill(self) -> None:
        """End it, as nobody else can any more."""
        if self._pidfd is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Hold it no longer."""
        for descriptor in (*self._pipes, self._pidfd):
            if descriptor is not None:
                os.close(descriptor)
        self._pipes, self._pidfd = [], None


def _open(pid: int, start: int) -> int | None:
    if not has_pidfd():
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    entry = read(pid)  # after opening: what the descriptor stands for
    if entry is not None and entry.start == start:
        return pidfd
    os.close(pidfd)
    return None
