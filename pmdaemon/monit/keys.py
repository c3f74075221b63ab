"""The keys: one table for the bindings, the footer and the help."""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["KEYS", "Key", "footer"]


class Key(NamedTuple):
    """One key: how Textual names it, the action, what the footer and the help say; ``keep`` 0 stays in every footer."""

    key: str
    action: str
    shown: str
    label: str
    help: str
    keep: int = 1


KEYS: Final = (
    Key("r", "act('restart')", "r", "Restart", "Stop the process and start it again", 0),
    Key(
        "R",
        "act('reload')",
        "R",
        "Reload",
        "Replace it by a new one, once that has proved itself; reads its file",
    ),
    Key("s", "act('stop')", "s", "Stop", "Stop it, with everything it has started", 0),
    Key("S", "act('start')", "S", "Start", "Start it", 0),
    Key("c", "scale", "c", "Scale", "Change how many processes its app has"),
    Key("K", "signal", "K", "Signal", "Send it a signal"),
    Key("0", "act('reset')", "0", "Reset", "Set its counter of restarts to 0"),
    Key("F", "act('flush')", "F", "Flush", "Empty its log files"),
    Key("d", "delete", "d", "Delete", "Stop and forget it; asks first"),
    Key("i,enter", "info", "i", "Info", "Show all that is known of it (Enter does too)"),
    Key("y", "why", "y", "Why", "Say how it came to be as it is: its last crash, and what happened"),
    Key("e", "events", "e", "Events", "Show what happened to all processes"),
    Key("slash", "filter", "/", "Filter", "Show some processes: text, or status:errored cpu:>50 mem:>100M ns:prod", 0),
    Key("o", "sort", "o", "Sort", "Sort by the next column (so does a click on a title)"),
    Key("O", "reverse", "O", "Order", "Turn the order round", 3),
    Key("ctrl+f", "find", "^F", "Find", "Search in the log; capitals count where there are any"),
    Key("n", "next(1)", "n", "Next", "Go to the next match", 3),
    Key("N", "next(-1)", "N", "Prev", "Go to the match before", 3),
    Key("space", "pause", "Space", "Pause", "Let new lines wait, and show them again"),
    Key("f", "follow", "f", "Follow", "Follow the log, or stay; scrolling up stays, the end follows"),
    Key("w", "switch('wrap')", "w", "Wrap", "Wrap long lines, or cut them (then Left and Right)", 3),
    Key("t", "switch('times')", "t", "Times", "Show the time of each line", 3),
    Key("z", "zoom", "z", "Zoom", "Show the log alone", 2),
    Key("tab", "focus_next", "Tab", "Log", "Move between the table and the log", 3),
    Key("escape", "clear", "Esc", "Back", "Close, clear the message, the search, the filter", 4),
    Key("question_mark", "help", "?", "Help", "Show this", 0),
    Key("q,ctrl+c", "leave", "q", "Quit", "Leave; the processes run on", 0),
)


def footer(width: int, lines: int) -> list[list[Key]]:
    """Return the keys for *lines* lines of *width* characters, those left out that do not fit."""
    for keep in range(max(key.keep for key in KEYS), -1, -1):
        filled = list(_filled([key for key in KEYS if key.keep <= keep], width))
        if len(filled) <= lines:
            return filled
    return filled[:lines]


def _filled(keys: list[Key], width: int) -> Iterator[list[Key]]:
    line: list[Key] = []
    used = 0
    for key in keys:
        length = len(key.shown) + 1 + len(key.label) + 1
        if line and used + length - 1 > width:
            yield line
            line, used = [], 0
        line.append(key)
        used += length
    yield line
