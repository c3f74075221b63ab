"""``pmdaemon events``: what happened, from the past and as it goes on."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.targets import targets_argument
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.words import clock, ended, how_long, how_much, moment_of
from pmdaemon.client import BlockingClient, EventRecord, GetEvents, Message

__all__ = ["events_command", "sentence", "told"]

KINDS = ["process_event", "process_status", "health_update"]
_PAGE = 1000


@click.command("events")
@targets_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen.")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), help="How many (default: 50, with --since all).")
@click.option("--since", type=moment_of, metavar="TIME", help="From then on: 10m, 2h, 3d ago, or a date and time.")
@click.option("--status", is_flag=True, help="Changes of status too.")
@json_option
@connected
def events_command(
    place: Place,
    targets: Sequence[str],
    follow: bool,
    lines: int | None,
    since: int | None,
    status: bool,
    as_json: bool,
) -> None:
    """Show what happened: starts, crashes, restarts, changes of health, and who or what caused them.

    \b
      pmdaemon events
      pmdaemon events web --since 2h
      pmdaemon events -f --json
    """
    kinds = [kind for kind in KINDS if status or kind != "process_status"]
    cursor = None
    with place.client() as client:
        past = _past(client, targets, kinds, lines, since)
    if as_json and not follow:
        print_json({"events": [msgspec.to_builtins(each) for each in past]})
        return
    for each in past:
        _print(each, as_json, place.terminal)
        cursor = each.id
    if not follow:
        return
    chosen = None if not targets or "all" in targets else list(targets)
    try:
        with place.client().subscribe(kinds, chosen, since=cursor) as messages:
            for message in messages:
                if message.type in kinds:
                    _print(_record(message), as_json, place.terminal)
                elif message.type in ("disconnected", "gap"):
                    click.echo(f"-- {note(message)} --", err=True)
    except KeyboardInterrupt:
        pass


def note(message: Message) -> str:
    """Say what a message means that tells of no event."""
    if message.type == "disconnected":
        return f"{message.data.reason}; waiting for it to come back"
    count = message.data.dropped
    return f"{'some' if count is None else count} events are not kept any more"


def _record(message: Message) -> EventRecord:
    data: dict[str, Any] = msgspec.to_builtins(message.data)
    return EventRecord(type=message.type, data=data, timestamp=message.timestamp, id=message.id)


def _past(
    client: BlockingClient, targets: Sequence[str], kinds: Sequence[str], lines: int | None, since: int | None
) -> list[EventRecord]:
    """Return the last events, or those since a time, oldest first."""
    count = lines if lines is not None else None if since is not None else 50
    found: dict[str, EventRecord] = {}
    everything = not targets or "all" in targets
    for target in [None] if everything else targets:
        for each in told(client, target, kinds, count, since):
            found[each.id] = each
    ordered = sorted(found.values(), key=lambda each: each.id)
    return ordered if count is None else ordered[len(ordered) - min(count, len(ordered)) :]


def told(
    client: BlockingClient, target: str | int | None, kinds: Sequence[str], count: int | None, since: int | None
) -> list[EventRecord]:
    """Return at most *count* last events of these *kinds*, oldest first; None: all of them."""
    kept: deque[EventRecord] = deque(maxlen=count)
    for each in _pages(client, GetEvents(process=target, since=since, limit=_PAGE)):
        wanted = [event for event in each if event.type in kinds]
        if since is None:
            kept.extendleft(reversed(wanted[max(0, len(wanted) - (count or 0) + len(kept)) :] if count else wanted))
        else:
            kept.extend(wanted)
        if since is None and count is not None and len(kept) >= count:
            break
    return list(kept)


def _pages(client: BlockingClient, request: GetEvents) -> Iterator[list[EventRecord]]:
    while True:
        page = client.events(request)
        yield page.events
        if page.cursor is None:
            return
        request = msgspec.structs.replace(request, cursor=page.cursor)


def _print(event: EventRecord, as_json: bool, terminal: Terminal) -> None:
    if as_json:
        print_json(msgspec.to_builtins(event), line=True)
        return
    name = event.data.get("process") or event.data.get("name", "")
    time = terminal.paint(clock(event.timestamp), "dim")
    print(f"{time}  {terminal.of_name(name, name)}  {terminal.harmless(sentence(event))}", flush=True)


def sentence(event: EventRecord) -> str:
    """Say in one line what an event tells."""
    data = event.data
    if event.type == "process_status":
        return f"is {data['status']}" + (f", was {data['previous_status']}" if data.get("previous_status") else "")
    if event.type == "health_update":
        return f"is {data['status']}, was {data['previous_status']} ({_details(data.get('details') or {})})"
    details = dict(data.get("details") or {})
    cause = details.pop("cause", None)
    details.pop("last_lines", None)
    words = str(data["event"]).replace("_", " ")
    if data["event"] in ("crashed", "stopped") and ("exit_code" in details or "exit_signal" in details):
        words += f": {ended(details.pop('exit_code', None), details.pop('exit_signal', None))}"
    text = _details(details)
    by = ""
    if isinstance(cause, dict):
        by = f" by {cause['action']} of {cause['client']}" if "client" in cause else f", {cause.get('rule')}"
    return words + (f" ({text})" if text else "") + by


def _details(details: dict[str, Any]) -> str:
    def shown(key: str, value: Any) -> str:
        if key in ("uptime", "startup_time", "delay", "response_time") and isinstance(value, int | float):
            return f"{key.replace('_', ' ')} {how_long(value) if value >= 1000 else f'{value:.0f} ms'}"
        if key in ("memory", "limit") and isinstance(value, int):
            return f"{key} {how_much(value)}"
        return f"{key.replace('_', ' ')} {value}"

    return ", ".join(shown(key, value) for key, value in details.items() if value is not None)
