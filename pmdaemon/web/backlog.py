"""What waits for a client that does not read fast enough [F1], in the order in which it will be told.

It bounds nothing: its owner watches ``size``.
"""

import sys
from collections import deque
from collections.abc import Callable
from enum import Enum
from itertools import count
from typing import Final, NamedTuple

__all__ = ["Backlog", "Frame", "Kind"]

ENTRY: Final = 200
"""Bytes that one entry is taken to cost beside its frame."""

LINE: Final = 50
"""Bytes that one of several log lines in a row is taken to cost beside its frame."""


class Kind(Enum):
    """What becomes of a frame that cannot be sent yet."""

    METRICS = "only the newest of its key is kept"
    LOG = "it is dropped and counted where there is no room for it"
    KEPT = "it is kept"


class Frame(NamedTuple):
    """One framed message; ``key`` is the process of a LOG frame, and what a newer METRICS frame replaces.

    ``seq`` is the number of the message's id; it is used of LOG frames only.
    """

    kind: Kind
    key: str
    data: bytes
    seq: int = 0


class _Gap:
    """Log lines of one process that are lost to the client."""

    __slots__ = ("dropped", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.dropped = 0


_Lines = deque[Frame]
"""Log lines with nothing between them."""


class Backlog:
    """Keeps what must be told, and of log lines as many as its owner has room for.

    Everything is told in the order in which it came, so the ids a client sees never go back. A process's gap stands
    where its first lost line would have stood, before anything newer, and takes that line's number: a client that loses
    the connection behind it and resumes from there is sent what it has missed since.
    """

    def __init__(self, encode_gap: Callable[[str, int, int], bytes]) -> None:
        self._encode_gap = encode_gap
        self._entries: dict[tuple[Kind, str | int], bytes | _Gap | _Lines] = {}
        self._numbers = count()
        self._lines: _Lines | None = None
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes of memory, as an estimate from above."""
        return self._bytes + ENTRY * len(self._entries)

    def add(self, frame: Frame) -> None:
        """Take one frame."""
        if frame.kind is Kind.LOG:
            self._add_line(frame)
            return
        key = (frame.kind, frame.key if frame.kind is Kind.METRICS else next(self._numbers))
        replaced = self._entries.pop(key, b"")
        assert isinstance(replaced, bytes)
        self._entries[key] = frame.data
        self._bytes += len(frame.data) - len(replaced)
        self._lines = None

    def _add_line(self, frame: Frame) -> None:
        gap = self._entries.get((Kind.LOG, frame.key))
        if isinstance(gap, _Gap):
            gap.dropped += 1
            return
        if self._lines is None:
            self._lines = deque()
            self._entries[(Kind.KEPT, next(self._numbers))] = self._lines
        self._lines.append(frame)
        self._bytes += len(frame.data) + LINE

    def shed(self) -> bool:
        """Drop all log lines and count them; False where there are none."""
        entries, self._entries = self._entries, {}
        found = False
        for key, entry in entries.items():
            if not isinstance(entry, deque):
                self._entries[key] = entry
                continue
            found = True
            for line in entry:
                gap = self._entries.setdefault((Kind.LOG, line.key), _Gap(line.seq))
                assert isinstance(gap, _Gap)
                gap.dropped += 1
                self._bytes -= len(line.data) + LINE
        self._lines = None
        return found

    def take(self, most: int = sys.maxsize) -> list[bytes]:
        """Return the first of what is to be told, gaps included, up to little more than *most* bytes.

        What is returned waits no more.
        """
        told: list[bytes] = []
        size = 0
        while self._entries and size < most:
            data = self._pop()
            told.append(data)
            size += len(data)
        return told

    def _pop(self) -> bytes:
        key, entry = next(iter(self._entries.items()))
        if isinstance(entry, deque):
            line = entry.popleft()
            self._bytes -= len(line.data) + LINE
            if entry:
                return line.data
        del self._entries[key]
        if isinstance(entry, _Gap):
            return self._encode_gap(str(key[1]), entry.dropped, entry.seq)
        if isinstance(entry, deque):
            if entry is self._lines:
                self._lines = None
            return line.data
        self._bytes -= len(entry)
        return entry

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._lines = None
        self._bytes = 0
