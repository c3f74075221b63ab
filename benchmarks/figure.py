"""One figure: what was measured, how often, and whether it is what was aimed at."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

__all__ = ["Figure", "table"]

_HEADS = ("figure", "unit", "best", "median", "worst", "of", "goal", "")


@dataclass(frozen=True)
class Figure:
    """Measured ``values``, all of one ``unit``; ``goal`` is the most that is wanted, None where nothing is promised."""

    name: str
    unit: str
    values: list[float]
    goal: float | None = None
    more_is_better: bool = False
    """Only says which end is the best; goals are always upper bounds."""

    @property
    def median(self) -> float:
        """What decides whether the goal is met."""
        return median(self.values)

    @property
    def best(self) -> float:
        """The value least disturbed by whatever else the machine did."""
        return max(self.values) if self.more_is_better else min(self.values)

    @property
    def worst(self) -> float:
        """The value at the other end."""
        return min(self.values) if self.more_is_better else max(self.values)

    @property
    def missed(self) -> bool:
        """Whether the median is beyond the goal."""
        return self.goal is not None and self.median > self.goal

    @property
    def verdict(self) -> str:
        """``met`` only where no value at all is beyond the goal."""
        if self.goal is None:
            return ""
        if self.missed:
            return "missed"
        return "met" if self.worst <= self.goal else "met, not by the worst"

    def row(self) -> tuple[str, ...]:
        """The cells of this figure's line."""
        numbers = (f"{value:,.{_decimals(value)}f}" for value in (self.best, self.median, self.worst))
        goal = "" if self.goal is None else f"{self.goal:g}"
        return (self.name, self.unit, *numbers, str(len(self.values)), goal, self.verdict)


def _decimals(value: float) -> int:
    return next((places for bound, places in ((100, 0), (10, 1), (1, 2)) if value >= bound), 4)


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as lines of aligned columns, under a line of headings."""
    rows = [_HEADS, *(figure.row() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """Numbers stand to the right, words to the left."""
    words = (0, 1, len(row) - 1)
    cells = (
        cell.ljust(width) if place in words else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()
