"""Rows for people: boxed and coloured on a terminal, plain and whole into a pipe."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pmdaemon.cli.terminal import Terminal

__all__ = ["Column", "boxed", "draw", "table"]


class Column(NamedTuple):
    """One column; ``keep`` says how long it stays when there is little room, 0 the longest."""

    title: str
    right: bool = False
    keep: int = 0
    style: Callable[[str], str] | None = None
    shrinks: bool = False


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the lines of a table, each with its end."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    return "".join(line.rstrip() + "\n" for line in lines)


def draw(columns: Sequence[Column], rows: Sequence[Sequence[str]], terminal: Terminal) -> str:
    """Return a table as the terminal wants it, or as a pipe does."""
    if terminal.is_terminal:
        return boxed(columns, rows, terminal)
    return table([column.title for column in columns], rows)


def boxed(columns: Sequence[Column], rows: Sequence[Sequence[str]], terminal: Terminal) -> str:
    """Return a table with lines around it, no wider than the terminal: columns go, and then names are cut."""
    from rich.cells import cell_len  # for a terminal alone: it costs as much as all else

    def span(index: int) -> int:
        return max(cell_len(text) for text in (columns[index].title, *(row[index] for row in rows)))

    chosen = list(range(len(columns)))
    widths = {index: span(index) for index in chosen}
    room = terminal.width

    def excess() -> int:
        return sum(widths[index] + 3 for index in chosen) + 1 - room

    empty = {index for index in chosen if all(row[index] == "-" for row in rows)}
    for index in sorted(chosen, key=lambda each: (each not in empty, -columns[each].keep)):
        if excess() > 0 and columns[index].keep:
            chosen.remove(index)
    for index in chosen:
        if columns[index].shrinks and excess() > 0:
            widths[index] = max(8, widths[index] - excess())

    def cell(index: int, text: str, *, header: bool = False) -> str:
        column, width = columns[index], widths[index]
        if cell_len(text) > width:
            half = (width - 1) // 2
            text = f"{text[: width - 1 - half]}{'…' if terminal.unicode else '~'}{text[len(text) - half :]}"
        padding = " " * max(0, width - cell_len(text))
        style = "bold" if header else column.style(text) if column.style else ""
        shown = terminal.paint(text, style) if style else text
        return padding + shown if column.right else shown + padding

    bar, lines = ("│", ("╭─┬╮", "├─┼┤", "╰─┴╯")) if terminal.unicode else ("|", ("+-++",) * 3)

    def rule(parts: str) -> str:
        return parts[0] + parts[2].join(parts[1] * (widths[index] + 2) for index in chosen) + parts[3]

    def row(texts: Sequence[str], *, header: bool = False) -> str:
        return f"{bar} " + f" {bar} ".join(cell(index, texts[index], header=header) for index in chosen) + f" {bar}"

    titles = row([column.title for column in columns], header=True)
    return "\n".join([rule(lines[0]), titles, rule(lines[1]), *map(row, rows), rule(lines[2])]) + "\n"
