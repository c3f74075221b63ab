"""The log of one process: its last lines, made harmless, what waits while it is paused, and what is searched for."""

import re
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from pmdaemon.client import LogLine, LogMessage

__all__ = ["KEPT", "Line", "Log"]

KEPT: Final = 10_000
"""Lines that are kept, and as many while it is paused."""
_SGR: Final = re.compile(r"\x1b\[[0-9;:]*m")


class Line(NamedTuple):
    """One line: ``text`` as it is read, ``styled`` with its SGR sequences or None where it has none.

    ``level`` is the daemon's, or ``note`` for what this program says itself; ``at`` is RFC 3339, or None.
    """

    text: str
    styled: str | None
    level: str
    stream: str
    at: str | None


class Log:
    """The lines of one process. ``trimmed`` counts those that are gone, ``added`` all that came to be shown."""

    def __init__(self, harmless: Callable[[str], str], kept: int = KEPT) -> None:
        self._harmless = harmless
        self._kept = kept
        self.lines: list[Line] = []
        self.trimmed = 0
        self.paused = False
        self.waiting = 0
        self._waiting: deque[Line] = deque(maxlen=kept)
        self.term = ""
        self.changed = True

    @property
    def added(self) -> int:
        """How many lines there have been."""
        return self.trimmed + len(self.lines)

    def take(self, line: LogMessage | LogLine, at: str | None) -> None:
        """Add one line of the process."""
        message = line.message
        styled = None
        if not message.isprintable():
            message = self._harmless(message.expandtabs(8))
            if "\x1b" in message:
                styled = message
                message = _SGR.sub("", message)
            if not message.isprintable():
                message, styled = "".join(filter(str.isprintable, message)), None
        self._add(Line(message, styled, line.level, line.stream, at))

    def note(self, text: str) -> None:
        """Add a line of this program's own."""
        self._add(Line(text, None, "note", "", None))

    def _add(self, line: Line) -> None:
        self.changed = True
        if self.paused:
            self.waiting += 1
            self._waiting.append(line)
            return
        self.lines.append(line)
        excess = len(self.lines) - self._kept
        if excess > self._kept // 10:  # in large steps, as each moves all that stay
            self._trim(excess)

    def _trim(self, excess: int) -> None:
        if excess > 0:
            del self.lines[:excess]
            self.trimmed += excess

    def trim(self) -> None:
        """Let go of the oldest lines, where there are more than are kept."""
        self._trim(len(self.lines) - self._kept)

    def pause(self, on: bool) -> None:
        """Have what comes wait, or show what has waited."""
        self.paused = on
        self.changed = True
        if not on:
            missed = self.waiting - len(self._waiting)
            waiting = list(self._waiting)
            self._waiting.clear()
            self.waiting = 0
            if missed:
                self.note(f"{missed} lines that came while this was paused are not kept here")
            self.lines += waiting
            self.trim()

    # Search

    def search(self, term: str) -> None:
        """Look for a text; case counts where it has capitals."""
        self.term = term
        self.changed = True

    def matches(self, line: Line) -> bool:
        """Whether what is searched for is in a line."""
        return bool(self.term) and self.term in (line.text if self._exact else line.text.lower())

    @property
    def _exact(self) -> bool:
        return self.term != self.term.lower()

    def found(self) -> list[int]:
        """Return the indexes of the lines that match."""
        return [index for index, line in enumerate(self.lines) if self.matches(line)] if self.term else []

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where in a text the matches are."""
        if not self.term:
            return []
        searched = text if self._exact else text.lower()
        if len(searched) != len(text):  # a letter whose lower case is longer
            return []
        spans = []
        start = searched.find(self.term)
        while start >= 0:
            spans.append((start, start + len(self.term)))
            start = searched.find(self.term, start + len(self.term))
        return spans
