"""The page of all figures, as text that is read in a terminal and is RST too."""

from collections.abc import Iterable, Sequence

from benchmarks.figure import OURS, Figure, Section

__all__ = ["page"]

_HEADS = ("what", "unit", "whose", "median", "best", "worst", "of", "PMDaemon is", "goal")
_WORDS = (0, 1, 2, len(_HEADS) - 1)
"""The columns that stand to the left; numbers stand to the right."""


def page(sections: Iterable[Section], facts: Sequence[str]) -> str:
    """Return the page: the *facts* about machine, date and run, then a table for each section, and who wins where."""
    sections = list(sections)
    lines = ["=======", "Results", "=======", "", "Written by ``make bench``.", "", *_bullets(facts)]
    for section in sections:
        lines += [section.title, "-" * len(section.title), "", section.method.strip(), ""]
        lines += _bullets(f"{name} {version}" for name, version in section.versions.items())
        lines += _bullets(section.missing)
        lines += _table(section.figures)
    return "\n".join([*lines, *_wins(sections)]) + "\n"


def _bullets(sentences: Iterable[str]) -> list[str]:
    lines = [f"* {sentence}" for sentence in sentences]
    return [*lines, ""] if lines else []


def _table(figures: Iterable[Figure]) -> list[str]:
    rows = [row for figure in figures for row in _rows(figure)]
    widths = [max(map(len, column)) for column in zip(_HEADS, *rows, strict=True)]
    if not rows:
        return []
    rule = "  ".join("=" * width for width in widths)
    return [rule, _line(_HEADS, widths), rule, *(_line(row, widths) for row in rows), rule, ""]


def _rows(figure: Figure) -> Iterable[tuple[str, ...]]:
    for whose, values in figure.values.items():
        if not values:
            continue
        best, worst = (max(values), min(values)) if figure.more_is_better else (min(values), max(values))
        numbers = (_number(value) for value in (figure.median(whose), best, worst))
        ratio = figure.ratio(whose)
        ours = "" if ratio is None else f"{ratio:.3g}x"
        # Each line tells all, as a cell that is empty at its left would be taken for more of the line above.
        yield figure.name, figure.unit, whose, *numbers, str(len(values)), ours, _verdict(figure, whose)


def _number(value: float) -> str:
    places = next((places for bound, places in ((100, 0), (10, 1), (1, 2)) if abs(value) >= bound), 4)
    return f"{value:,.{places}f}"


def _verdict(figure: Figure, whose: str) -> str:
    met = figure.met(whose)
    if met is None:
        return ""
    bound = f"{figure.goals[whose]:g}" if whose == OURS else f"{figure.goals[whose]:g}x"
    return f"{bound}: {'met' if met else 'MISSED'}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.ljust(width) if place in _WORDS else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _wins(sections: Iterable[Section]) -> list[str]:
    """Say where a peer is better, in so many words."""
    lost = [
        f"{figure.name}: {whose} is better ({_number(figure.median(whose))} {figure.unit} against "
        f"{_number(figure.median(OURS))} of {OURS})"
        for section in sections
        for figure in section.figures
        for whose in figure.values
        if (ratio := figure.ratio(whose)) is not None and ratio < 1
    ]
    title = "Where a peer wins"
    return [title, "-" * len(title), "", *(_bullets(lost) or ["Nowhere, in this run."])]
