"""Reads a log by absolute offset, across its segments, and the indexes that say when which byte was written.

Whoever writes them is no concern of this, nor how they lie on disk: that is ``keeper.layout``'s.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeVar, cast

from pmdaemon.keeper.identity import Owner, acting_as
from pmdaemon.keeper.layout import (
    INDEX_SUFFIX,
    NEW_SUFFIX,
    RECORD,
    SPACING,
    Index,
    Segment,
    base_of,
    open_index,
    open_regular,
    segment_path,
    segments,
)
from pmdaemon.keeper.packed import PackedFile

__all__ = ["INDEX_SUFFIX", "RECORD", "SPACING", "LogFile", "open_regular"]

_BLOCK = 64 * 1024
_REACH = 16 * 1024 * 1024
_OLDER = 2
"""Files other than the one that is written to which are kept open at most, while they are read."""
_LISTINGS = 3
_PATIENCE = 50
"""How often to look for a file that has just been renamed and is to be replaced at once."""


Method = TypeVar("Method", bound=Callable[..., Any])


def _as_owner(empty: Callable[..., Any]) -> Callable[[Method], Method]:
    """Have a method find and open files as the log's owner, who may put anything in their place.

    What cannot be read then is as good as not there: the method returns what *empty* does with its arguments.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def acting(self: "LogFile", *args: Any) -> Any:
            if self.owner is None:
                return method(self, *args)
            try:
                with acting_as(self.owner):
                    return method(self, *args)
            except OSError:
                return empty(*args)

        return cast("Method", acting)

    return decorate


