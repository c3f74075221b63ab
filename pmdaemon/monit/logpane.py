"""The log as a widget: draws only the lines in sight, follows, and stays where it was scrolled to."""

from bisect import bisect_right
from datetime import datetime
from itertools import accumulate
from typing import Any, ClassVar, Final

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from pmdaemon.monit.lines import Line, Log

__all__ = ["LogPane"]

_LEVELS: Final = {
    "warn": Style(color="yellow"),
    "error": Style(color="red"),
    "fatal": Style(color="red", bold=True),
    "debug": Style(dim=True),
    "trace": Style(dim=True),
    "note": Style(dim=True, italic=True),
}
_TIME: Final = Style(dim=True)
_STDERR: Final = Style(color="red", bold=True)
_MATCH: Final = Style(reverse=True)
_CURRENT: Final = Style(reverse=True, bold=True, color="yellow")
_CALM: Final = Style(blink=False, blink2=False, conceal=False)
_PLAIN: Final = Style()


class LogPane(ScrollView, can_focus=True):
    """The lines of a `Log`, one row each, or as many as they need where they are wrapped."""

    DEFAULT_CSS = """
    LogPane { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", show=False),
        Binding("j", "scroll_down", show=False),
        Binding("left", "sideways(-8)", show=False),
        Binding("right", "sideways(8)", show=False),
    ]

    def __init__(self, log: Log, **rest: Any) -> None:
        super().__init__(**rest)
        self.log_lines = log
        self.follow = True
        self.wrap = True
        self.times = False
        self._shift = 0
        self._heights: list[int] = []
        self._ends: list[int] = []
        self._trimmed = 0
        self._current: int | None = None
        self._seen = 0
        self._moving = False

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    def show(self, log: Log) -> None:
        """Show another log, from its end."""
        self.log_lines = log
        self.follow = True
        self._shift = 0
        self._current = None
        self._measure_anew()

    def below(self) -> int:
        """Return how many lines have come since it was scrolled away from the end."""
        return 0 if self.follow else self.log_lines.added - self._seen

    def toggle(self, what: str) -> None:
        """Turn ``wrap``, ``times`` or ``follow`` on or off."""
        setattr(self, what, not getattr(self, what))
        if what == "follow":
            self._seen = self.log_lines.added
        self._shift = 0
        self._measure_anew()

    def sync(self) -> None:
        """Show the log as it is now; what is in sight stays there unless it follows."""
        log = self.log_lines
        log.trim()
        log.changed = False
        gone = min(log.trimmed - self._trimmed, len(self._heights))
        rows = self._ends[gone - 1] if gone > 0 else 0
        del self._heights[:gone]
        self._trimmed = log.trimmed
        fresh = log.lines[len(self._heights) :]
        self._heights += self._measured(fresh)
        if gone or fresh:
            self._ends = list(accumulate(self._heights))
        self._moving = True
        try:
            self.virtual_size = Size(self._width, self._ends[-1] if self._ends else 0)
            if self.follow:
                self._seen = log.added
                self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
            elif rows:
                self.scroll_to(y=max(0, self.scroll_y - rows), animate=False, force=True)
        finally:
            self._moving = False
        self.refresh()

    def find(self, direction: int) -> None:
        """Go to the next line that matches, to the one before with -1; from the end it goes on at the beginning."""
        self.sync()  # a line that has just come is found too
        found = self.log_lines.found()
        if not found:
            return
        if self._current is None:
            last = round(self.scroll_y) + self.size.height - 1
            here = (
                self._line_at(last) + (1 if direction < 0 else 0)
                if self.follow
                else self._line_at(round(self.scroll_y)) - (1 if direction > 0 else 0)
            )
        else:
            here = self._current - self.log_lines.trimmed
        after = [index for index in found if (index > here if direction > 0 else index < here)]
        chosen = (after or found)[0 if direction > 0 else -1]
        self._current = chosen + self.log_lines.trimmed
        row = self._ends[chosen] - self._heights[chosen]
        self.follow = False
        self._seen = self.log_lines.added
        self._moving = True
        try:
            self.scroll_to(y=max(0, row - self.size.height // 2), animate=False, force=True)
        finally:
            self._moving = False
        self.refresh()

    def forget_match(self) -> None:
        """Begin the next search at what is in sight."""
        self._current = None
        self.refresh()

    def position(self) -> tuple[int, int] | None:
        """Return which of how many matching lines is the current one; 0 for none yet. None without a search."""
        if not self.log_lines.term:
            return None
        found = self.log_lines.found()
        current = None if self._current is None else self._current - self.log_lines.trimmed
        return (found.index(current) + 1 if current in found else 0), len(found)

    def action_sideways(self, by: int) -> None:
        """Show what is to the left or right, where lines are not wrapped."""
        if not self.wrap:
            longest = max((cell_len(line.text) for line in self.log_lines.lines), default=0)
            self._shift = max(0, min(self._shift + by, longest - self._width // 2))
            self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        """Wrap for the new width."""
        self._measure_anew()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Stop to follow where the user scrolls up, go on at the end."""
        super().watch_scroll_y(old_value, new_value)
        if self._moving:
            return
        if new_value < self.max_scroll_y:
            if self.follow:
                self._seen = self.log_lines.added
            self.follow = False
        elif new_value > old_value:  # not where it only fits since there is more room
            self.follow = True

    # Drawing

    def render_line(self, y: int) -> Strip:
        """One line of what is in sight."""
        width = self._width
        row = y + round(self.scroll_y)
        if not self._ends or row >= self._ends[-1]:
            return Strip.blank(width, _PLAIN)
        index = self._line_at(row)
        if index >= len(self.log_lines.lines):
            return Strip.blank(width, _PLAIN)
        line = self.log_lines.lines[index]
        part = row - (self._ends[index] - self._heights[index])
        prefix, body = self._prefix(line), self._body(line, index)
        room = max(1, width - sum(cell_len(text) for text, _ in prefix))
        if self.wrap:
            pieces = chop_cells(line.text, room) or [""]
            if part >= len(pieces):
                return Strip.blank(width, _PLAIN)
            start = sum(len(piece) for piece in pieces[:part])
            body = body[start : start + len(pieces[part])]
            if part:
                prefix = [(" " * cell_len(text), style) for text, style in prefix]
        segments = [Segment(text, style) for text, style in prefix]
        strip = Strip([*body.render(self.app.console)])
        strip = strip.crop_extend(self._shift, self._shift + room, _PLAIN) if not self.wrap else strip
        return Strip.join([Strip(segments), strip]).crop_extend(0, width, _PLAIN)

    def _prefix(self, line: Line) -> list[tuple[str, Style]]:
        prefix = []
        if self.times:
            when = "" if line.at is None else f"{datetime.fromisoformat(line.at).astimezone():%H:%M:%S.%f}"[:12]
            prefix.append((f"{when:<12} ", _TIME))
        prefix.append(("! " if line.stream == "stderr" else "  ", _STDERR))
        return prefix

    def _body(self, line: Line, index: int) -> Text:
        if line.styled is not None:
            body = Text.from_ansi(line.styled, end="")
            body.stylize(_CALM)
        else:
            body = Text(line.text, style=_LEVELS.get(line.level, _PLAIN), end="")
        if self.log_lines.matches(line):
            style = _CURRENT if index + self.log_lines.trimmed == self._current else _MATCH
            for start, end in self.log_lines.spans(line.text):
                body.stylize(style, start, end)
        return body

    def _line_at(self, row: int) -> int:
        return bisect_right(self._ends, row)

    def _measure_anew(self) -> None:
        top = self._line_at(round(self.scroll_y))
        anchor = top + self._trimmed
        self._heights = self._measured(self.log_lines.lines)
        self._ends = list(accumulate(self._heights))
        self._trimmed = self.log_lines.trimmed
        index = anchor - self._trimmed
        self.sync()
        if not self.follow and 0 < index < len(self._ends):
            self._moving = True
            try:
                self.scroll_to(y=self._ends[index - 1], animate=False, force=True)
            finally:
                self._moving = False

    def _measured(self, lines: list[Line]) -> list[int]:
        if not self.wrap:
            return [1] * len(lines)
        room = max(1, self._width - 2 - (13 if self.times else 0))
        return [_rows(line.text, room) for line in lines]


def _rows(text: str, room: int) -> int:
    if text.isascii():
        return max(1, -(-len(text) // room))
    return max(1, len(chop_cells(text, room)))
