"""Writes what a process printed to its log file, and when to the index beside it.

It knows nothing of lines or readers: it only tells which bytes are in the file now.
"""

import os
from collections.abc import Callable
from contextlib import suppress

from twisted.logger import Logger

from pmdaemon.keeper.layout import INDEX_SUFFIX, RECORD, SPACING, base_of, open_regular

__all__ = ["LogWriter"]

_COMPLAIN_EVERY = 60
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_NEWLINE = 0x0A
_CLOSED = -1


class LogWriter:
    """Appends to one file, which is created where its directory exists; OSError where it cannot be opened.

    ``now`` is Unix time in seconds. ``told(path, start, end)`` is called once per append that wrote anything, with
    absolute offsets: where a keeper has rotated the log before, the file begins at ``base``. Bytes that cannot be
    written (the disk is full) are dropped and counted: nothing is raised.
    Where bytes were dropped inside a line, a newline is put in their place before the next, so that what came before
    and what comes after are never read as one line. All other bytes are the process's own.
    """

    log = Logger()

    def __init__(self, path: str, *, now: Callable[[], float], told: Callable[[str, int, int], None]) -> None:
        self.path = path
        self.dropped_bytes = 0
        self._now = now
        self._told = told
        self._mid_line = self._torn = False
        self._stamped = self._complained = float("-inf")
        self._descriptor = self._index = _CLOSED
        self.base = self.end = 0
        """The offsets of the first byte of the file and after its last, as far as this knows."""
        self.reopen()

    def append(self, data: bytes) -> None:
        """Write the bytes, as many of them as fit."""
        mend = b"\n" if self._torn else b""
        data = mend + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        except OSError as error:
            self._drop(len(data) - max(written, len(mend)), error)
        if written:
            self._mid_line = data[written - 1] != _NEWLINE
        self._torn = self._mid_line and written < len(data)
        if written:
            self._tell(written)

    def reopen(self) -> None:
        """Turn to the file that is at the path now; OSError where none can be opened, and the old one is kept.

        Another file than before begins at the offset at which that one ends.
        """
        log, index = _open_both(self.path)
        if self._descriptor != _CLOSED and not os.path.samestat(os.fstat(log), os.fstat(self._descriptor)):
            self._begin(index, self.end)
        self.close()
        self._descriptor, self._index = log, index
        self.base = base_of(self.path)
        self.end = self.base + os.fstat(log).st_size
        self._mid_line = self._torn = False
        self._stamped = float("-inf")
        self._mend_index()

    def _begin(self, index: int, base: int) -> None:
        with suppress(OSError):
            os.ftruncate(index, 0)
            os.write(index, RECORD.pack(0, base))

    def close(self) -> None:
        """Close the files; what is appended after this is dropped."""
        for descriptor in {self._descriptor, self._index} - {_CLOSED}:
            os.close(descriptor)
        self._descriptor = self._index = _CLOSED

    def _tell(self, written: int) -> None:
        # Asked of the file: another writer may have appended to it, or a user emptied it.
        end = self.base + os.lseek(self._descriptor, 0, os.SEEK_CUR)
        start = end - written
        if start < self.end:
            self._forget_times()
        self.end = end
        self._stamp(start)
        self._told(self.path, start, end)

    def _drop(self, size: int, error: OSError) -> None:
        self.dropped_bytes += size
        now = self._now()
        if abs(now - self._complained) >= _COMPLAIN_EVERY:
            self._complained = now
            self.log.error(
                "cannot write {path}: {reason}; {dropped} bytes of it are lost so far",
                path=self.path,
                reason=error.strerror,
                dropped=self.dropped_bytes,
            )

    def _stamp(self, offset: int) -> None:
        milliseconds = int(self._now() * 1000)
        # The clock may have been set back.
        if abs(milliseconds - self._stamped) < SPACING:
            return
        self._stamped = milliseconds
        with suppress(OSError):
            if os.write(self._index, RECORD.pack(milliseconds, offset)) < RECORD.size:
                self._mend_index()

    def _mend_index(self) -> None:
        """Cut a torn record off, so that the next one begins where a reader looks for it."""
        size = os.fstat(self._index).st_size if self.end > self.base else self._first
        with suppress(OSError):
            os.ftruncate(self._index, size - size % RECORD.size)

    @property
    def _first(self) -> int:
        """How many bytes of the index tell where the file begins."""
        return RECORD.size if self.base and os.fstat(self._index).st_size >= RECORD.size else 0

    def _forget_times(self) -> None:
        self._stamped = float("-inf")
        with suppress(OSError):
            os.ftruncate(self._index, self._first)


def _open_both(path: str) -> tuple[int, int]:
    log = open_regular(path, _APPEND)
    try:
        return log, open_regular(path + INDEX_SUFFIX, _APPEND)
    except OSError:
        os.close(log)
        raise
