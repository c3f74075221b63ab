"""Writes one log that never ends: a current file, which becomes a segment and begins anew where its limits say so.

Others put the bytes into it, by its descriptor, and tell it of them. Old segments are ``housekeeper``'s.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from pmdaemon.keeper.crash import crash_at
from pmdaemon.keeper.identity import Owner, acting_as
from pmdaemon.keeper.layout import (
    INDEX_SUFFIX,
    NEW_SUFFIX,
    RECORD,
    SPACING,
    all_segments,
    base_of,
    open_index,
    open_regular,
    segment_path,
    segments,
)

__all__ = ["SLACK", "Limits", "SegmentedLog"]

SLACK = 64 * 1024
"""Bytes by which a file may pass its limit while its last line is unfinished."""

_MIB = 1 << 20
_RETRY_AFTER = 60
_NEVER = float("-inf")


class Limits(NamedTuple):
    """When a log's file is closed, and what is kept of it afterwards; sizes in bytes, times in seconds.

    A file may pass ``max_size`` (0: there is no such limit) and ``max_age``, since its first byte, to end with a whole
    line. ``max_files`` old ones are kept, as long as all of the log takes no more than ``total`` on disk.
    """

    max_size: int = 50 * _MIB
    max_files: int = 10
    compress: bool = True
    max_age: float | None = None
    total: int | None = 500 * _MIB

    @classmethod
    def from_wire(cls, values: Mapping[str, Any]) -> "Limits":
        """Take what is given of them and the defaults for the others; keys of another meaning are left alone."""
        return cls(**{name: values[name] for name in cls._fields if name in values})


class SegmentedLog:
    """The log at *path*, created where its directory exists; OSError where it cannot be opened.

    *now* is Unix time in seconds. ``fd`` is where to write, at its own position; it changes when the file does.
    *tidy* is called when segments may have to be compressed or deleted: now if there are any, and after each rotation.

    *owner* is whom its files are handled as, None for whoever we are; bytes go by descriptors that were opened so.

    What others do to the file is met here too: bytes appended to it count, one that was emptied or deleted is replaced
    by another, and one that was moved away is written on until ``reopen`` or the next rotation.
    """

    def __init__(
        self,
        path: str,
        limits: Limits,
        *,
        now: Callable[[], float],
        tidy: Callable[["SegmentedLog"], None] = lambda log: None,
        owner: Owner | None = None,
    ) -> None:
        self.path = path
        self.limits = limits
        self.owner = owner
        self._index_path = path + INDEX_SUFFIX
        self._now = now
        self._tidy = tidy
        self._stamped = self._not_before = _NEVER
        self._began: float | None = None
        self._over_from: int | None = None
        with acting_as(owner):
            self._begin()
        if path in _rotated_logs(os.path.dirname(path)):
            tidy(self)

    def _begin(self) -> None:
        self._finish_rotation()
        self.base = base_of(self.path) if _has_past(self.path) else 0
        """The offset of the first byte of the current file."""
        self.fd, self._index = self._open()
        self.end = self.base + os.lseek(self.fd, 0, os.SEEK_END)
        """The offset after the last byte."""
        try:
            self._take_up_index()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        _close(self.fd, self._index)

    # What goes in

    def room(self) -> int:
        """Return how many bytes may be moved into the file next; 1 where a line has to end for it to be rotated.

        To be asked before each move, as this finds out whether others have changed the file. Raises OSError where it
        has to be replaced and cannot be.
        """
        there = os.fstat(self.fd)
        size = self.end - self.base
        if there.st_size < size or not there.st_nlink:
            self.rotate()
        elif there.st_size > size:
            self.end = self.base + os.lseek(self.fd, 0, os.SEEK_END)
        if self._over() is not None:
            return 1
        left = self.limits.max_size - (self.end - self.base)
        return left if left > 0 else _MIB

    def took(self, size: int) -> None:
        """Note that *size* bytes were just written to ``fd``."""
        start = self.end
        self.end += size
        milliseconds = int(self._now() * 1000)
        # The clock may have been set back.
        if abs(milliseconds - self._stamped) >= SPACING:
            self._stamp(milliseconds, start)

    def append(self, data: bytes, *, apart: bool = False) -> int:
        r"""Write *data*; return how much of it was written: all, or less where the disk is full.

        *apart* puts a newline before it where the last line is unfinished, so that the two are not read as one.
        """
        mend = b"\n" if apart and not self.at_line_end() else b""
        data = mend + data
        written = 0
        with suppress(OSError):
            while written < len(data):
                written += os.write(self.fd, data[written:])
        if written:
            self.took(written)
        return max(0, written - len(mend))

    def at_line_end(self) -> bool:
        """Return whether the last line is finished; an empty file has none to finish."""
        size = self.end - self.base
        return not size or os.pread(self.fd, 1, size - 1) == b"\n"

    # Rotation

    def due(self) -> bool:
        """Return whether the file is at its limits and may be rotated, as its last line is finished or too long."""
        over_from = self._over()
        return over_from is not None and (self.at_line_end() or self.end - over_from >= SLACK)

    def due_in(self) -> float | None:
        """Return in how many seconds the file, as it is now, will be too old, or 0 if it is; None if never."""
        if self._began is None or self.limits.max_age is None:
            return None
        return max(0, max(self._began + self.limits.max_age, self._not_before) - self._now())

    def _over(self) -> int | None:
        """Return the end at which the file was first found to be at its limits; None while it is not."""
        large = 0 < self.limits.max_size <= self.end - self.base
        if not ((large and self._now() >= self._not_before) or self.due_in() == 0):
            self._over_from = None
        elif self._over_from is None:
            self._over_from = self.end
        return self._over_from

    def rotate(self) -> None:
        """Make the file a segment and begin another where it ends.

        Raises OSError where that is impossible; then the file is written on, and is not due again for a minute.
        """
        try:
            with acting_as(self.owner):
                self._rotate()
        except OSError:
            self._not_before = self._now() + _RETRY_AFTER
            raise
        self._tidy(self)

    def reopen(self) -> None:
        """Begin another file if the one that is written to was moved away or deleted. Raises OSError as ``rotate``."""
        with acting_as(self.owner):
            ours = _same(_look(self.path), os.fstat(self.fd))
        if not ours:
            self.rotate()

    def flush_all(self) -> None:
        """Forget all that was written; offsets go on. Whoever is reading the last file may still finish it.

        Raises OSError where something cannot be deleted or begun anew.
        """
        self._remove_segments()
        try:
            self.rotate()
        except OSError:
            # The disk may be so full that there is no other way to make room for another file.
            os.ftruncate(self.fd, 0)
            self.rotate()
        self._remove_segments()

    def _remove_segments(self) -> None:
        with acting_as(self.owner):
            for segment in segments(self.path):
                segment.remove()

    def set_limits(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        if limits != self.limits:
            self.limits = limits
            self._tidy(self)

    def _rotate(self) -> None:
        there = _look(self.path)
        ours = _same(there, os.fstat(self.fd))
        # Another's file in its place is made a segment too, with the offsets after ours.
        start = self.base if ours else self.end
        base = self.end if ours or there is None else self.end + there.st_size
        kept = segment_path(self.path, start) if there is not None and there.st_size else None
        fresh = self._make(NEW_SUFFIX, base, there)
        moves: list[tuple[str, str | None]] = [
            # First, so that a reader who finds the file in its place has read the index that belongs to it.
            (self.path, kept),
            (self._index_path, kept + INDEX_SUFFIX if kept and ours else None),
            (self._index_path + NEW_SUFFIX, self._index_path),
            (self.path + NEW_SUFFIX, self.path),
        ]
        try:
            for step, (source, target) in enumerate(moves, 1):
                crash_at(f"mid_rotate_{step}")
                _move(source, target)
        except OSError:
            _close(*fresh)
            raise
        self.close()
        self.fd, self._index = fresh
        self.base = self.end = base
        self._stamped = self._not_before = _NEVER
        self._began = self._over_from = None
        if kept:
            _rotated_logs(os.path.dirname(self.path)).add(self.path)

    # Files

    def _open(self) -> tuple[int, int]:
        """Open log and index, or make them where there is no log."""
        try:
            log = open_regular(self.path, os.O_RDWR)
        except FileNotFoundError:
            # The last record is the nearest to the end of a log that was deleted.
            self.base = max(self.base, _last_offset(self._index_path))
            return self._make("", self.base, None)
        try:
            return log, open_regular(self._index_path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        except OSError:
            os.close(log)
            raise

    def _make(self, suffix: str, base: int, like: os.stat_result | None) -> tuple[int, int]:
        """Make index and log anew, as accessible as *like*, with *suffix* to their names."""
        made: list[int] = []
        try:
            for name, flags in ((self._index_path, os.O_RDWR | os.O_APPEND), (self.path, os.O_RDWR)):
                _move(name + suffix, None)
                made.append(open_regular(name + suffix, flags | os.O_CREAT | os.O_EXCL))
                if like is not None:
                    with suppress(OSError):
                        os.fchown(made[-1], like.st_uid, like.st_gid)
                        os.fchmod(made[-1], stat.S_IMODE(like.st_mode))
                if len(made) == 1:
                    _write_base(made[0], base)
        except OSError:
            _close(*made)
            raise
        index, log = made
        return log, index

    def _finish_rotation(self) -> None:
        """Give a segment its index, if the process died between the two."""
        if os.path.lexists(self.path + NEW_SUFFIX):
            with open_index(self._index_path) as index:
                base = index.base or 0
            for newest in segments(self.path)[-1:]:
                if newest.start == base and not os.path.lexists(newest.index_path):
                    _move(self._index_path, newest.index_path)

    # The index

    def _take_up_index(self) -> None:
        """Go on with what there is of the index, and with another file where its end says that bytes are missing."""
        with open_index(self._index_path) as index:
            if index.base is None and (self.base or not index.records):
                # It is of no use, and the next record will be written after the missing beginning.
                os.ftruncate(self._index, 0)
            elif index.records:
                self._began = index.record(0)[0] / 1000
        self._cut_index()
        if (last := _last_offset(self._index_path)) > self.end:
            # It was emptied while nobody wrote to it.
            self.end = last
            self._rotate()
        for name in (self._index_path, self.path):
            _move(name + NEW_SUFFIX, None)

    def _stamp(self, milliseconds: int, offset: int) -> None:
        self._stamped = milliseconds
        if self._began is None:
            self._began = milliseconds / 1000
        with suppress(OSError):
            if not os.fstat(self._index).st_size:
                _write_base(self._index, self.base)
            if os.write(self._index, RECORD.pack(milliseconds, offset)) < RECORD.size:
                self._cut_index()

    def _cut_index(self) -> None:
        """Cut a torn record off, so that the next one begins where a reader looks for it."""
        with suppress(OSError):
            size = os.fstat(self._index).st_size
            os.ftruncate(self._index, size - size % RECORD.size)


def _write_base(index: int, base: int) -> None:
    """Write the first record; OSError where the disk is too full and the base would be unknown without it."""
    try:
        if os.write(index, RECORD.pack(0, base)) < RECORD.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(index, 0)
        if base:
            raise


def _last_offset(path: str) -> int:
    with open_index(path) as index:
        return index.record(index.records - 1)[1] if index.records else index.base or 0


@cache
def _rotated_logs(directory: str) -> set[str]:
    """Which logs of a directory may have segments: to look for each one's takes long where many logs are made."""
    return set(all_segments(directory))


def _has_past(path: str) -> bool:
    left = os.path.lexists(path + INDEX_SUFFIX) or os.path.lexists(path + NEW_SUFFIX)
    return left or path in _rotated_logs(os.path.dirname(path))


def _look(path: str) -> os.stat_result | None:
    """Return what there is at *path*, if anything; OSError where it is no regular file."""
    with suppress(FileNotFoundError):
        there = os.lstat(path)
        if not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        return there
    return None


def _same(there: os.stat_result | None, ours: os.stat_result) -> bool:
    return there is not None and os.path.samestat(there, ours)


def _move(source: str, target: str | None) -> None:
    """Rename, or delete where there is no target; what is gone already is no error."""
    with suppress(FileNotFoundError):
        if target is None:
            os.unlink(source)
        else:
            os.rename(source, target)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
