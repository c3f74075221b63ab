"""``pmdaemon list``: what runs, once or as it changes."""

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from pmdaemon.cli.command import Failure
from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.table import Column, draw
from pmdaemon.cli.targets import select, targets_argument
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.words import HEALTH_STYLES, STATUS_STYLES, how_much, uptime
from pmdaemon.core.events import ProcessMetricsEntry

__all__ = ["list_command", "listed", "listing"]


@click.command("list")
@targets_argument
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print names alone.")
@click.option("--format", "layout", metavar="TEXT", help="Print a line of this for each, as '{name} {pid}'.")
@click.option("-w", "--watch", is_flag=True, help="Go on, and show each change as it happens.")
@click.option("--interval", type=click.IntRange(100, 3_600_000), default=1000, help="ms between figures with --watch.")
@connected
def list_command(
    place: Place, targets: Sequence[str], as_json: bool, quiet: bool, layout: str | None, watch: bool, interval: int
) -> None:
    """Show what runs.

    \b
      pmdaemon list
      pmdaemon list 'web-*' ns:prod
      pmdaemon list --json | jq -r '.processes[] | select(.status == "errored").name'
    """
    if watch:
        _watch(place, targets, interval, as_json)
        return
    with place.client() as client:
        processes = select(client, targets)
    if as_json:
        print_json({"processes": [listed(each) for each in processes]})
    elif quiet:
        sys.stdout.writelines(f"{each.name}\n" for each in processes)
    elif layout is not None:
        sys.stdout.writelines(_laid_out(layout, listed(each)) for each in processes)
    else:
        print(listing(processes, place.terminal), end="")


def listed(process: ProcessMetricsEntry) -> dict[str, Any]:
    """Return a process as ``--json`` has it: the process object without its configuration and logs."""
    told: dict[str, Any] = msgspec.to_builtins(process)
    return {key: value for key, value in told.items() if key not in ("config", "logs")}


def listing(processes: Sequence[ProcessMetricsEntry], terminal: Terminal) -> str:
    """Return the table."""
    checked = any(each.health != "unknown" or _has_check(each) for each in processes)
    columns = [
        Column("ID", right=True, keep=2),
        Column("Name", shrinks=True),
        Column("Status", style=lambda text: STATUS_STYLES.get(text, "")),
        Column("PID", right=True, keep=3),
        Column("Port", right=True, keep=4),
        Column("CPU (%)", right=True, keep=5),
        Column("Memory", right=True, keep=6),
        Column("Uptime", right=True, keep=7),
        Column("Restarts", right=True, keep=1),
        *([Column("Health", keep=8, style=lambda text: HEALTH_STYLES.get(text, ""))] if checked else []),
    ]
    rows = [
        (
            str(each.id),
            each.name,
            each.status,
            "-" if each.pid is None else str(each.pid),
            "-" if each.port is None else str(each.port),
            f"{each.cpu:.1f}",
            how_much(each.memory),
            uptime(each),
            str(each.restarts),
            *([each.health] if checked else []),
        )
        for each in processes
    ]
    return draw(columns, rows, terminal)


def _has_check(process: ProcessMetricsEntry) -> bool:
    config = getattr(process, "config", None)
    return isinstance(config, dict) and "health_check" in config


def _laid_out(layout: str, fields: dict[str, Any]) -> str:
    try:
        return layout.format_map(fields) + "\n"
    except (KeyError, ValueError, IndexError, AttributeError) as why:
        raise Failure(
            f"cannot print '{layout}': {why}", f"the fields are {', '.join(fields)}", "write them as {name}"
        ) from why


def _watch(place: Place, targets: Sequence[str], interval: int, as_json: bool) -> None:
    """Show the processes whenever something is told of them; the last picture stays behind."""
    chosen = None if not targets or "all" in targets else list(targets)
    screen = place.terminal.is_terminal and not as_json
    picture = ""
    if screen:
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
    try:
        with place.client().subscribe(["process_metrics"], chosen, interval=interval) as messages:
            for message in messages:
                if message.type == "process_metrics":
                    processes = message.data.processes
                    if as_json:
                        print_json({"processes": [listed(each) for each in processes]}, line=True)
                        continue
                    picture = listing(processes, place.terminal)
                    note = f"{len(processes)} processes; Ctrl-C ends"
                elif message.type == "disconnected":
                    note = f"{message.data.reason}; waiting for it to come back"
                else:
                    continue
                _show(picture, note, place.terminal if screen else None)
    except KeyboardInterrupt:
        pass
    finally:
        if screen:
            sys.stdout.write(f"\x1b[?25h\x1b[?1049l{picture}")
            sys.stdout.flush()


def _show(picture: str, note: str, screen: Terminal | None) -> None:
    if screen is not None:
        sys.stdout.write(f"\x1b[H\x1b[2J{picture}{screen.paint(note, 'dim')}\n")
    elif picture:
        sys.stdout.write(f"{picture}\n")
    sys.stdout.flush()
