"""The screen of ``pmdaemon monit``: puts the widgets together, and carries out what the keys ask for."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.filter import LineFilter
from textual.timer import Timer
from textual.widgets import Input, Static

from pmdaemon.client import Client
from pmdaemon.monit.acting import Acting
from pmdaemon.monit.feed import Feed
from pmdaemon.monit.filters import KEYS as FILTERS
from pmdaemon.monit.filters import wanted
from pmdaemon.monit.header import header
from pmdaemon.monit.keys import KEYS, footer
from pmdaemon.monit.lines import Log
from pmdaemon.monit.logpane import LogPane
from pmdaemon.monit.logtitle import log_title
from pmdaemon.monit.model import SORTS
from pmdaemon.monit.screen import Ascii, Colourless, words
from pmdaemon.monit.table import Table

__all__ = ["Monitor"]

_FRAME = 0.1
"""Seconds between two pictures at least."""
_SETTLE = 0.15
"""Seconds that a process is selected before its log is asked for."""

_CSS: Final = """
Screen { background: ansi_default; color: ansi_default; }
Screen Static, Screen ScrollView, Screen Input { background: ansi_default; color: ansi_default; }
#header { height: 2; }
#notices { height: auto; max-height: 8; }
#title, #prompt { height: 1; }
#what { width: auto; }
#input { width: 1fr; }
Input, Input:focus { background: ansi_default; border: none; height: 1; padding: 0; }
LogPane { height: 1fr; }
#keys { height: auto; }
ModalScreen { align: center middle; background: transparent; }
.dialog { background: ansi_default; width: 64; max-width: 100%; height: auto; border: round ansi_cyan; padding: 0 1; }
.dialog .keys { margin-top: 1; }
.reader { background: ansi_default; width: 100%; height: 100%; padding: 0 1; }
.reader .title { height: 2; }
.reader VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
Scrollbar, ScrollView { scrollbar-background: ansi_default; scrollbar-color: ansi_bright_black;
    scrollbar-color-hover: ansi_white; scrollbar-color-active: ansi_white;
    scrollbar-background-hover: ansi_default; scrollbar-background-active: ansi_default; }
