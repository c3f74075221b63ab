"""The pid files that apps ask for: each holds the pid of the child that has been there longest, and goes with the last.

So the old one stays in it while a reload tries a new one out.
"""

import os
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

__all__ = ["PidFiles"]


class PidFiles:
    """Writes pid files; one that cannot be written is logged, and the child runs on without."""

    _log = Logger()

    def __init__(self) -> None:
        self._pids: dict[str, list[int]] = {}

    def add(self, path: str, pid: int) -> None:
        """Have *pid* in *path* until it is removed."""
        pids = self._pids.setdefault(path, [])
        pids.append(pid)
        self._write(path, pids)

    def remove(self, path: str, pid: int) -> None:
        """Take *pid*, whose child has ended, out of *path*."""
        pids = self._pids[path]
        pids.remove(pid)
        if pids:
            self._write(path, pids)
            return
        del self._pids[path]
        with suppress(OSError):
            os.unlink(path)

    def _write(self, path: str, pids: list[int]) -> None:
        """Put the file in place whole, so that nobody reads half a number."""
        file = Path(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            new = file.with_name(f".{file.name}.new")
            new.write_text(f"{pids[0]}\n")
            new.replace(file)
        except OSError as why:
            self._log.warn("cannot write the pid file {path}: {why}", path=path, why=why.strerror)
