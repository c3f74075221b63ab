"""The pid files that apps ask for: each holds the pid of the child that has been there longest, and goes with the last.

So the old one stays in it while a reload tries a new one out.
"""

import os
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from pmdaemon.keeper.identity import Owner, acting_as

__all__ = ["PidFiles"]


class PidFiles:
    """Writes pid files; one that cannot be written is logged, and the child runs on without."""

    _log = Logger()

    def __init__(self) -> None:
        self._pids: dict[str, list[int]] = {}
        self._owners: dict[str, Owner | None] = {}

    def add(self, path: str, pid: int, owner: Owner | None = None) -> None:
        """Have *pid* in *path* until it is removed; *owner* is whom the file is handled as."""
        pids = self._pids.setdefault(path, [])
        pids.append(pid)
        self._owners[path] = owner
        self._write(path, pids)

    def remove(self, path: str, pid: int) -> None:
        """Take *pid*, whose child has ended, out of *path*."""
        pids = self._pids[path]
        pids.remove(pid)
        if pids:
            self._write(path, pids)
            return
        del self._pids[path]
        with suppress(OSError), acting_as(self._owners.pop(path)):
            os.unlink(path)

    def _write(self, path: str, pids: list[int]) -> None:
        """Put the file in place whole, so that nobody reads half a number."""
        file = Path(path)
        new = file.with_name(f".{file.name}.new")
        try:
            with acting_as(self._owners[path]):
                file.parent.mkdir(parents=True, exist_ok=True)
                new.unlink(missing_ok=True)  # where it is a link, what it leads to is not ours to write
                with new.open("x") as written:
                    written.write(f"{pids[0]}\n")
                new.replace(file)
        except OSError as why:
            self._log.warn("cannot write the pid file {path}: {why}", path=path, why=why.strerror)
