"""Cuts a log's bytes into lines, and says of a line what its text and its level are [P13]."""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

__all__ = ["LEVELS", "LIMIT", "Line", "LineSplitter", "Stream", "level_of", "level_rank", "replay", "text_of"]

LIMIT = 65536
"""Bytes of one line that are told at most; a longer line is cut there and marked as truncated."""

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
"""The levels, least severe first."""

Stream = Literal["stdout", "stderr"]


class Line(Struct, frozen=True, gc=False):
    """A line of a log, or a piece of one; all offsets are absolute, in bytes.

    ``offset`` is where the line starts, the same for each of its pieces; ``sent`` is how many of its bytes earlier
    pieces held, and ``data`` holds only bytes after those, without the line's end. ``end`` is where this piece ends
    and the next begins: after the newline, after the last byte of ``data`` where ``partial`` (the rest follows), after
    the byte that proved the line too long where ``truncated`` (no rest follows; the bytes up to the newline, which
    nobody is told, count to the next piece).

    A line of which all was sent as partial still ends with a piece, whose ``data`` may be empty.
    """

    offset: int
    end: int
    data: bytes
    partial: bool = False
    truncated: bool = False
    sent: int = 0

    @property
    def start(self) -> int:
        """Where the first byte of ``data`` is."""
        return self.offset + self.sent


class LineSplitter:
    """Turns the bytes of a log, in chunks of any size, into lines; which lines does not depend on the chunks.

    ``start`` is the absolute offset of the first byte to be fed. Where it lies inside a line, ``line_start`` says where
    that line began; more than LIMIT before ``start`` means that the line was truncated and its rest is skipped.
    Never holds more than LIMIT + 1 bytes between calls.
    """

    __slots__ = ("_held", "_line", "_start")

    def __init__(self, start: int, line_start: int | None = None) -> None:
        self._start = start
        self._line = start if line_start is None else line_start
        self._held = bytearray()

    @property
    def position(self) -> int:
        """The absolute offset of the next byte to be fed."""
        return self._start + len(self._held)

    @property
    def pending(self) -> bool:
        """Whether ``flush`` would return something."""
        return bool(_settled(self._held))

    def feed(self, data: bytes) -> list[Line]:
        """Take the next bytes; return the lines that end in them, and a line that passes LIMIT in them."""
        lines: list[Line] = []
        *ended, rest = data.split(b"\n")
        for raw in ended:
            start = self._start
            if start == self._line and not self._held and len(raw) <= LIMIT:
                self._start = self._line = end = start + len(raw) + 1
                lines.append(Line(start, end, raw[:-1] if raw.endswith(b"\r") else raw))
            else:
                self._hold(raw, lines)
                self._close(lines)
        if rest:
            self._hold(rest, lines)
        return lines

    def flush(self, final: bool = False) -> Line | None:
        r"""Return what is held of an unfinished line as a partial piece, or None; the rest will have the same offset.

        Keeps back a ``\r`` that may belong to the line's end and the beginning of a character, unless ``final``: then
        nothing more is expected soon.
        """
        if not self._held:
            return None
        # Of LIMIT + 1 bytes the last is a \r whose fate only the next byte decides.
        size = min(len(self._held), self._room) if final else _settled(self._held)
        return self._take(size, size, partial=True) if size else None

    @property
    def _room(self) -> int:
        """How many bytes of the line may still be sent; negative once it was truncated, until its newline comes."""
        return LIMIT - (self._start - self._line)

    def _take(self, size: int, covered: int, partial: bool = False, truncated: bool = False) -> Line:
        data = bytes(self._held[:size])
        sent = self._start - self._line
        self._start += covered
        del self._held[:covered]
        return Line(self._line, self._start, data, partial, truncated, sent)

    def _hold(self, raw: bytes, lines: list[Line]) -> None:
        room = self._room
        self._held += raw
        if room >= 0:
            excess = self._held[room : room + 2]
            # A \r just past the limit is no excess as long as a newline may follow it.
            if not excess or excess == b"\r":
                return
            lines.append(self._take(room, room + (2 if excess.startswith(b"\r") else 1), truncated=True))
        self._start += len(self._held)
        self._held.clear()

    def _close(self, lines: list[Line]) -> None:
        if self._room >= 0:
            size = len(self._held)
            lines.append(self._take(size - self._held.endswith(b"\r"), size + 1))
        else:
            self._start += 1
        self._line = self._start


