"""The keeper's memory: what a keeper after this one must know of the children, one line of JSON for each fact.

Nothing is synced to the disk: it has to outlive the process, and after a power failure no child is left anyway.
"""

import errno
import json
import os
from collections.abc import Iterable
from typing import Any

__all__ = ["Journal", "Record", "read_journal"]

Record = dict[str, Any]

_CHUNK = 1 << 20  # bytes of one write
_SPARE = 1000  # records that may be superfluous before it is worth writing it anew
_json = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """Appends to the file at ``path``, which is created if there is none. OSError where that is impossible."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = _open(path)
        self._size = self._records = self._needed = 0

    def replay(self) -> list[Record]:
        """Return what was written, oldest first; call this before anything else.

        A torn record, of a keeper that was killed or had no space, is left out, and cut off where it is the last.
        """
        records, self._size = read_journal(self.path)
        self._cut()
        self._records = self._needed = len(records)
        return records

    @property
    def overdue(self) -> bool:
        """Whether it has grown so much since it was written anew that it should be again."""
        return self._records > 2 * self._needed + _SPARE

    def append(self, *records: Record) -> None:
        """Write all of them or, where OSError is raised, none."""
        data = b"".join(map(_line, records))
        try:
            _write(self._fd, data)
        except OSError:
            self._cut()
            raise
        self._size += len(data)
        self._records += len(records)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Put these in place of all that was written. OSError leaves what is there."""
        lines = list(map(_line, records))
        data = b"".join(lines)
        draft = self.path + ".new"
        fd = _open(draft, os.O_TRUNC)
        try:
            for start in range(0, len(data), _CHUNK):
                _write(fd, data[start : start + _CHUNK])
            os.rename(draft, self.path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, len(data)
        self._records = self._needed = len(lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _cut(self) -> None:
        """Take off what is left of a record that did not fit, so that the next one begins a line."""
        os.ftruncate(self._fd, self._size)


def read_journal(path: str) -> tuple[list[Record], int]:
    """Return what was written, oldest first, and how many bytes of it are whole lines; somebody may be writing.

    Raises OSError.
    """
    records, size = [], 0
    with open(path, "rb") as file:
        for line in file:
            size += len(line) if line.endswith(b"\n") else 0
            records += _record(line)
    return records, size


def _record(line: bytes) -> list[Record]:
    try:
        record = json.loads(line)
    except ValueError:
        return []
    return [record] if isinstance(record, dict) else []


def _line(record: Record) -> bytes:
    return _json(record).encode() + b"\n"


def _write(fd: int, data: bytes) -> None:
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _open(path: str, flags: int = 0) -> int:
    return os.open(path, flags | os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
