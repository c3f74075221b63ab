"""Starts the keeper of a home, apart from the daemon in every way."""

import ctypes
import subprocess
import sys
from pathlib import Path

from pmdaemon.keeper.upgrade import command

__all__ = ["launch_keeper", "socket_path"]

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_SOCKET = 100


def launch_keeper(home: Path) -> None:
    """Start a keeper and return at once; where one has the home already, the new one ends by itself.

    On Linux it becomes the parent of whatever its children leave behind, which is set before exec and outlives it.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def become_subreaper() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    subprocess.Popen(
        command(str(home)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=become_subreaper,  # the daemon has no threads at this point
    ).returncode = 0  # nobody waits for it: it is to outlive us


def socket_path(home: Path, home_fd: int) -> str:
    """Return where the keeper listens; by way of a descriptor of the home where the path is too long for a socket."""
    path = str(home / "keeper.sock")
    return path if len(path) <= _LONGEST_SOCKET else f"/proc/self/fd/{home_fd}/keeper.sock"
