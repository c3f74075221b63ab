"""``pmdaemon info``: all that is known of a process."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.targets import select, wanted_argument
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.words import HEALTH_STYLES, STATUS_STYLES, clock, ended, how_much, uptime
from pmdaemon.client import ProcessObject

__all__ = ["described", "info_command", "pairs"]


@click.command("info")
@wanted_argument
@json_option
@connected
def info_command(place: Place, targets: Sequence[str], as_json: bool) -> None:
    """Show all that is known of processes: figures, last end, logs, configuration.

    Of environment variables the names are shown, and what looks like a secret is ***.

    \b
      pmdaemon info web
      pmdaemon info web --json
    """
    with place.client() as client:
        processes = select(client, targets)
    if as_json:
        print_json({"processes": [msgspec.to_builtins(each) for each in processes]})
    else:
        print("\n".join(described(each, place.terminal) for each in processes), end="")


def described(process: ProcessObject, terminal: Terminal) -> str:
    """Return all that is known of a process, a line each."""
    status = terminal.paint(process.status, STATUS_STYLES.get(process.status, ""))
    facts: list[tuple[str, Any]] = [
        ("id", process.id),
        ("app", f"{process.app}, instance {process.instance}"),
        ("namespace", process.namespace),
        ("status", status),
        ("health", terminal.paint(process.health, HEALTH_STYLES.get(process.health, ""))),
        ("pid", process.pid),
        ("port", process.port),
        ("uptime", uptime(process)),
        ("restarts", process.restarts),
        ("CPU", f"{process.cpu:.1f} %"),
        ("memory", how_much(process.memory)),
        ("declared", clock(process.created_at)),
        ("started", clock(process.started_at)),
    ]
    if process.exit_code is not None or process.exit_signal is not None:
        facts.append(("last end", ended(process.exit_code, process.exit_signal)))
    logs = process.logs if isinstance(process.logs, dict) else {}
    facts += [(f"log ({name})", path) for name, path in logs.items() if path]
    config = process.config if isinstance(process.config, dict) else {}
    facts += [(key, _value(value)) for key, value in config.items() if key not in ("name", "namespace")]
    return f"{terminal.paint(process.name, 'bold')}\n{pairs(facts, terminal)}"


def pairs(facts: Sequence[tuple[str, Any]], terminal: Terminal) -> str:
    """Return a line for each fact, with what has none left out."""
    told = [(name, str(value)) for name, value in facts if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in told), default=0)
    return "".join(f"  {terminal.paint(name.ljust(width), 'dim')}  {value}\n" for name, value in told)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
