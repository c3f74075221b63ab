"""Compresses old segments and deletes those that are too many, in a thread of its own.

What is written to is never touched; when a file is too old or too large is ``segments``' to say.
"""

import _thread  # not threading, whose hook costs each child that is forked 0.7 ms
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from pmdaemon.keeper.crash import crash_at
from pmdaemon.keeper.identity import Owner, acting_as
from pmdaemon.keeper.layout import INDEX_SUFFIX, Segment, all_segments, open_regular, segments
from pmdaemon.keeper.packed import pack
from pmdaemon.keeper.segments import Limits, SegmentedLog

__all__ = ["HOME_TOTAL", "Housekeeper"]

HOME_TOTAL = 10 << 30
"""Bytes that all logs may take on disk, unless told otherwise."""

_DELAY = 0.2  # seconds, in which more may come to be looked at
_NICE = 10


class Housekeeper:
    """Keeps the logs in *directory*, and those elsewhere that it is told of, within their limits.

    *total* is how many bytes all of them may take on disk; None for any number. *say* is called, from the thread, with
    a sentence for the keeper's own log where something fails; the next ``look`` tries it again. The thread lives only
    while there is something to do. What it changes of a log elsewhere it changes as the log's owner.
    """

    def __init__(self, directory: str, *, total: int | None = HOME_TOTAL, say: Callable[[str], None]) -> None:
        self._directory = os.path.realpath(directory)
        self._total = total
        self._say = say
        self._lock = _thread.allocate_lock()
        self._due: dict[str, Limits] = {}
        self._owners: dict[str, Owner | None] = {}
        self._elsewhere: set[str] = set()
        self._capped: dict[str, int] = {}
        self._running = False

    def look(self, log: SegmentedLog) -> None:
        """Have the segments of *log* compressed, and deleted where they are too many, soon."""
        directory, name = os.path.split(log.path)
        # Where another's links lead is not to be found out as ourselves.
        path = os.path.join(directory if log.owner else os.path.realpath(directory), name)
        with self._lock:
            self._due[path] = log.limits
            self._owners[path] = log.owner
            if self._running:
                return
            self._running = True
        _thread.start_new_thread(self._run, ())

    def set_total(self, total: int | None, logs: Iterable[SegmentedLog]) -> None:
        """Have all logs together take no more than *total*; those that are written, *logs*, are looked at soon."""
        if total != self._total:
            self._total = total
            for log in logs:
                self.look(log)

    def news(self) -> dict[str, int]:
        """Return how many bytes of which logs were deleted for the sake of the total since this was last called."""
        with self._lock:
            capped, self._capped = self._capped, {}
        return capped

    def _run(self) -> None:
        if sys.platform == "linux":
            # Only this thread: those who print come first.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, _thread.get_native_id(), _NICE)
        try:
            while self._goes_on():
                time.sleep(_DELAY)
                self.work()
        except BaseException:
            self._running = False
            raise

    def _goes_on(self) -> bool:
        with self._lock:
            self._running = bool(self._due)
            return self._running

    def work(self) -> None:
        """Do now what is due; for the thread, and for tests."""
        with self._lock:
            due, self._due = self._due, {}
        self._elsewhere.update(path for path in due if os.path.dirname(path) != self._directory)
        for directory in {os.path.dirname(path) for path in due}:
            found = all_segments(directory)
            for path in due.keys() & found.keys():
                self._tidy(path, found[path], due[path])
        self._keep_total()

    def _tidy(self, path: str, old: list[Segment], limits: Limits) -> None:
        surplus = max(0, len(old) - limits.max_files)
        for segment in old[:surplus]:
            self._remove(segment)
        for segment in old[surplus:]:
            if limits.compress and not segment.packed:
                self._pack(segment)
        if limits.total is not None:
            old = segments(path)
            self._free(_used_by(path, old) - limits.total, old)

    def _keep_total(self) -> None:
        total = self._total
        if total is None:
            return
        logs = all_segments(self._directory) | {path: segments(path) for path in self._elsewhere}
        used = _used_in(self._directory) + sum(_used_by(path, logs[path]) for path in self._elsewhere)
        if used > total:
            freed = self._free(used - total, sorted((each for old in logs.values() for each in old), key=_last_written))
            with self._lock:
                for path, size in freed.items():
                    self._capped[path] = self._capped.get(path, 0) + size

    def _free(self, excess: int, old: list[Segment]) -> dict[str, int]:
        """Delete the first of *old* until so many bytes are free; return how many are, by log."""
        freed: dict[str, int] = {}
        for segment in old:
            if sum(freed.values()) >= excess:
                break
            freed[segment.log] = freed.get(segment.log, 0) + _size_of(segment)
            self._remove(segment)
        return freed

    def _pack(self, segment: Segment) -> None:
        try:
            with acting_as(self._owners.get(segment.log)):
                _pack(segment)
        except OSError as error:
            self._say(f"cannot compress {segment.plain_path}: {error.strerror}")

    def _remove(self, segment: Segment) -> None:
        try:
            with acting_as(self._owners.get(segment.log)):
                segment.remove()
        except OSError as error:
            self._say(f"cannot delete {segment.path}: {error.strerror}")


def _pack(segment: Segment) -> None:
    """Put the compressed form in the place of the other; until then each of them is whole or not there."""
    try:
        source = open_regular(segment.plain_path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        there = os.fstat(source)
        target = open_regular(segment.partial_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            pack(source, target)
            with suppress(PermissionError):
                os.fchown(target, there.st_uid, there.st_gid)
            os.fchmod(target, stat.S_IMODE(there.st_mode))
            os.utime(target, ns=(there.st_atime_ns, there.st_mtime_ns))
            # Or a power failure might leave neither of them.
            os.fsync(target)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(segment.partial_path)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
    crash_at("mid_pack_1")
    # Where one of them is gone, the log was flushed meanwhile.
    with suppress(FileNotFoundError):
        os.rename(segment.partial_path, segment.packed_path)
        crash_at("mid_pack_2")
        os.unlink(segment.plain_path)


def _used_in(directory: str) -> int:
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        return sum(_size(entry.path) for entry in entries)
    return 0


def _used_by(path: str, old: list[Segment]) -> int:
    return _size(path) + _size(path + INDEX_SUFFIX) + sum(map(_size_of, old))


def _size_of(segment: Segment) -> int:
    return _size(segment.path) + _size(segment.index_path)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _last_written(segment: Segment) -> float:
    try:
        return os.lstat(segment.path).st_mtime
    except FileNotFoundError:
        return 0