"""


class Monitor(Acting):
    """Shows one daemon until it is left. *chosen* is the filter to begin with, *sort* the column."""

    ENABLE_COMMAND_PALETTE = False
    CSS = _CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding(key.key, key.action, key.label, show=False) for key in KEYS]

    def __init__(self, client: Client, *, colors: bool, unicode: bool, chosen: str = "", sort: str = "id") -> None:
        super().__init__(client, unicode=unicode)
        self.animation_level = "none"
        self._filters_of_ours: list[LineFilter] = [
            *([] if colors else [Colourless()]),
            *([] if unicode else [Ascii()]),
        ]
        self._unicode = unicode
        self.model.sort = sort
        self._feed = Feed(client, self.model)
        self._lines = Log(self.terminal.harmless)
        self._reading: asyncio.Task[None] | None = None
        self._read_of: int | None = None
        self._settling: Timer | None = None
        self._filter = chosen
        self._zoomed = False
        self._prompting = ""
        self.model.wanted = wanted(chosen)
        self.pane = LogPane(self._lines)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Those of Textual, and those for terminals without colours or Unicode."""
        return [*super().get_line_filters(), *self._filters_of_ours]

    def compose(self) -> ComposeResult:
        """The main screen."""
        yield Static(id="header")
        yield self.table
        yield self.notices
        yield Static(id="title")
        yield self.pane
        with Horizontal(id="prompt"):
            yield Static(id="what")
            yield Input(id="input", compact=True)
        yield Static(id="keys")

    def on_mount(self) -> None:
        """Begin to listen."""
        self.query_one("#prompt").display = False
        self.table.focus()
        self.begin(self._feed.run())
        self.begin(self._feed.ask())
        self.set_interval(_FRAME, self._show)
        self.set_interval(1.0, self._tick)
        self._fit()

    async def on_unmount(self) -> None:
        """End what runs beside."""
        await self.end()

    # Showing

    def _tick(self) -> None:
        self.notices.expire()
        self.model.changed = True

    def _show(self) -> None:
        """Draw what has changed since the last time."""
        shown = self.model.changed
        if self.model.changed:
            self.model.changed = False
            self.table.sync()
            self._fit()
            lines = header(self.model, self.size.width, self._feed.retry_in, unicode=self._unicode)
            self.query_one("#header", Static).update(Text("\n").join(words(line) for line in lines))
            if self.model.refused is not None:
                self.notices.fail("connection", self.model.refused)
        if self.pane.log_lines.changed:
            self.pane.sync()
            shown = True
        if shown:
            self._entitle()

    def _entitle(self) -> None:
        entry = self.table.entry
        title = log_title(
            self.pane,
            entry.name if entry else "",
            self.size.width,
            unicode=self._unicode,
            focused=self.focused is self.pane,
        )
        self.query_one("#title", Static).update(title)

    def _fit(self) -> None:
        """Share the height out: the table has what it needs up to half, the log the rest."""
        height = self.size.height
        keys = footer(self.size.width, 2 if height >= 20 else 1)
        lines = [
            Text(" ").join(Text.assemble((key.shown, "bold"), (f" {key.label}", "dim")) for key in line)
            for line in keys
        ]
        self.query_one("#keys", Static).update(Text("\n").join(lines))
        needed = len(self.model.listed()) + 1
        self.table.display = not self._zoomed
        self.table.styles.height = max(2, min(max(needed, 4), (height - 3 - len(lines)) // 2))
        self.query_one("#header").display = height >= 10

    def on_resize(self, event: events.Resize) -> None:
        """Lay it out for the new size."""
        self.model.changed = True
        self._lines.changed = True
        self._fit()

    # The selected process and its log

    def on_table_selected(self, message: Table.Selected) -> None:
        """Show another log, when the selection has settled."""
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(_SETTLE, self._read)

    def _read(self) -> None:
        entry = self.table.entry
        if (entry.id if entry else None) == self._read_of:
            return
        self._read_of = entry.id if entry else None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        term = self._lines.term
        self._lines = Log(self.terminal.harmless)
        self._lines.search(term)
        self.pane.show(self._lines)
        self._entitle()
        if entry is not None:
            name = entry.name
            self._reading = self.begin(
                self._feed.read(entry.id, self._lines, lambda why: self.notices.fail(("log", name), why))
            )

    def on_table_opened(self) -> None:
        """Show all of a process that was clicked twice."""
        self.action_info()

    def on_table_titled(self, message: Table.Titled) -> None:
        """Sort by a column, or turn its order round."""
        if self.model.sort == message.sort:
            self.action_reverse()
        else:
            self._sort(message.sort)

    def on_descendant_focus(self) -> None:
        """Show which part has the keys."""
        self._entitle()

    def action_pause(self) -> None:
        """Have lines wait, or show them."""
        self._lines.pause(not self._lines.paused)

    def action_follow(self) -> None:
        """Follow or stay."""
        self.pane.toggle("follow")
        self._lines.changed = True

    def action_switch(self, what: str) -> None:
        """Turn something of the log on or off."""
        self.pane.toggle(what)
        self._lines.changed = True

    def action_next(self, direction: int) -> None:
        """Go to another match."""
        if not self._lines.term:
            self.action_find()
            return
        self.pane.find(direction)
        self._lines.changed = True

    def action_zoom(self) -> None:
        """Show the log alone, or with the table."""
        self._zoomed = not self._zoomed
        self.model.changed = self._lines.changed = True
        (self.pane if self._zoomed else self.table).focus()

    # Filter and search

    def action_filter(self) -> None:
        """Ask which processes to show; in the log, what to search for."""
        if self.focused is self.pane:
            self.action_find()
        else:
            self._prompt("filter", self._filter, f"text, or one of {' '.join(f'{key}:' for key in FILTERS)}")

    def action_find(self) -> None:
        """Ask what to search for in the log."""
        self._prompt("find", self._lines.term, "text in the log")

    def _prompt(self, what: str, value: str, hint: str) -> None:
        self._prompting = what
        self.query_one("#prompt").display = True
        self.query_one("#what", Static).update(Text(f"{what.capitalize()}: ", style="bold"))
        field = self.query_one("#input", Input)
        field.value = value
        field.placeholder = hint
        field.cursor_position = len(value)
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter and search while it is typed."""
        if event.input.id != "input":
            return
        if self._prompting == "filter":
            self._filter = event.value
            self.model.wanted = wanted(event.value)
            self.model.changed = True
        elif self._prompting == "find":
            self._lines.search(event.value)
            self.pane.forget_match()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, or go to the last match."""
        if event.input.id != "input":
            return
        what, self._prompting = self._prompting, ""
        self.query_one("#prompt").display = False
        if what == "find":
            self.pane.focus()
            self.pane.find(-1)
            self._entitle()
        else:
            self.table.focus()

    def action_clear(self) -> None:
        """Undo one thing: the prompt, a message, the search, the filter, the zoom."""
        if self._prompting:
            what, self._prompting = self._prompting, ""
            self.query_one("#prompt").display = False
            (self.pane if what == "find" else self.table).focus()
            self._forget(what)
        elif self.notices.clear_all():
            return
        elif self._lines.term:
            self._forget("find")
        elif self._filter:
            self._forget("filter")
        elif self._zoomed:
            self.action_zoom()
        else:
            self.table.focus()

    def _forget(self, what: str) -> None:
        if what == "find":
            self._lines.search("")
            self.pane.forget_match()
        else:
            self._filter = ""
            self.model.wanted = wanted("")
            self.model.changed = True

    def action_sort(self) -> None:
        """Sort by the next column."""
        names = list(SORTS)
        self._sort(names[(names.index(self.model.sort) + 1) % len(names)])

    def _sort(self, name: str) -> None:
        self.model.sort = name
        self.model.reverse = False
        self.model.changed = True
        self.notices.say("sort", f"sorted by {name}")

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.model.reverse = not self.model.reverse
        self.model.changed = True
