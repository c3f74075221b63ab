"""The table of processes in text: which columns fit a width, and the cells of each row."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from pmdaemon.cli.words import HEALTH_STYLES, STATUS_STYLES, how_much, uptime
from pmdaemon.monit.model import Model, Row
from pmdaemon.monit.spark import spark

__all__ = ["Cell", "Placed", "cut", "header_cells", "place", "row_cells"]

Cell = tuple[str, str]
"""A text and its style, as rich names it."""

_SHORT: Final = 100
"""Columns of a terminal below which titles are short."""
_WIDEST_SPARK: Final = 16
_NAME: Final = (4, 16)
"""How much of a name has to fit before columns are dropped for it: at least, and at most."""

DOTS: Final = {
    "online": "●*",
    "starting": "◐~",
    "stopping": "◐~",
    "restarting": "◐~",
    "stopped": "○o",
    "errored": "✗x",
}


class Column(NamedTuple):
    """One column; the one with the smallest ``keep`` goes first when the width is too small, 0 never goes."""

    key: str
    title: str
    short: str
    width: int
    keep: int = 0
    right: bool = True
    sort: str | None = None


class Placed(NamedTuple):
    """A column and the width it has."""

    column: Column
    width: int


_COLUMNS: Final = (
    Column("id", "ID", "ID", 4, 1, sort="id"),
    Column("status", "Status", "Status", 12, right=False, sort="status"),
    Column("name", "Name", "Name", 0, right=False, sort="name"),
    Column("pid", "PID", "PID", 7, 3, sort="pid"),
    Column("port", "Port", "Port", 5, 2, sort="port"),
    Column("cpu", "CPU %", "CPU %", 6, 10, sort="cpu"),
    Column("cpu_spark", "", "", 4, 6, right=False),
    Column("memory", "Memory", "Memory", 9, 9, sort="memory"),
    Column("memory_spark", "", "", 4, 4, right=False),
    Column("uptime", "Uptime", "Uptime", 8, 7, sort="uptime"),
    Column("restarts", "Restarts", "Rst", 4, 8, sort="restarts"),
    Column("health", "Health", "Health", 9, 5, right=False, sort="health"),
)


def place(rows: Sequence[Row], width: int) -> list[Placed]:
    """Return the columns that fit in *width* characters, each with a space behind it but the last."""
    longest = max((cell_len(row.entry.name) for row in rows), default=4)
    columns = {column.key: column for column in _COLUMNS}
    if not any(row.entry.health != "unknown" for row in rows):
        del columns["health"]
    if not any(row.entry.port is not None for row in rows):
        del columns["port"]
    widths = {
        key: max(column.width, len(column.title if width >= _SHORT else column.short))
        for key, column in columns.items()
    }
    widths["name"] = max(_NAME[0], min(longest, _NAME[1]))

    def room() -> int:
        return width - sum(widths.values()) - len(widths) + 1

    for column in sorted(columns.values(), key=lambda each: each.keep):
        if room() < 0 and column.keep:
            del widths[column.key]
    widths["name"] = max(1, widths["name"] + min(room(), longest - widths["name"]))
    sparks = [key for key in ("cpu_spark", "memory_spark") if key in widths]
    for key in sparks:
        widths[key] += min(_WIDEST_SPARK - widths[key], room() // (2 if key == sparks[0] and len(sparks) > 1 else 1))
    return [Placed(columns[key], widths[key]) for key in columns if key in widths]


def header_cells(placed: Sequence[Placed], model: Model, width: int, *, unicode: bool) -> list[Cell]:
    """Return the titles, the one that is sorted by with an arrow."""
    cells = []
    for column, space in placed:
        title = column.title if width >= _SHORT else column.short
        if column.sort == model.sort:
            down = model.reverse != (column.sort in ("cpu", "memory", "uptime", "restarts"))
            arrow = ("▼" if down else "▲") if unicode else ("v" if down else "^")
            title = f"{title[: space - 1]}{arrow}"
        cells.append((_fit(title, space, right=column.right), "bold"))
    return cells


def row_cells(row: Row, placed: Sequence[Placed], model: Model, *, unicode: bool) -> list[Cell]:
    """Return the cells of one process, each as wide as its column."""
    cells = []
    for column, width in placed:
        text, style = _CELLS[column.key](row, width, model, unicode)
        if column.key == "name":
            text = cut(text, width, unicode=unicode)
        cells.append((_fit(text, width, right=column.right), style if model.live else "dim"))
    return cells


def cut(text: str, width: int, *, unicode: bool) -> str:
    """Return *text* in at most *width* characters, cut in its middle."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, width)
    half = (width - 1) // 2
    mark = "…" if unicode else "~"
    tail = text[len(text) - half :]
    while cell_len(tail) > half:
        tail = tail[1:]
    return f"{set_cell_size(text, width - 1 - cell_len(tail))}{mark}{tail}"


def _fit(text: str, width: int, *, right: bool) -> str:
    missing = width - cell_len(text)
    if missing < 0:
        return set_cell_size(text, width)
    return " " * missing + text if right else text + " " * missing


def _status(row: Row, width: int, model: Model, unicode: bool) -> Cell:
    status = row.entry.status
    dot = DOTS.get(status, "?" * 2)[0 if unicode else 1]
    return f"{dot} {status}", STATUS_STYLES.get(status, "")


def _figure(text: Callable[[Row], str]) -> Callable[[Row, int, Model, bool], Cell]:
    def cell(row: Row, width: int, model: Model, unicode: bool) -> Cell:
        return (text(row), "") if row.entry.pid is not None else ("-", "dim")

    return cell


def _cpu_spark(row: Row, width: int, model: Model, unicode: bool) -> Cell:
    highest = max((each for each in row.cpu if each is not None), default=0.0)
    return spark(row.cpu, width, 0.0, max(5.0, highest), unicode=unicode), "cyan"


def _memory_spark(row: Row, width: int, model: Model, unicode: bool) -> Cell:
    known = [each for each in row.memory if each is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    margin = max(0.0, high * 0.1 - (high - low)) / 2  # a change of less than a tenth is not drawn as a large one
    return spark(row.memory, width, low - margin, high + margin, unicode=unicode), "magenta"


def _restarts(row: Row, width: int, model: Model, unicode: bool) -> Cell:
    return str(row.entry.restarts), "red bold" if model.recent(row) else ""


def _health(row: Row, width: int, model: Model, unicode: bool) -> Cell:
    health = row.entry.health
    return ("-" if health == "unknown" else health), HEALTH_STYLES.get(health, "")


_CELLS: Final[dict[str, Callable[[Row, int, Model, bool], Cell]]] = {
    "id": lambda row, *_: (str(row.entry.id), "dim"),
    "status": _status,
    "name": lambda row, *_: (row.entry.name, ""),
    "pid": _figure(lambda row: str(row.entry.pid)),
    "port": lambda row, *_: ("-", "dim") if row.entry.port is None else (str(row.entry.port), ""),
    "cpu": _figure(lambda row: f"{row.entry.cpu:.1f}"),
    "cpu_spark": _cpu_spark,
    "memory": _figure(lambda row: how_much(row.entry.memory)),
    "memory_spark": _memory_spark,
    "uptime": _figure(lambda row: uptime(row.entry)),
    "restarts": _restarts,
    "health": _health,
}
