"""``pmdaemon why`` and what is told of a crash: how a process came to be as it is."""

from typing import Any

import click
import msgspec

from pmdaemon.cli.events import sentence, told
from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.targets import process_argument, select
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.words import STATUS_STYLES, clock, ended, how_long, how_much, uptime
from pmdaemon.client import Crash, EventRecord, ProcessObject

__all__ = ["reasons", "why_command"]

_EVENTS = 8


@click.command("why")
@process_argument
@click.option("-n", "--lines", type=click.IntRange(0, 200), default=20, help="Last lines to show (default: 20).")
@json_option
@connected
def why_command(place: Place, process: str, lines: int, as_json: bool) -> None:
    """Say how a process came to be as it is: its last crash with its last lines, and what happened since.

    \b
      pmdaemon why web
    """
    with place.client() as client:
        chosen = select(client, [process])
        crashes = {each.id: client.crash(each.id) for each in chosen}
        events = {each.id: told(client, each.id, ["process_event", "health_update"], _EVENTS, None) for each in chosen}
    if as_json:
        print_json(
            {
                "processes": [
                    {
                        "process": msgspec.to_builtins(each),
                        "crash": msgspec.to_builtins(crashes[each.id]),
                        "events": msgspec.to_builtins(events[each.id]),
                    }
                    for each in chosen
                ]
            }
        )
        return
    print("\n".join(reasons(each, crashes[each.id], events[each.id], lines, place.terminal) for each in chosen), end="")


def reasons(
    process: ProcessObject, crash: Crash | None, events: list[EventRecord], lines: int, terminal: Terminal
) -> str:
    """Return how a process came to be as it is, in lines: *events* oldest first, *lines* of what it printed last."""
    said = [_state(process, events, terminal)]
    if crash is None:
        said.append("  It has never crashed.")
    else:
        lived = f"after {how_long(crash.uptime) if crash.uptime >= 1000 else f'{crash.uptime} ms'}"
        said.append(
            f"  Last crash, {clock(crash.at)}: {ended(crash.exit_code, crash.exit_signal)} {lived}{_memory(crash)}."
        )
        if lines and crash.lines:
            said.append("  The last it printed:")
            for line in crash.lines[-lines:]:
                mark = "!" if line.stream == "stderr" else "|"
                said.append(f"    {mark} {terminal.harmless(line.message)}")
    if events:
        said.append("  What happened:")
        said += [f"    {clock(each.timestamp)}  {terminal.harmless(sentence(each))}" for each in events]
    said += _advice(process, crash)
    return "".join(f"{line}\n" for line in said)


def _state(process: ProcessObject, events: list[EventRecord], terminal: Terminal) -> str:
    name = terminal.paint(process.name, "bold")
    status = terminal.paint(process.status, STATUS_STYLES.get(process.status, ""))
    more: dict[str, Any] = {
        "online": f" for {uptime(process)}, pid {process.pid}, health {process.health}",
        "errored": ": it is not started again by itself",
        "restarting": ": it waits for its next attempt",
        "stopped": _stopped(events),
    }
    times = "once" if process.restarts == 1 else f"{process.restarts} times"
    return f"{name} is {status}{more.get(process.status, '')}. It was replaced {times}."


def _stopped(events: list[EventRecord]) -> str:
    for each in reversed(events):
        if each.type == "process_event" and each.data.get("event") == "stopped":
            cause = (each.data.get("details") or {}).get("cause") or {}
            by = f" by {cause['action']} of {cause['client']}" if "client" in cause else ""
            return f" since {clock(each.timestamp)}{by}"
    return ""


def _memory(crash: Crash) -> str:
    points = crash.metrics.get("memory") or []
    return f", with {how_much(points[-1][1])}" if points else ""


def _advice(process: ProcessObject, crash: Crash | None) -> list[str]:
    if process.status == "errored":
        return [f"  When it is mended: pmdaemon restart {process.name}"]
    if process.status == "stopped":
        return [f"  To start it: pmdaemon start {process.name}"]
    return [f"  More: pmdaemon logs {process.name}"] if crash is not None else []
