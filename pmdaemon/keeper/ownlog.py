"""The keeper's own short log: what nobody asked for and somebody may have to know later."""

import os
import time
from contextlib import suppress

__all__ = ["OwnLog"]

_MOST = 256 * 1024  # bytes of one file; one older file is kept


class OwnLog:
    """Appends lines to the file at ``path``, where they can be written; standard error goes there too."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()

    def write(self, text: str) -> None:
        """Add an entry, with the time before it; several lines of text stay one entry."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError):
            os.write(2, f"{stamp} [{os.getpid()}] {text}\n".encode(errors="backslashreplace"))
            if os.fstat(2).st_size > _MOST:
                os.replace(self._path, self._path + ".1")
                self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with suppress(OSError):
            fd = os.open(self._path, flags, 0o600)
            os.dup2(fd, 2, inheritable=False)
            if fd > 2:
                os.close(fd)
