"""The log files that are written to now, each once however many children use it; by us, or by a keeper."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pmdaemon.daemon.logwriter import LogWriter
from pmdaemon.keeper.identity import Owner, acting_as

__all__ = ["OpenLogs"]


class OpenLogs:
    """Files in use. With *writes* false somebody else opens and writes them, and only their directories are made.

    *now* is in unix seconds; *told* is called as by `LogWriter`.
    """

    def __init__(self, now: Callable[[], float], told: Callable[[str, int, int], None], *, writes: bool) -> None:
        self._now = now
        self._told = told
        self._writes = writes
        self._users: dict[str, int] = {}
        self._writers: dict[str, LogWriter] = {}

    def open(self, paths: Iterable[str], owner: Callable[[str], Owner | None] = lambda path: None) -> list[str]:
        """Use *paths* once more; return those nobody used before. Raises OSError, with none of them in use.

        *owner* tells as whom to handle one.
        """
        opened: list[str] = []
        fresh: list[str] = []
        try:
            for path in paths:
                if path not in self._users:
                    with acting_as(owner(path)):
                        self._begin(path)
                    fresh.append(path)
                self._users[path] = self._users.get(path, 0) + 1
                opened.append(path)
        except OSError:
            self.close(opened)
            raise
        return fresh

    def _begin(self, path: str) -> None:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._writes:
            self._writers[path] = LogWriter(path, now=self._now, told=self._told)

    def write(self, path: str, data: bytes) -> None:
        """Append to a file in use."""
        if path in self._writers:
            self._writers[path].append(data)

    def reopen(self) -> list[str]:
        """Turn to the files that are at the paths now; return those that cannot be opened, and why."""
        failed = []
        for path, writer in self._writers.items():
            try:
                writer.reopen()
            except OSError as why:
                failed.append(f"{path}: {why.strerror}")
        return failed

    def close(self, paths: Iterable[str]) -> None:
        """Use *paths* once less, and close those that nobody uses any more."""
        for path in paths:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                if path in self._writers:
                    self._writers.pop(path).close()

    def shut(self) -> None:
        """Close everything."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._users.clear()
