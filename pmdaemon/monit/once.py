"""One picture as plain text, for scripts, mails and documents."""

import asyncio
import time

from pmdaemon.cli.terminal import Terminal
from pmdaemon.client import Client, GetLogs, ProcessMetrics, Subscribed, SystemMetrics
from pmdaemon.monit.filters import wanted
from pmdaemon.monit.header import header
from pmdaemon.monit.layout import Cell, header_cells, place, row_cells
from pmdaemon.monit.lines import Log
from pmdaemon.monit.model import Model

__all__ = ["picture"]

_PATIENCE = 5.0
"""Seconds to wait for figures: they come once a second."""


async def picture(client: Client, *, width: int, height: int, unicode: bool, chosen: str = "", sort: str = "id") -> str:
    """Return all processes that are *chosen*, and below them the end of the first one's log.

    *width* is that of the table; *height* leaves room for so many lines of the log, five at least. Raises what the
    daemon answers.
    """
    model = Model(time.monotonic)
    model.wanted = wanted(chosen)
    model.sort = sort
    model.info = await client.system()
    await _figures(client, model)
    rows = model.listed()
    placed = place(rows, width)
    lines = [_plain(line, "") for line in header(model, width, None, unicode=unicode)]
    lines += ["", _plain(header_cells(placed, model, width, unicode=unicode))]
    lines += [_plain(row_cells(row, placed, model, unicode=unicode)) for row in rows]
    if rows:
        lines += await _end_of_log(client, rows[0].entry.name, rows[0].entry.id, height - len(lines), unicode=unicode)
    return "".join(f"{line.rstrip()}\n" for line in lines)


async def _figures(client: Client, model: Model) -> None:
    """Fill the model from the beginning of a subscription."""
    left = {Subscribed, ProcessMetrics, SystemMetrics}
    try:
        async with asyncio.timeout(_PATIENCE), client.subscribe(["process_metrics", "system_metrics"]) as messages:
            async for message in messages:
                model.take(message)
                left.discard(type(message.data))
                if not left:
                    return
    except TimeoutError:  # a daemon under load: what is known of the processes is shown without new figures
        return


async def _end_of_log(client: Client, name: str, id_: int, room: int, *, unicode: bool) -> list[str]:
    log = Log(Terminal(is_terminal=True, colors=False, unicode=unicode).harmless)
    for each in (await client.logs(GetLogs(process=id_, lines=max(5, min(room - 2, 200))))).lines:
        log.take(each, each.at)
    return ["", f"Log of {name}:", *(f"{'!' if line.stream == 'stderr' else ' '} {line.text}" for line in log.lines)]


def _plain(cells: list[Cell], between: str = " ") -> str:
    return between.join(text for text, _ in cells)
