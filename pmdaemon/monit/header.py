"""The two lines above the table: the daemon and the connection to it, and the machine's figures."""

from typing import Final

from rich.cells import cell_len

from pmdaemon.cli.words import STATUS_STYLES, how_much
from pmdaemon.monit.layout import Cell, cut
from pmdaemon.monit.model import Model
from pmdaemon.monit.spark import spark

__all__ = ["header"]

_ORDER: Final = ("errored", "restarting", "stopping", "starting", "online", "stopped")


def header(model: Model, width: int, retry_in: float | None, *, unicode: bool) -> list[list[Cell]]:
    """Return both lines, with what does not fit left out; in *retry_in* seconds it is tried again to connect.

    What keeps the daemon from writing its state stands in the place of the figures.
    """
    info = model.info
    who: list[Cell] = [("PMDaemon", "bold")]
    if info is not None:
        who += [(f" {info.daemon.version}", ""), (f"  {info.hostname}", "bold")]
    who += [("  ", ""), *_connection(model, retry_in, unicode=unicode)]
    counts = model.counts()
    total = sum(counts.values())
    parts: list[list[Cell]] = [[(f"{total} process{'' if total == 1 else 'es'}", "")]]
    parts += [[(f"{counts[each]} {each}", STATUS_STYLES[each])] for each in _ORDER if counts[each]]
    room = width - _length(who) - 2
    while parts and _length(_joined(parts)) > room:
        parts.pop()
    right = _joined(parts)
    first = [*who, (" " * max(0, width - _length(who) - _length(right)), ""), *right]
    if info is not None and info.daemon.trouble is not None:
        trouble = f"error: the daemon cannot write its state: {info.daemon.trouble}"
        return [first, [(cut(trouble, width, unicode=unicode), "red bold")]]
    figures = _figures(model, unicode=unicode)
    while figures and _length(_joined(figures)) > width:
        figures.pop()
    return [first, _joined(figures)]


def _connection(model: Model, retry_in: float | None, *, unicode: bool) -> list[Cell]:
    if model.refused is not None:
        return [("x no connection", "red bold")]
    if model.live:
        return [("● live" if unicode else "* live", "green")]
    dot = "○" if unicode else "o"
    if model.lost is None:
        return [(f"{dot} connecting", "yellow")]
    again = "reconnecting" if not retry_in or retry_in < 0.5 else f"reconnecting in {retry_in:.0f} s"
    return [(f"{dot} {again}", "yellow bold"), (f", stale since {model.lost:%H:%M:%S}", "yellow")]


def _figures(model: Model, *, unicode: bool) -> list[list[Cell]]:
    system = model.system
    if system is None:
        return []
    memory, load = system.memory, system.load
    cores = "" if system.cpu.cores == 1 else f" of {system.cpu.cores} cores"
    figures = [
        [
            ("CPU ", "dim"),
            (spark(model.cpu, 8, 0.0, 100.0, unicode=unicode), "cyan"),
            (f" {system.cpu.usage:.0f} %", ""),
            (cores, "dim"),
        ],
        [("Memory ", "dim"), (f"{how_much(memory.used)} of {how_much(memory.total)}", "")],
        [("Load ", "dim"), (f"{load.one:.2f} {load.five:.2f} {load.fifteen:.2f}", "")],
    ]
    if model.info is not None:
        lag = model.info.daemon.loop_lag
        figures.append([("Lag ", "dim"), (f"{lag:.0f} ms" if lag >= 10 else f"{lag:.1f} ms", _lag_style(lag))])
        figures.append([("Clients ", "dim"), (str(model.info.daemon.clients), "")])
    return figures


def _lag_style(lag: float) -> str:
    return "red bold" if lag >= 500 else "yellow" if lag >= 100 else ""


def _joined(parts: list[list[Cell]]) -> list[Cell]:
    cells: list[Cell] = []
    for part in parts:
        cells += [*([("  ", "")] if cells else []), *part]
    return cells


def _length(cells: list[Cell]) -> int:
    return sum(cell_len(text) for text, _ in cells)
