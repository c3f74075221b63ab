"""What came of the commands: errors with their hint until they are cleared, the rest for a few seconds."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rich.text import Text
from textual.widgets import Static

from pmdaemon.client import PMDaemonError

__all__ = ["Notices"]

_SHOWN: Final = 3
_SECONDS: Final = 6.0


class _Notice(NamedTuple):
    about: object
    text: Text
    until: float | None
    failed: bool = False


class Notices(Static):
    """The last few messages, one or two lines each; of one thing the latest alone."""

    def __init__(self, now: Callable[[], float], **rest: Any) -> None:
        super().__init__(**rest)
        self._now = now
        self._notices: list[_Notice] = []
        self.display = False

    def say(self, about: object, text: str, *, lasting: bool = False) -> None:
        """Tell something for a while, or, *lasting*, until something else is told about the same."""
        self._put(_Notice(about, Text(text), None if lasting else self._now() + _SECONDS))

    def fail(self, about: object, error: PMDaemonError) -> None:
        """Tell an error, until it is cleared."""
        text = Text.assemble(("error: ", "red bold"), error.message)
        if error.hint:
            text.append(f"\n  {error.hint}", "yellow")
        near = error.details.get("matches")
        if near:
            text.append(f"\n  did you mean: {', '.join(map(str, near))}", "yellow")
        self._put(_Notice(about, text, None, failed=True))

    def clear_all(self) -> bool:
        """Forget all, and return whether there was an error among them."""
        there = any(each.failed for each in self._notices)
        self._notices.clear()
        self._show()
        return there

    def expire(self) -> None:
        """Forget those whose time is over."""
        left = [each for each in self._notices if each.until is None or each.until > self._now()]
        if len(left) != len(self._notices):
            self._notices = left
            self._show()

    def _put(self, notice: _Notice) -> None:
        others = [each for each in self._notices if each.about != notice.about]
        self._notices = [*others[1 - _SHOWN :], notice]
        self._show()

    def _show(self) -> None:
        self.display = bool(self._notices)
        self.update(Text("\n").join(each.text for each in self._notices))
