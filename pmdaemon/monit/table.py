"""The table of processes as a widget: draws only the rows in sight, and keeps the selected process in sight."""

from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from pmdaemon.core.events import ProcessMetricsEntry
from pmdaemon.monit.layout import Cell, Placed, header_cells, place, row_cells
from pmdaemon.monit.model import Model, Row

__all__ = ["Table"]

_SELECTED = Style(reverse=True, bold=True)
_PLAIN = Style()


class Table(ScrollView, can_focus=True):
    """Rows of the model; the first line is the titles. A click on a title sorts by it."""

    DEFAULT_CSS = """
    Table { overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000)", show=False),
        Binding("end", "move(1000000)", show=False),
    ]

    class Selected(Message):
        """Another process is selected, or none: ``entry`` None."""

        def __init__(self, entry: ProcessMetricsEntry | None) -> None:
            super().__init__()
            self.entry = entry

    class Opened(Message):
        """A process was clicked that was selected already."""

    class Titled(Message):
        """A title was clicked: the column to sort by."""

        def __init__(self, sort: str) -> None:
            super().__init__()
            self.sort = sort

    def __init__(self, model: Model, *, unicode: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self._model = model
        self._unicode = unicode
        self._rows: list[Row] = []
        self._placed: list[Placed] = []
        self._index = 0
        self._selected: int | None = None

    @property
    def entry(self) -> ProcessMetricsEntry | None:
        """The selected process."""
        return self._rows[self._index].entry if self._rows else None

    @property
    def _width(self) -> int:
        return self.scrollable_content_region.width

    def sync(self) -> None:
        """Show the model as it is now; the selection stays on its process, or where that was."""
        self._rows = self._model.listed()
        width = self._width
        self._placed = place(self._rows, width) if width else []
        for index, row in enumerate(self._rows):
            if row.entry.id == self._selected:
                self._index = index
                break
        self.virtual_size = Size(width, len(self._rows) + 1)
        self._choose(self._index)
        self.refresh()

    def choose(self, name: str) -> None:
        """Select the first process of a name, where it is listed."""
        for index, row in enumerate(self._rows):
            if row.entry.name == name:
                self._choose(index)
                return

    def _choose(self, index: int) -> None:
        self._index = max(0, min(index, len(self._rows) - 1))
        entry = self.entry
        top = round(self.scroll_y)
        visible = max(1, self.size.height - 1)
        if self._index < top:
            self.scroll_to(y=self._index, animate=False, force=True)
        elif self._index >= top + visible:
            self.scroll_to(y=self._index - visible + 1, animate=False, force=True)
        if (entry.id if entry else None) != self._selected:
            self._selected = entry.id if entry else None
            self.post_message(self.Selected(entry))
        self.refresh()

    def action_move(self, by: int) -> None:
        """Select another row."""
        self._choose(self._index + by)

    def action_page(self, by: int) -> None:
        """Select a row a screenful away."""
        self._choose(self._index + by * max(1, self.size.height - 2))

    def on_resize(self, event: events.Resize) -> None:
        """Lay it out for the new size."""
        self.sync()

    def on_click(self, event: events.Click) -> None:
        """Select, open or sort."""
        if event.y == 0:
            start = 0
            for column, width in self._placed:
                if start <= event.x < start + width and column.sort is not None:
                    self.post_message(self.Titled(column.sort))
                start += width + 1
            return
        index = event.y - 1 + round(self.scroll_y)
        if index < len(self._rows):
            if index == self._index:
                self.post_message(self.Opened())
            self._choose(index)

    def render_line(self, y: int) -> Strip:
        """One line of what is in sight."""
        width = self._width
        if y == 0:
            titles = header_cells(self._placed, self._model, width, unicode=self._unicode)
            return _strip(titles, width, None)
        index = y - 1 + round(self.scroll_y)
        if index >= len(self._rows):
            empty = not self._rows and y == 1
            return _strip([(self._nothing(), "dim")] if empty else [], width, None)
        cells = row_cells(self._rows[index], self._placed, self._model, unicode=self._unicode)
        return _strip(cells, width, _SELECTED if index == self._index else None)

    def _nothing(self) -> str:
        if self._model.rows:
            return "No process matches the filter; Esc clears it."
        return "Nothing runs yet: pmdaemon start SCRIPT" if self._model.live else ""


def _strip(cells: list[Cell], width: int, over: Style | None) -> Strip:
    segments: list[Segment] = []
    for text, style in cells:
        if segments:
            segments.append(Segment(" ", over or _PLAIN))
        segments.append(Segment(text, over or (Style.parse(style) if style else _PLAIN)))
    return Strip(segments).crop_extend(0, width, over or _PLAIN)