def replay(data: bytes, start: int, line_start: int) -> list[Line]:
    """Return the pieces of a batch again, given the bytes it covered.

    A batch is what was delivered together: the lines of a feed, a flushed piece, or both in this order. Its bytes are
    those from ``start`` of its first piece to ``end`` of its last, and ``line_start`` is ``offset`` of its first piece.
    """
    splitter = LineSplitter(start, line_start)
    lines = splitter.feed(data)
    rest = splitter.flush(final=True)
    return lines if rest is None else [*lines, rest]


_UNSETTLED = re.compile(rb"(?:\r|[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")
_UNSETTLED_MAX = 3


def _settled(held: bytearray) -> int:
    """Return how many of the bytes mean the same whatever follows them."""
    unsettled = _UNSETTLED.search(held, max(0, len(held) - _UNSETTLED_MAX))
    return len(held) if unsettled is None else unsettled.start()


def text_of(line: Line) -> str:
    """Return the text of a piece; invalid UTF-8 becomes U+FFFD, NUL and other control characters stay."""
    return line.data.decode("utf-8", "replace")


_RANKS = {name: rank for rank, name in enumerate(LEVELS)}


def level_rank(name: str) -> int:
    """Return the level's place in LEVELS, 0 for the least severe; KeyError for what is not one of them."""
    return _RANKS[name]


_WORDS = {name: name for name in LEVELS} | {
    "silly": "trace",
    "dbg": "debug",
    "verbose": "debug",
    "inf": "info",
    "information": "info",
    "notice": "info",
    "wrn": "warn",
    "warning": "warn",
    "err": "error",
    "severe": "error",
    "alert": "fatal",
    "crit": "fatal",
    "critical": "fatal",
    "emerg": "fatal",
    "emergency": "fatal",
    "panic": "fatal",
}

# No part gives back what it took (*+), so that the time is linear in the length of the line.
_LEADING_WORD = re.compile(
    r"[\s\[(<]*+"
    r"(?:\d{2,4}[-/:]\d\d[-/:]\d\d(?:[\d\s\[\](<>)|:.,+/-]|[TZ](?![A-Za-z]))*+)?"
    r"([A-Za-z]{3,11})(?=[\s:\]|)>,;!]|$)"
)


class _JSONLine(Struct):
    level: Any = None
    severity: Any = None
    lvl: Any = None


_JSON_LINE = msgspec.json.Decoder(_JSONLine)


def level_of(text: str, stream: Stream) -> str:
    """Return the level of a line's text, one of LEVELS.

    It is that of a JSON object's ``level``, ``severity`` or ``lvl`` (a word, or a number from 10 for trace to 60 for
    fatal); else that of a level word at the beginning, in brackets or not, after a time or not; else info for stdout
    and error for stderr.
    """
    found = _json_level(text) if text.startswith("{") else _word_level(text)
    return found or ("info" if stream == "stdout" else "error")


def _word_level(text: str) -> str | None:
    match = _LEADING_WORD.match(text)
    return None if match is None else _WORDS.get(match[1].lower())


def _json_level(text: str) -> str | None:
    try:
        fields = _JSON_LINE.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    for value in (fields.level, fields.severity, fields.lvl):
        if isinstance(value, str) and value.lower() in _WORDS:
            return _WORDS[value.lower()]
        if isinstance(value, int | float) and 10 <= value < 70:
            return LEVELS[int(value) // 10 - 1]
    return None
