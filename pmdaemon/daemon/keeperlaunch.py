"""Starts the keeper of a home, apart from the daemon in every way."""

import ctypes
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from pmdaemon.keeper.upgrade import command

__all__ = ["LaunchedKeeper", "launch_keeper", "socket_path"]

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_SOCKET = 100
_COMPLAINT = 4096
_LOCKED = 75  # exit code of a keeper that finds that another one has the home


class LaunchedKeeper:
    """A keeper of ours; what it complains of is read when it has ended."""

    def __init__(self, process: "subprocess.Popen[bytes]", complaint: int) -> None:
        self._process = process
        self._complaint = complaint

    def failure(self) -> str | None:
        """Return why it has ended again, None while it runs or where another one has the home."""
        code = self._process.poll()
        if code in (None, _LOCKED):
            return None
        said = os.pread(self._complaint, 1 << 20, 0)[-_COMPLAINT:].decode("utf-8", "replace").strip()
        return said.rpartition("\n")[2] or f"it ended at once with {code}"

    def __del__(self) -> None:
        self._process.returncode = self._process.returncode or 0  # nobody waits for it: it is to outlive us
        os.close(self._complaint)


def launch_keeper(home: Path, nofile: tuple[int, int]) -> LaunchedKeeper:
    """Start a keeper and return at once; where one has the home already, the new one ends by itself. Raises OSError.

    *nofile* is the limit of open files that it, and so its children, get. On Linux it becomes the parent of whatever
    its children leave behind, which is set before exec and outlives it.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    complaint = _unnamed_file()

    def prepare() -> None:
        if prctl is not None:
            prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, nofile)

    try:
        process = subprocess.Popen(
            command(str(home)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaint,
            start_new_session=True,
            preexec_fn=prepare,  # short, and no lock that another thread may hold is taken there
        )
    except BaseException:
        os.close(complaint)
        raise
    return LaunchedKeeper(process, complaint)


def _unnamed_file() -> int:
    """Open a file for what the keeper complains of, where no disk that may be full is needed."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("complaint")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def socket_path(home: Path, home_fd: int) -> str:
    """Return where the keeper listens; by way of a descriptor of the home where the path is too long for a socket."""
    path = str(home / "keeper.sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET or home_fd < 0:
        return path
    return f"/proc/self/fd/{home_fd}/keeper.sock"
