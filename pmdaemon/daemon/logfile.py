"""Reads a log file, and the index beside it that says when which byte was written.

Whoever writes them is no concern of this: a log is bytes by absolute offset, its index records of RECORD.
"""

import errno
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

__all__ = ["INDEX_SUFFIX", "RECORD", "SPACING", "LogFile", "open_regular"]

INDEX_SUFFIX = ".idx"
RECORD = struct.Struct("<QQ")
"""One record of the index: the Unix time in ms when the byte at an offset was written, and this offset."""
SPACING = 100
"""Milliseconds between two records at least: so far a byte's time may be from that of the record before it."""

_BLOCK = 64 * 1024
_REACH = 16 * 1024 * 1024


def open_regular(path: str, flags: int) -> int:
    """Open a regular file (created with mode 0600) and return its descriptor; OSError for a link, a pipe, a device."""
    # Without O_NONBLOCK the opening of a pipe would wait for its other end.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return descriptor


class LogFile:
    """One log by its path; offsets are absolute and in bytes, a missing file is an empty one.

    The file found first is kept open, also when its path comes to name another. All but ``read`` use little memory
    however large the file. What cannot be read raises OSError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None

    def close(self) -> None:
        """Let go of the file; the next use opens what is at the path then."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def end(self) -> int:
        """Return the offset after the last byte."""
        descriptor = self._open()
        return 0 if descriptor is None else os.fstat(descriptor).st_size

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``; fewer where the file ends before."""
        descriptor = self._open()
        if descriptor is None:
            return b""
        parts = []
        while start < end and (part := os.pread(descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def line_start(self, offset: int) -> int:
        """Return where the line begins that holds the byte before ``offset``; ``offset`` itself after a newline.

        Looks back over at most 16 MiB, and takes the beginning of these for that of a longer line.
        """
        return self._line_start(offset, 1)

    def tail_start(self, lines: int) -> int:
        """Return where the last ``lines`` lines begin; a last line without newline is one too.

        Looks back over at most 16 MiB: where these hold fewer lines, returns the first of them that is whole.
        """
        end = self.end()
        # The last byte is left out: as a newline it ends the last line and begins none.
        return self._line_start(end - 1, lines) if lines > 0 else end

    def _line_start(self, before: int, newlines: int) -> int:
        floor = found = max(0, before - _REACH)
        while before > floor:
            start = max(floor, before - _BLOCK)
            block = self.read(start, before)
            count = block.count(b"\n")
            if count >= newlines:
                return start + _nth_last(block, newlines) + 1
            if count and floor:
                found = start + block.index(b"\n") + 1
            newlines -= count
            before = start
        return found

    def time_at(self, offset: int) -> float | None:
        """Return the Unix time, in seconds, at which the byte at ``offset`` was written, at most 100 ms too early.

        None where the index knows nothing of it.
        """
        with _open_index(self.path) as index:
            place = bisect_right(range(index.records), offset, key=lambda place: index.record(place)[1])
            return index.record(place - 1)[0] / 1000 if place else None

    def offset_at(self, unix_seconds: float) -> int:
        """Return from where on the bytes were written at this time, at most 100 ms before it, or later.

        The end where nothing is that new, or where there is no index.
        """
        after = unix_seconds * 1000 - SPACING
        with _open_index(self.path) as index:
            place = bisect_right(range(index.records), after, key=lambda place: index.record(place)[0])
            return index.record(place)[1] if place < index.records else self.end()

    def _open(self) -> int | None:
        if self._descriptor is None:
            with suppress(FileNotFoundError):
                self._descriptor = open_regular(self.path, os.O_RDONLY)
        return self._descriptor


def _nth_last(block: bytes, newlines: int) -> int:
    at = len(block)
    for _ in range(newlines):
        at = block.rindex(b"\n", 0, at)
    return at


class _Index(NamedTuple):
    """An open index; a torn last record does not count."""

    descriptor: int
    records: int

    def record(self, place: int) -> tuple[int, int]:
        milliseconds, offset = RECORD.unpack(os.pread(self.descriptor, RECORD.size, place * RECORD.size))
        return milliseconds, offset


@contextmanager
def _open_index(path: str) -> Iterator[_Index]:
    """Opened for each question, as these are rare: a descriptor less for each log."""
    try:
        descriptor = open_regular(path + INDEX_SUFFIX, os.O_RDONLY)
    except FileNotFoundError:
        yield _Index(-1, 0)
        return
    try:
        yield _Index(descriptor, os.fstat(descriptor).st_size // RECORD.size)
    finally:
        os.close(descriptor)
