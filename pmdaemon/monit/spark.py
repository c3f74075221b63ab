"""Sparklines: the last values of a figure as one row of braille dots, or of ASCII."""

from collections.abc import Sequence
from typing import Final

__all__ = ["spark"]

_LEFT: Final = (0x40, 0x44, 0x46, 0x47)
_RIGHT: Final = (0x80, 0xA0, 0xB0, 0xB8)
"""The dots of one column, from one dot at the bottom to all four."""
_RAMP: Final = "_.:-=+*#"


def spark(values: Sequence[float | None], width: int, low: float, high: float, *, unicode: bool) -> str:
    """Return the latest of *values* in *width* characters, the newest at the right.

    *low* is the lowest line and *high* the highest; None is a gap. Braille holds two values a character.
    """
    per = 2 if unicode else 1
    latest = list(values)[-width * per :]
    shown: list[float | None] = [*[None] * (width * per - len(latest)), *latest]
    steps = len(_LEFT) if unicode else len(_RAMP)
    levels = [None if each is None else _level(each, low, high, steps) for each in shown]
    if not unicode:
        return "".join(" " if level is None else _RAMP[level] for level in levels)
    cells = []
    for left, right in zip(levels[::2], levels[1::2], strict=True):
        dots = (0 if left is None else _LEFT[left]) | (0 if right is None else _RIGHT[right])
        cells.append(chr(0x2800 + dots) if dots else " ")
    return "".join(cells)


def _level(value: float, low: float, high: float, steps: int) -> int:
    if high <= low:
        return 0
    return min(steps - 1, max(0, round((value - low) / (high - low) * (steps - 1))))
