"""How a log lies on disk: the names of its files, the records of its index, and at which offset a file begins.

Offsets are absolute: they count the bytes of a log from its first day and never go back. PATH is the file that is
written to. A rotation makes it a segment, PATH.START, named by the offset of its first byte; compressed it is
PATH.START.gz. PATH.idx, and PATH.START.idx of a segment, tell the time: records of RECORD, the first of them with time
0 and the offset at which the file begins. Where this first one is missing (a log that was never rotated need not have
it), the file begins where the newest segment ends, or at 0. PATH.new and PATH.idx.new are there during a rotation.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from pmdaemon.keeper.packed import PackedFile

__all__ = [
    "INDEX_SUFFIX",
    "NEW_SUFFIX",
    "PACKED_SUFFIX",
    "RECORD",
    "SPACING",
    "Index",
    "Segment",
    "all_segments",
    "base_of",
    "open_index",
    "open_regular",
    "remove_log",
    "segment_path",
    "segments",
]

INDEX_SUFFIX = ".idx"
PACKED_SUFFIX = ".gz"
PARTIAL_SUFFIX = ".tmp"
NEW_SUFFIX = ".new"
"""Of the next current file and its index, while a rotation prepares them."""
RECORD = struct.Struct("<QQ")
"""One record of the index: the Unix time in ms when the byte at an offset was written, and this offset."""
SPACING = 100
"""Milliseconds between two records at least: so far a byte's time may be from that of the record before it."""

_SEGMENT = re.compile(r"(.+)\.(\d{15,})(\.gz|\.idx)?", re.DOTALL)


def open_regular(path: str, flags: int) -> int:
    """Open a regular file (created with mode 0600) and return its descriptor; OSError for a link, a pipe, a device."""
    # Without O_NONBLOCK the opening of a pipe would wait for its other end.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return descriptor


def segment_path(path: str, start: int) -> str:
    """Return the name of the segment of log *path* that begins at *start*, while it is not compressed."""
    return f"{path}.{start:015d}"


class Segment(NamedTuple):
    """A file that was the current one of log ``log`` once, and begins at ``start``."""

    log: str
    start: int
    packed: bool

    @property
    def plain_path(self) -> str:
        """What it is named while it is not compressed."""
        return segment_path(self.log, self.start)

    @property
    def packed_path(self) -> str:
        """What it is named once it is compressed."""
        return self.plain_path + PACKED_SUFFIX

    @property
    def partial_path(self) -> str:
        """What its compressed form is named before it is whole."""
        return self.packed_path + PARTIAL_SUFFIX

    @property
    def index_path(self) -> str:
        """What its index is named."""
        return self.plain_path + INDEX_SUFFIX

    @property
    def path(self) -> str:
        """Where its bytes are."""
        return self.packed_path if self.packed else self.plain_path

    def end(self) -> int:
        """Return the offset after its last byte; OSError where it cannot be read."""
        if not self.packed:
            # It may have been compressed meanwhile.
            with suppress(FileNotFoundError):
                return self.start + os.stat(self.plain_path).st_size
        packed = PackedFile(open_regular(self.packed_path, os.O_RDONLY), self.start)
        try:
            return packed.end()
        finally:
            packed.close()

    def remove(self) -> None:
        """Delete it in all its forms, then its index; what is gone already is no error."""
        # In the order in which it becomes one and the other, so that whoever is at it does not bring it back.
        for path in (self.partial_path, self.packed_path, self.plain_path, self.index_path):
            with suppress(FileNotFoundError):
                os.unlink(path)


def segments(path: str) -> list[Segment]:
    """Return the segments of a log, oldest first, each once: one that is there in both forms as not compressed."""
    directory, name = os.path.split(path)
    return _listed(directory, name + ".").get(path, [])


def all_segments(directory: str) -> dict[str, list[Segment]]:
    """Return the segments of all logs in a directory, by the path of the log, as ``segments`` does."""
    return _listed(directory, "")


def _listed(directory: str, prefix: str) -> dict[str, list[Segment]]:
    try:
        # All that belongs to one log begins alike, so few names are looked at closely.
        entries = sorted(entry for entry in os.listdir(directory or ".") if entry.startswith(prefix))
    except FileNotFoundError:
        return {}
    found: dict[str, dict[int, Segment]] = {}
    for match in filter(None, map(_SEGMENT.fullmatch, entries)):
        path, start = os.path.join(directory, match[1]), int(match[2])
        # The other form comes before the compressed one, and both before the index.
        if start not in found.setdefault(path, {}):
            segment = Segment(path, start, match[3] is not None)
            # One that is being compressed may have had neither name when each was looked for.
            if match[3] != INDEX_SUFFIX or os.path.lexists(segment.path):
                found[path][start] = segment
    return {path: sorted(starts.values()) for path, starts in found.items() if starts}


class Index(NamedTuple):
    """An open index; a torn last record does not count, nor does the first one where it tells the beginning."""

    descriptor: int
    base: int | None
    """At which offset the file begins that it belongs to; None where it does not say so."""
    records: int

    def record(self, place: int) -> tuple[int, int]:
        """Return time and offset of the record at *place*, from 0 to ``records`` - 1."""
        return _record(self.descriptor, place + (self.base is not None))


@contextmanager
def open_index(path: str) -> Iterator[Index]:
    """Have the index at *path* open; a missing one is an empty one."""
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except FileNotFoundError:
        yield Index(-1, None, 0)
        return
    try:
        count = os.fstat(descriptor).st_size // RECORD.size
        milliseconds, offset = _record(descriptor, 0) if count else (1, 0)
        yield Index(descriptor, None, count) if milliseconds else Index(descriptor, offset, count - 1)
    finally:
        os.close(descriptor)


def _record(descriptor: int, place: int) -> tuple[int, int]:
    milliseconds, offset = RECORD.unpack(os.pread(descriptor, RECORD.size, place * RECORD.size))
    return milliseconds, offset


def base_of(path: str) -> int:
    """Return at which offset the current file of a log begins, or would begin if there is none."""
    with open_index(path + INDEX_SUFFIX) as index:
        if index.base is not None:
            return index.base
    rotated = segments(path)
    return rotated[-1].end() if rotated else 0


def remove_log(path: str) -> None:
    """Delete a log with all that belongs to it; what is gone already is no error."""
    for segment in segments(path):
        segment.remove()
    for name in (path, path + INDEX_SUFFIX, path + NEW_SUFFIX, path + INDEX_SUFFIX + NEW_SUFFIX):
        with suppress(FileNotFoundError):
            os.unlink(name)
