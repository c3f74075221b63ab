"""What is read on a screen of its own: a process, why it is as it is, what happened, and the keys."""

from collections.abc import Iterable
from datetime import datetime

from rich.text import Text

from pmdaemon.cli.events import sentence
from pmdaemon.cli.info import described
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.why import reasons
from pmdaemon.cli.words import moment
from pmdaemon.client import Client, EventRecord, GetEvents, ProcessStatus
from pmdaemon.errors import ProcessNotFound
from pmdaemon.monit.dialogs import Line
from pmdaemon.monit.keys import KEYS
from pmdaemon.monit.layout import cut

__all__ = ["events_text", "help_text", "info_text", "why_text"]

_BAD = {"crashed", "errored", "health_check_failed", "memory_limit_exceeded", "unhealthy"}
_LAST_EVENTS = 12
_LAST_LINES = 20


async def info_text(client: Client, id_: int, terminal: Terminal) -> list[Line]:
    """Return all that is known of a process. Raises what the daemon answers."""
    return _lines("\n".join(described(each, terminal) for each in await client.processes(id_)))


async def why_text(client: Client, id_: int, terminal: Terminal) -> list[Line]:
    """Return why a process is as it is. Raises what the daemon answers."""
    processes = await client.processes(id_)
    if not processes:
        raise ProcessNotFound(f"cannot say more of process {id_}: it is not there any more")
    crash = await client.crash(id_)
    told = (await client.events(GetEvents(process=id_, limit=100))).events
    events = [each for each in told if each.type != ProcessStatus.type][-_LAST_EVENTS:]
    return _lines(reasons(processes[0], crash, events, _LAST_LINES, terminal))


def _lines(text: str) -> list[Line]:
    return [(Text.from_ansi(line),) for line in text.splitlines()]


def events_text(events: Iterable[EventRecord], terminal: Terminal) -> list[Line]:
    """Return what happened, the latest first."""
    lines: list[Line] = []
    today = datetime.now().astimezone().date()
    for each in reversed(list(events)):
        word = str(each.data.get("event") or each.data.get("status"))
        when = moment(each.timestamp)
        lines.append(
            (
                Text(f"{when:%H:%M:%S}" if when.date() == today else f"{when:%b %d %H:%M:%S}", "dim", no_wrap=True),
                Text(cut(str(each.data.get("process", "")), 20, unicode=terminal.unicode), "bold", no_wrap=True),
                Text(terminal.harmless(sentence(each)), "red" if word in _BAD else ""),
            )
        )
    return lines or [(Text("Nothing has happened yet.", style="dim"),)]


def help_text() -> list[Line]:
    """Return the keys and what they do."""
    lines: list[Line] = [
        (Text(f"{key.shown:>5}", "bold", no_wrap=True), Text(key.label), Text(key.help, "dim")) for key in KEYS
    ]
    about = "Select by Up, Down, j, k, PgUp, PgDn, Home, End or a click; they scroll the log when it has the keys."
    return [*lines, (Text(), Text(), Text(about))]
