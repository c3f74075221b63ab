"""Moves what one child prints from its pipe into its log, so that no byte is ever in this process alone.

Where the system cannot do that (``splice``), what was read is written at once; only a kill between the two loses it.
"""

import errno
import fcntl
import os
import selectors
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

from pmdaemon.keeper.features import allowed
from pmdaemon.keeper.segments import SegmentedLog

__all__ = ["Pump"]

_SPLICE = hasattr(os, "splice") and allowed("splice")
_LARGE_PIPE = 1 << 20
_BUDGET = 1 << 20
"""Bytes taken at most before others have their turn."""
_LONGEST = 64 * 1024
"""Bytes of an unfinished line that are kept from the copies at most."""
_READ = 64 * 1024
_RETRY_AFTER = 1
_GROW_AFTER = 10


class Pump:
    """From the pipe *source_fd*, which stays the caller's to close, into *log*.

    *copies* get the same bytes, whole lines at a time, so that those of several pumps do not mix; one whose disk is
    full lacks some. *now* is any clock in seconds. *told* is called once per log and turn in which it has grown or was
    rotated. Where the log cannot be written to, ``block`` leaves the pipe alone and tries again each second, so that
    the child has to wait, and ``drop`` loses lines, always whole ones but for the one that was being written.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        source_fd: int,
        log: SegmentedLog,
        copies: tuple[SegmentedLog, ...],
        *,
        now: Callable[[], float],
        on_full: str,
        told: Callable[[SegmentedLog], None],
    ) -> None:
        self.dropped_bytes = 0
        self.dropped_lines = 0
        self.ended = False
        """Whether nothing is left and nobody can print any more."""
        self.trouble: OSError | None = None
        """Why the log cannot be written to at present."""
        self._selector = selector
        self._source = source_fd
        self._log = log
        self._copies = copies
        self._now = now
        self._drops = on_full == "drop"
        self._told = told
        self._splices = _SPLICE
        self._capacity = _capacity_of(source_fd)
        self._grow_at = self._retry_at = float("-inf")
        self._mid_line = False
        self._held = b""
        self._line = bytearray()
        self._watched = False
        os.set_blocking(source_fd, False)
        self._watch()

    def ready(self) -> int:
        """Take what is in the pipe; return how many bytes that were. To be called when it can be read."""
        taken = self._take(_BUDGET)
        # One that is full holds less than it could, as each write may begin a page.
        if taken > self._capacity // 2 < _LARGE_PIPE // 2:
            self._grow()
        return taken

    def drain(self, limit: int) -> bool:
        """Take what is in the pipe, about *limit* bytes at most; return whether nothing is left.

        Something is if more was there, or if it has to wait for the disk.
        """
        while limit > 0 and self.waiting and (self._drops or not self.trouble):
            limit -= self._take(min(limit, _BUDGET))
        return not self.waiting

    @property
    def waiting(self) -> int:
        """How many bytes are in the pipe, or were read from it and could not be written yet."""
        return len(self._held) + _waiting(self._source)

    def tick(self, now: float) -> float | None:
        """Do what is due at *now*; return when to call this again at the latest, None if nothing is foreseen."""
        if self.trouble and not self._drops:
            # More than a second to wait means that the clock was set back.
            if now < self._retry_at <= now + _RETRY_AFTER:
                return self._retry_at
            self._take(_BUDGET)
            return now + _RETRY_AFTER if self.trouble else self.tick(now)
        if self._log.due_in() == 0:
            if self._rotate():
                self._told(self._log)
            # Else it waits for the end of the line.
            return None
        wait = self._log.due_in()
        return None if wait is None else now + wait

    def close(self) -> None:
        """Watch the pipe no longer; what was read from it and could not be written is lost."""
        self._unwatch()
        self._lose(self._held)
        self._held = b""
        self._copy(b"", all_of_it=True)

    # Moving

    def _take(self, limit: int) -> int:
        before = self._log.base, self._log.end
        taken = 0
        with suppress(BlockingIOError):
            taken = self._take_and_drop() if self.trouble and self._drops else self._move_on(limit)
        if self.ended:
            self._unwatch()
        if before != (self._log.base, self._log.end):
            self._told(self._log)
        return taken

    def _move_on(self, limit: int) -> int:
        left = limit
        try:
            while left > 0 and not self.ended:
                size = min(self._log.room(), left)
                count = self._move(size)
                left -= count
                self._took(count)
                # Less than there is room for is all there was.
                if count < size and not self._held:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self._stop(error)
            return limit - left
        self.trouble = None
        self._watch()
        return limit - left

    def _took(self, count: int) -> None:
        if not count:
            self.ended = True
            return
        self._log.took(count)
        if self._copies:
            self._copy(os.pread(self._log.fd, count, self._log.end - count - self._log.base))
        self._rotate()

    def _move(self, size: int) -> int:
        """Move at most so many bytes; return how many that were, 0 if there will be no more."""
        if self._splices:
            try:
                return os.splice(self._source, self._log.fd, size, flags=os.SPLICE_F_NONBLOCK)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            # This file system cannot do it.
            self._splices = False
        if not self._held:
            self._held = os.read(self._source, min(size, self._capacity))
        count = os.write(self._log.fd, self._held[:size])
        self._held = self._held[count:]
        return count

    def _rotate(self) -> bool:
        if not self._log.due():
            return False
        try:
            self._log.rotate()
        except OSError:
            # It is tried again; until then this file is written on.
            return False
        return True

    def _grow(self) -> None:
        """Make the pipe larger. There is a limit for each user, so this may be refused."""
        now = self._now()
        if hasattr(fcntl, "F_SETPIPE_SZ") and now >= self._grow_at:
            self._grow_at = now + _GROW_AFTER
            with suppress(OSError):
                self._capacity = fcntl.fcntl(self._source, fcntl.F_SETPIPE_SZ, _LARGE_PIPE)

    def _copy(self, data: bytes, *, all_of_it: bool = False) -> None:
        """Give the copies all lines that are finished."""
        cut = len(data) if all_of_it else data.rfind(b"\n") + 1
        if not cut and len(self._line) + len(data) > _LONGEST:
            cut = len(data)
        whole = bytes(self._line + data[:cut]) if cut or all_of_it else b""
        if whole:
            self._line.clear()
            for copy in self._copies:
                self._append(copy, whole)
        self._line += data[cut:]

    def _append(self, copy: SegmentedLog, lines: bytes) -> None:
        # An error here is one of the disk, and the next lines may fare better.
        with suppress(OSError):
            copy.room()
            copy.append(lines, apart=True)
            if copy.due():
                copy.rotate()
        self._told(copy)

    # Where the log cannot be written to

    def _stop(self, error: OSError) -> None:
        self.trouble = error
        self._retry_at = self._now() + _RETRY_AFTER
        if self._drops:
            self._mid_line = not self._log.at_line_end()
            self._lose(self._held)
            self._held = b""
            if self._line:
                # As in the log, where a newline will come before all else.
                self._copy(b"\n")
        else:
            self._unwatch()

    def _take_and_drop(self) -> int:
        """Lose what is in the pipe; but when it is time to try again, write what follows the line that is torn."""
        data = os.read(self._source, _READ)
        self.ended = not data
        torn = (data.find(b"\n") + 1 or len(data)) if self._mid_line else 0
        if self._now() < self._retry_at or torn == len(data):
            self._lose(data)
            return len(data)
        self._lose(data[:torn])
        data = data[torn:]
        with suppress(OSError):
            self._log.room()
        written = self._log.append(data, apart=True)
        self._copy(data[:written])
        if written < len(data):
            self._lose(data[written:])
            self._retry_at = self._now() + _RETRY_AFTER
        else:
            self.trouble = None
            self._rotate()
        return torn + len(data)

    def _lose(self, data: bytes) -> None:
        if data:
            self.dropped_bytes += len(data)
            self.dropped_lines += data.count(b"\n")
            self._mid_line = not data.endswith(b"\n")

    def _watch(self) -> None:
        if not self._watched and not self.ended:
            self._selector.register(self._source, selectors.EVENT_READ, self.ready)
            self._watched = True

    def _unwatch(self) -> None:
        if self._watched:
            self._selector.unregister(self._source)
            self._watched = False


def _capacity_of(pipe: int) -> int:
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        with suppress(OSError):
            return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    return 64 * 1024


def _waiting(pipe: int) -> int:
    (number,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(number)
