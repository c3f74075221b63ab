"""``pmdaemon health``: what the health checks found."""

from collections.abc import Sequence
from typing import Any

import click

from pmdaemon.cli.command import Exit
from pmdaemon.cli.events import sentence, told
from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.table import Column, draw
from pmdaemon.cli.targets import select, targets_argument
from pmdaemon.cli.words import HEALTH_STYLES, clock
from pmdaemon.client import EventRecord, ProcessObject

__all__ = ["health_command"]


@click.command("health")
@targets_argument
@json_option
@connected
def health_command(place: Place, targets: Sequence[str], as_json: bool) -> int:
    """Show what the health checks found; the exit code is 41 where a process is unhealthy.

    \b
      pmdaemon health
      pmdaemon health web && deploy
    """
    with place.client() as client:
        processes = select(client, targets)
        checked = [each for each in processes if _check(each) is not None]
        latest: dict[int, EventRecord | None] = {}
        for each in checked:
            latest[each.id] = next(iter(told(client, each.id, ["health_update"], 1, None)), None)
    if as_json:
        print_json({"processes": [_document(each, latest.get(each.id)) for each in processes]})
    elif not checked:
        click.echo("no process has a health check; docs/configuration.rst says how to declare one", err=True)
    else:
        columns = [
            Column("Name", shrinks=True),
            Column("Health", style=lambda text: HEALTH_STYLES.get(text, "")),
            Column("Check", keep=1),
            Column("Since", keep=2),
            Column("Last change", keep=3),
        ]
        rows = [_row(each, latest[each.id]) for each in checked]
        print(draw(columns, rows, place.terminal), end="")
    return Exit.UNHEALTHY if any(each.health == "unhealthy" for each in processes) else Exit.OK


def _check(process: ProcessObject) -> dict[str, Any] | None:
    config = process.config if isinstance(process.config, dict) else {}
    check: dict[str, Any] | None = config.get("health_check")
    return check


def _row(process: ProcessObject, last: EventRecord | None) -> tuple[str, ...]:
    check = (_check(process) or {}).get("check_type", "-")
    return (
        process.name,
        process.health,
        check,
        clock(last.timestamp) if last is not None else "-",
        sentence(last) if last is not None else "-",
    )


def _document(process: ProcessObject, last: EventRecord | None) -> dict[str, Any]:
    return {
        "name": process.name,
        "id": process.id,
        "health": process.health,
        "check": _check(process),
        "changed_at": None if last is None else last.timestamp,
        "details": None if last is None else last.data.get("details"),
    }