class LogFile:
    """One log by its path; offsets are absolute and in bytes, a missing log is an empty one.

    The file that is written to is kept open until another takes its place; then until that one is read. Segments are
    opened when something of them is asked for. All but ``read`` use little memory however large the log. What cannot
    be read raises OSError. *owner* is whom it is read as, None for whoever we
    are; what an owner keeps from being read is empty, too.
    """

    def __init__(self, path: str, owner: Owner | None = None) -> None:
        self.path = path
        self.owner = owner
        self._current: _PlainFile | None = None
        self._older: list[_File] = []

    def close(self) -> None:
        """Let go of all files; the next use opens what is there then."""
        self._close_older()
        if self._current is not None:
            self._current.close()
            self._current = None

    @property
    @_as_owner(lambda: 0)
    def base(self) -> int:
        """The offset of the oldest byte that is still there."""
        begin = self._current.base if self._sync() and self._current is not None else self.end()
        old = segments(self.path) if begin else []
        return min(begin, old[0].start) if old else begin

    @_as_owner(lambda: 0)
    def end(self) -> int:
        """Return the offset after the last byte."""
        settled = self._sync()
        end = self._current.end() if self._current is not None else 0
        old = [] if settled else segments(self.path)
        return max(end, old[-1].end()) if old else end

    @_as_owner(lambda start, end: b"")
    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``; fewer where the log ends before, or some are no longer there."""
        parts = []
        while start < end and (file := self._holding(start)) is not None:
            if file is self._current:
                self._close_older()
            part = file.read(start, end)
            if not part:
                break
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    @_as_owner(lambda offset: offset)
    def line_start(self, offset: int) -> int:
        """Return where the line begins that holds the byte before ``offset``; ``offset`` itself after a newline.

        Looks back over at most 16 MiB, and takes the beginning of these for that of a longer line.
        """
        return self._line_start(offset, 1)

    @_as_owner(lambda lines: 0)
    def tail_start(self, lines: int) -> int:
        """Return where the last ``lines`` lines begin; a last line without newline is one too.

        Looks back over at most 16 MiB: where these hold fewer lines, returns the first of them that is whole.
        """
        end = self.end()
        # The last byte is left out: as a newline it ends the last line and begins none.
        return self._line_start(end - 1, lines) if lines > 0 and end else end

    def _line_start(self, before: int, newlines: int) -> int:
        floor = found = max(0, before - _REACH)
        while before > floor:
            file = self._holding(before - 1)
            if file is None:
                return before
            start = max(floor, before - _BLOCK, file.base)
            block = file.read(start, before)
            count = block.count(b"\n")
            if count >= newlines:
                return start + _nth_last(block, newlines) + 1
            if count and floor:
                found = start + block.index(b"\n") + 1
            newlines -= count
            before = start
        return found

    @_as_owner(lambda offset: None)
    def time_at(self, offset: int) -> float | None:
        """Return the Unix time, in seconds, at which the byte at ``offset`` was written, at most 100 ms too early.

        None where the index knows nothing of it.
        """
        file = self._holding(offset)
        if file is None:
            return None
        with self._index(file.base) as index:
            place = bisect_right(range(index.records), offset, key=lambda place: index.record(place)[1])
            return index.record(place - 1)[0] / 1000 if place else None

    @_as_owner(lambda unix_seconds: 0)
    def offset_at(self, unix_seconds: float) -> int:
        """Return from where on the bytes were written at this time, at most 100 ms before it, or later.

        The end where nothing is that new, or where there is no index.
        """
        after = unix_seconds * 1000 - SPACING
        found = self.end()
        for base in self._bases():
            with self._index(base) as index:
                place = bisect_right(range(index.records), after, key=lambda place: index.record(place)[0])
                if place < index.records:
                    found = index.record(place)[1]
            if place:
                break
        return found

    # Which file

    def _holding(self, offset: int) -> "_File | None":
        """Return the file that holds the byte at *offset*, or will when it is written."""
        # A listing that is made while files are renamed may lack some.
        for _ in range(_LISTINGS):
            settled, current = self._sync(), self._current
            if current is not None and offset >= current.base and (settled or offset < current.end()):
                return current
            if settled and current is None:
                return None
            older = self._older_holding(offset)
            if older is not None:
                return older
        return None

    def _older_holding(self, offset: int) -> "_File | None":
        for kept in self._older:
            if kept.base <= offset < kept.end():
                return kept
        begun = [segment for segment in segments(self.path) if segment.start <= offset]
        file = _opened(begun[-1]) if begun else None
        if file is not None and offset >= file.end():
            file.close()
            return None
        if file is not None:
            self._keep(file)
        return file

    def _bases(self) -> Iterator[int]:
        """Where the files begin, newest first."""
        self._sync()
        if self._current is not None:
            yield self._current.base
        if self._current is None or self._current.base:
            yield from (segment.start for segment in reversed(segments(self.path)))

    @contextmanager
    def _index(self, base: int) -> Iterator[Index]:
        """Open the index of the file that begins at *base*; an empty one if there is none."""
        own = segment_path(self.path, base) + INDEX_SUFFIX
        with open_index(own if os.path.lexists(own) else self.path + INDEX_SUFFIX) as index:
            yield index if (index.base or 0) == base else Index(-1, None, 0)

    def _sync(self) -> bool:
        """Turn to the file that is written to now; False if there is none as the writer died between two of them."""
        for _ in range(_PATIENCE):
            there = _look(self.path)
            # Looked for again, as the next one may just have come to its place.
            if there is None and not os.path.lexists(self.path + NEW_SUFFIX) and _look(self.path) is None:
                return True
            if there is not None and (self._is_at(there) or self._turn()):
                return True
        return False

    def _is_at(self, there: os.stat_result) -> bool:
        return self._current is not None and self._current.is_at(there)

    def _turn(self) -> bool:
        """Open what is at the path; False if it is gone already."""
        opened, current = _open_current(self.path), self._current
        if opened is None:
            return False
        if current is not None and current.goes_on_beside(opened):
            opened.close()
            return True
        if current is not None:
            self._keep(current)
        self._current = opened
        return True

    def _keep(self, file: "_File") -> None:
        self._older.insert(0, file)
        for surplus in self._older[_OLDER:]:
            surplus.close()
        del self._older[_OLDER:]

    def _close_older(self) -> None:
        for file in self._older:
            file.close()
        self._older.clear()


class _PlainFile:
    """An open file that begins at ``base``; its descriptor is closed with it."""

    def __init__(self, descriptor: int, base: int) -> None:
        self.base = base
        self._descriptor = descriptor
        there = os.fstat(descriptor)
        self._identity = there.st_dev, there.st_ino

    def close(self) -> None:
        os.close(self._descriptor)

    def end(self) -> int:
        return self.base + os.fstat(self._descriptor).st_size

    def read(self, start: int, end: int) -> bytes:
        parts = []
        while start < end and (part := os.pread(self._descriptor, end - start, start - self.base)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def is_at(self, there: os.stat_result) -> bool:
        return self._identity == (there.st_dev, there.st_ino)

    def goes_on_beside(self, other: "_PlainFile") -> bool:
        """Whether this, and not *other* which has its name now, is still written to: it was only moved away."""
        there = os.fstat(self._descriptor)
        return other.base == self.base and there.st_size > 0 and there.st_nlink > 0


_File = _PlainFile | PackedFile


def _open_current(path: str) -> _PlainFile | None:
    while True:
        try:
            descriptor = open_regular(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            file = _PlainFile(descriptor, base_of(path))
        except OSError:
            os.close(descriptor)
            raise
        # A rotation renames the file before its index, and replaces it after that: what was read belongs together.
        there = _look(path)
        if there is not None and file.is_at(there):
            return file
        file.close()


def _opened(segment: Segment) -> _File | None:
    """Open a segment in the form it has now; None if it has been deleted."""
    if not segment.packed:
        with suppress(FileNotFoundError):
            return _PlainFile(open_regular(segment.plain_path, os.O_RDONLY), segment.start)
    with suppress(FileNotFoundError):
        return PackedFile(open_regular(segment.packed_path, os.O_RDONLY), segment.start)
    return None


def _look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _nth_last(block: bytes, newlines: int) -> int:
    at = len(block)
    for _ in range(newlines):
        at = block.rindex(b"\n", 0, at)
    return at
