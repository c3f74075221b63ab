"""The screens that open above the main one: to confirm, to enter a value, and to read."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

__all__ = ["Ask", "Confirm", "Line", "Reader"]


Line = tuple[Text, ...]
"""What stands on a line to read, each part in a column of its own."""


class Confirm(ModalScreen[bool]):
    """Asks something that is answered with y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        Binding("n,escape,q,enter", "answer(False)", show=False),
    ]

    def __init__(self, question: str, consequence: str) -> None:
        super().__init__()
        self._question = question
        self._consequence = consequence

    def compose(self) -> ComposeResult:
        """The question."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._question, style="bold"))
            yield Static(Text(self._consequence))
            yield Static(Text.assemble(("y", "bold"), " yes   ", ("n", "bold"), " no (Esc)"), classes="keys")

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class Ask(ModalScreen[str | None]):
    """Asks for a value; *problem* says what is wrong with one, or nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", show=False)]

    def __init__(self, question: str, hint: str, value: str, problem: Callable[[str], str | None]) -> None:
        super().__init__()
        self._question = question
        self._hint = hint
        self._value = value
        self._problem = problem

    def compose(self) -> ComposeResult:
        """The question and the field."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._question, style="bold"))
            yield Input(self._value, compact=True)
            yield Static(Text(self._hint, style="dim"), id="hint")
            yield Static(Text.assemble(("Enter", "bold"), " do it   ", ("Esc", "bold"), " back"), classes="keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close with the value, or say what is wrong with it."""
        value = event.value.strip()
        problem = self._problem(value)
        if problem is None:
            self.dismiss(value)
        else:
            self.query_one("#hint", Static).update(Text(problem, style="red bold"))

    def action_cancel(self) -> None:
        """Close without a value."""
        self.dismiss(None)


class Reader(ModalScreen[None]):
    """Shows lines to read; *content* is asked again as long as it is open, where it is *live*."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,i,y,e,question_mark,enter", "close", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]

    def __init__(self, title: str, content: Callable[[], Sequence[Line]], *, live: bool = False) -> None:
        super().__init__()
        self._title = title
        self._content = content
        self._live = live
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        """The text, and how to leave it."""
        with Vertical(classes="reader"):
            yield Static(Text(self._title, style="bold", no_wrap=True, overflow="ellipsis"), classes="title")
            with VerticalScroll(id="page"):
                yield Static(id="text")
            yield Static(Text.assemble(("Esc", "bold"), " back   ", ("j k PgUp PgDn", "bold"), " scroll"))

    def on_mount(self) -> None:
        """Show it."""
        self.query_one("#page").focus()
        self._update()
        if self._live:
            self.set_interval(0.5, self._update)

    def _update(self) -> None:
        content = self._content()
        plain = [text.plain for line in content for text in line]
        if plain == self._shown:
            return
        self._shown = plain
        grid = Table.grid(padding=(0, 2, 0, 0))
        for line in content:
            grid.add_row(*line)
        self.query_one("#text", Static).update(grid)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)

    def action_scroll(self, by: Any) -> None:
        """Scroll by a line."""
        self.query_one("#page").scroll_relative(y=by, animate=False)
