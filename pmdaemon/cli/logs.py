"""``pmdaemon logs``: the last lines of processes, or all that they print, over restarts of theirs and of the daemon."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from pmdaemon.cli.place import Place, connected, json_option, print_json
from pmdaemon.cli.targets import targets_argument
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.words import clock, moment_of
from pmdaemon.client import BlockingClient, GetLogs, LogLine, LogMessage, Message

__all__ = ["logs_command"]

LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal")
_LEVEL_STYLES: Final = {"warn": "yellow", "error": "red", "fatal": "red bold"}
_PAGE: Final = 2000


@click.command("logs")
@targets_argument
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come; also over restarts, of the daemon too.")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), help="How many lines (default: 20, with --since all).")
@click.option("--since", type=moment_of, metavar="TIME", help="From then on: 10m, 2h, 3d ago, or a date and time.")
@click.option("--grep", metavar="TEXT", help="Lines that hold a text, upper and lower case apart.")
@click.option("--regex", is_flag=True, help="TEXT is an expression of RE2.")
@click.option("--level", type=click.Choice(LEVELS), help="Lines of this level and above.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Lines of this stream alone.")
@click.option("--prefix/--no-prefix", default=True, help="Begin each line with the name, and | or, for stderr, !.")
@click.option("-t", "--time", "times", is_flag=True, help="Begin each line with its time.")
@json_option
@connected
def logs_command(
    place: Place,
    targets: Sequence[str],
    follow: bool,
    lines: int | None,
    since: int | None,
    grep: str | None,
    regex: bool,
    level: str | None,
    stream: str | None,
    prefix: bool,
    times: bool,
    as_json: bool,
) -> None:
    """Show the last lines that processes have printed, or follow what they print.

    \b
      pmdaemon logs web -f
      pmdaemon logs 'worker-*' --since 1h --level warn
      pmdaemon logs all --grep timeout --json
    """
    chosen = _Filter(targets, grep, regex or None, level, stream)
    count = lines if lines is not None else 20 if since is None else None
    printer = _Printer(place.terminal, as_json, prefix=prefix, times=times, flush=follow)
    try:
        if follow:
            _follow(place, chosen, count, since, printer)
        else:
            with place.client() as client:
                for line in chosen.past(client, count, since):
                    printer.line(line, line.at)
    except KeyboardInterrupt:
        if not follow:
            raise


class _Filter:
    """Which lines of which processes."""

    def __init__(
        self, targets: Sequence[str], grep: str | None, regex: bool | None, level: str | None, stream: str | None
    ) -> None:
        self.targets = ["all"] if not targets or "all" in targets else list(targets)
        self.options: dict[str, Any] = {"grep": grep, "regex": regex, "level": level, "stream": stream}

    def past(self, client: BlockingClient, count: int | None, since: int | None) -> list[LogLine]:
        """Return the last *count* lines, or all since a time, oldest first."""
        if count == 0:
            return []
        found: dict[tuple[str, str, int], LogLine] = {}
        for target in self.targets:
            for line in self._of(client, target, count, since):
                found[line.process, line.stream, line.offset] = line
        ordered = list(found.values())
        if len(self.targets) > 1:
            ordered.sort(key=lambda line: line.at or "")
        return ordered if count is None else ordered[-count:]

    def _of(self, client: BlockingClient, target: str, count: int | None, since: int | None) -> list[LogLine]:
        request = GetLogs(process=target, lines=min(count or _PAGE, _PAGE), since=since, **self.options)
        kept: deque[LogLine] = deque(maxlen=count)
        while True:
            page = client.logs(request)
            if since is None:
                room = (count or 0) - len(kept)
                kept.extendleft(reversed(page.lines[-room:]))
            else:
                kept.extend(page.lines)
            if page.cursor is None or (since is None and len(kept) >= (count or 0)):
                return list(kept)
            request = msgspec.structs.replace(request, cursor=page.cursor)


def _follow(place: Place, chosen: _Filter, count: int | None, since: int | None, printer: "_Printer") -> None:
    """Print the last lines and then all that come.

    With ``--since`` the past is read when the subscription has begun, and what is in both is printed once.
    """
    client = place.client()
    processes = None if chosen.targets == ["all"] else list(chosen.targets)
    with client:
        for target in processes or []:
            client.processes(target)  # of who is not there, there is nothing to follow
    tail = {"tail": count} if since is None and count else {}
    seen: dict[tuple[str, str], int] = {}
    lost: float | None = None
    with client.subscribe(["log_message"], processes, **tail, **chosen.options) as messages:
        for message in messages:
            data = message.data
            if isinstance(data, LogMessage):
                if data.offset > seen.get((data.process, data.stream), -1):
                    printer.line(data, message.timestamp)
            elif message.type == "disconnected":
                lost = time.monotonic()
                printer.note(message, f"{data.reason}; waiting for it to come back")
            elif message.type == "subscribed":
                printer.names(each.name for each in data.snapshot)
                if lost is not None:
                    printer.note(message, f"back after {time.monotonic() - lost:.1f} s; going on where it broke")
                    lost = None
                elif since is not None:
                    with place.client() as asking:
                        for line in chosen.past(asking, count, since):
                            if not line.partial:
                                printer.line(line, line.at)
                                seen[line.process, line.stream] = line.offset
            elif message.type == "log_gap":
                printer.note(message, f"{data.dropped} lines of {data.process} skipped: they came faster than read")
            elif message.type == "gap":
                some = "some" if data.dropped is None else data.dropped
                printer.note(message, f"{some} lines are missing: they are not kept any more")


class _Printer:
    """Prints lines, each behind the name of its process in that one's colour."""

    def __init__(self, terminal: Terminal, as_json: bool, *, prefix: bool, times: bool, flush: bool) -> None:
        self._terminal = terminal
        self._flush = flush
        self._json = as_json
        self._prefix = prefix
        self._times = times
        self._width = 0

    def names(self, names: Iterator[str]) -> None:
        """Have the lines of these processes line up."""
        self._width = max([self._width, *(min(len(name), 24) for name in names)])

    def line(self, line: LogLine | LogMessage, at: str | None) -> None:
        """Print one line."""
        if self._json:
            told: dict[str, Any] = msgspec.to_builtins(line)
            print_json({"type": "line", **told, "at": at}, line=True)
            return
        paint: Callable[[str, str], str] = self._terminal.paint
        parts = []
        if self._times:
            parts.append(paint(clock(at), "dim"))
        if self._prefix:
            mark = "!" if line.stream == "stderr" else "|"
            self._width = max(self._width, min(len(line.process), 24))
            parts.append(self._terminal.of_name(line.process, f"{line.process:<{self._width}} {mark}"))
        text = self._terminal.harmless(line.message)
        style = _LEVEL_STYLES.get(line.level, "")
        parts.append(paint(text, style) if style and "\x1b" not in text else text)
        print(" ".join(parts), flush=self._flush)

    def note(self, message: Message, text: str) -> None:
        """Say what is to be known about what was printed, or was not."""
        if self._json:
            data = message.data if message.type == "subscribed" else msgspec.to_builtins(message.data)
            told = {} if message.type == "subscribed" else data
            print_json({"type": message.type, **told, "note": text}, line=True)
        else:
            click.echo(self._terminal.paint(f"-- {text} --", "dim"), err=True)
