"""Who had what done, or was told secrets: lines in the daemon's log and in a file of the home that is kept apart.

No configuration and no token is ever in it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twisted.logger import Logger

from pmdaemon.core.access import Caller
from pmdaemon.core.commands import Command, GetConfig
from pmdaemon.core.times import rfc3339

__all__ = ["Audit"]

MAX_SIZE: Final = 10 * 1024 * 1024
"""Bytes; then the file is put aside as ``.1``, in the place of the one before."""


class Audit:
    """Writes to *path*; *now* gives unix seconds. A file that cannot be written is told of in the log."""

    log = Logger()

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now

    def record(self, caller: Caller, request: Command | GetConfig, outcome: str) -> None:
        """Take down what became of a request: ``ok``, ``begun`` where nobody waits, or the code of an error."""
        # ASCII alone, so that nothing that somebody called a process can forge a line or command a terminal.
        line = json.dumps(
            {
                "at": rfc3339(self._now()),
                "client": caller.name,
                "kind": caller.kind,
                "action": request.action if isinstance(request, Command) else request.type,
                "process": request.process,
                "outcome": outcome,
            }
        )
        self.log.info("audit: {line}", line=line)
        try:
            self._append(line.encode("ascii") + b"\n")
        except OSError as why:
            self.log.error("cannot write the audit file {path}: {why}", path=str(self._path), why=why.strerror)

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.write(descriptor, line)
            full = os.fstat(descriptor).st_size >= MAX_SIZE
        finally:
            os.close(descriptor)
        if full:
            self._path.replace(f"{self._path}.1")
