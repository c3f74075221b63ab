"""Which lines of a log a client wants to see [S9]."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, get_args

import msgspec
from msgspec import Struct

from pmdaemon.core.lines import LEVELS, Stream, level_rank
from pmdaemon.errors import InvalidMessage

__all__ = ["LogFilter", "Matcher"]

Matcher = Callable[[str, str, str], bool]
"""Whether a line is wanted, by its text, its level and its stream."""

_MAX_MEMORY = 1 << 20
_MAX_PROGRAM = 2000
"""Bounds of one expression: bytes, and RE2's measure of its size; a search takes at most this many steps a byte."""


class LogFilter(Struct, frozen=True, omit_defaults=True):
    """A line passes that has at least ``level``, is of ``stream`` and contains ``grep``; None means any.

    ``grep`` is plain text, or an RE2 expression where ``regex``; capital letters count in both.
    """

    level: str | None = None
    stream: str | None = None
    grep: str | None = None
    regex: bool = False

    def matcher(self) -> Matcher:
        """Return the filter as a function; raises InvalidMessage where a part of it is wrong."""
        _check_choice("level", self.level, LEVELS)
        _check_choice("stream", self.stream, get_args(Stream))
        lowest = 0 if self.level is None else level_rank(self.level)
        only = self.stream
        found = self._search()

        def matches(text: str, level: str, stream: str) -> bool:
            return (only is None or stream == only) and level_rank(level) >= lowest and (found is None or found(text))

        return matches

    def told(self) -> dict[str, Any]:
        """Return the parts that are set, JSON-ready."""
        return dict(msgspec.to_builtins(self))

    def _search(self) -> Callable[[str], bool] | None:
        needle = self.grep
        if needle is None:
            return None
        if not self.regex:
            return lambda text: needle in text
        search = _compile(needle).search
        # A bytes pattern on bytes: for str the library would map each match back to characters.
        return lambda text: search(text.encode()) is not None


def _check_choice(key: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is None or value in choices:
        return
    near = get_close_matches(value.lower(), choices, n=1)
    raise InvalidMessage(
        f"cannot filter the log: {key} is not one of {', '.join(choices)}",
        hint=f"did you mean {near[0]!r}?" if near else None,
        details={"path": f"data.{key}"},
    )


def _compile(expression: str) -> Any:
    import re2  # 4 MB, which most daemons are never asked to use

    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile(expression.encode("utf-8", "surrogatepass"), options)
    except re2.error as error:
        raise _wrong_expression(_reason(error), "the syntax is that of RE2: no look-around, no references") from None
    if compiled.programsize > _MAX_PROGRAM:
        raise _wrong_expression("it is too large", "use smaller repetition counts or fewer alternatives")
    return compiled


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else "it is not valid"
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _wrong_expression(reason: str, hint: str) -> InvalidMessage:
    return InvalidMessage(
        f"cannot filter the log: grep is not an expression: {reason}", hint=hint, details={"path": "data.grep"}
    )
