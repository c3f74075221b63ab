"""Has commands carried out on many processes at once, and tells of each as it is done."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import click
import msgspec

from pmdaemon.cli.command import Exit, Failure, exit_of
from pmdaemon.cli.place import Place, print_json
from pmdaemon.cli.words import span_of
from pmdaemon.client import BlockingClient, Command, CommandResult, GetLogs, ProcessObject
from pmdaemon.errors import PMDaemonError

__all__ = ["DONE", "Order", "carry_out", "orders_for", "waiting_options"]

DONE: Final = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "reload": "reloaded",
    "delete": "deleted",
    "scale": "scaled",
    "signal": "signalled",
    "reset": "reset",
    "flush": "flushed",
}
_DOING: Final = {
    "start": "starting",
    "stop": "stopping",
    "restart": "restarting",
    "reload": "reloading",
    "delete": "deleting",
    "scale": "scaling",
    "signal": "signalling",
    "reset": "resetting",
    "flush": "flushing",
}
_LAST_LINES: Final = 5


class Order(NamedTuple):
    """One command, and the name of what it is about."""

    name: str
    command: Command


def waiting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--no-wait``, ``--timeout`` and ``--json``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--timeout", type=span_of, metavar="TIME", help="How long to wait for the end of it (default: 60s)."
        ),
        click.option("--no-wait", is_flag=True, help="Return when it is accepted rather than when it is done."),
    ):
        command = option(command)
    return command


def carry_out(
    place: Place,
    client: BlockingClient,
    orders: Sequence[Order],
    *,
    as_json: bool,
    no_wait: bool,
    timeout: int | None,
    result: Callable[[CommandResult], str] | None = None,
) -> None:
    """Carry out all *orders*, and print what became of each; *result* words it, in place of the usual words.

    Raises Failure where one failed: with its own exit code where all failed alike, else 1.
    """
    action = orders[0].command.action if orders else ""
    commands = [_waiting(each.command, no_wait, timeout) for each in orders]
    told = _Progress(place, orders, quiet=as_json)
    results: list[CommandResult] = []
    failed: list[tuple[str, PMDaemonError]] = []
    told.wait()
    for index, outcome in client.each(commands, CommandResult):
        name = orders[index].name
        if isinstance(outcome, PMDaemonError):
            failed.append((name, outcome))
            told.failed(name, outcome)
        else:
            results.append(outcome)
            told.done(name, result(outcome) if result else _worded(name, outcome, no_wait))
    processes = [process for each in results for process in each.processes]
    if as_json:
        print_json(
            {
                "action": action,
                "processes": [msgspec.to_builtins(each) for each in processes],
                "failed": [{"process": name, **_told(error)} for name, error in failed],
            }
        )
    if not failed:
        told.summary(len(results), 0)
        return
    if len(orders) == 1:
        failure = place.failure(failed[0][1], action)
        lines = _why(client, failed[0], action)
        raise Failure(str(failure), *failure.hints, *lines, exit=failure.exit)
    told.summary(len(results), len(failed))
    if not as_json:
        for each in failed:
            for line in _why(client, each, action):
                print(f"  {each[0]} {line}", file=sys.stderr)
    exits = {exit_of(error, action) for _, error in failed}
    raise Failure(
        f"cannot {action} {len(failed)} of {len(orders)}: {', '.join(name for name, _ in failed[:5])}"
        + ("..." if len(failed) > 5 else ""),
        f"more about one: pmdaemon why {failed[0][0]}",
        exit=exits.pop() if len(exits) == 1 and not results else Exit.FAILED,
    )


def _waiting(command: Command, no_wait: bool, timeout: int | None) -> Command:
    return msgspec.structs.replace(command, wait=False if no_wait else None, timeout=timeout)


def _worded(name: str, result: CommandResult, no_wait: bool) -> str:
    if no_wait:
        return f"{_DOING[result.action]} {name}"
    pids = [str(each.pid) for each in result.processes if each.pid is not None]
    running = f", pid {' '.join(pids)}" if pids and result.action in ("start", "restart", "reload") else ""
    return f"{DONE[result.action]} {name}{running}"


def _told(error: PMDaemonError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}


def _why(client: BlockingClient, failed: tuple[str, PMDaemonError], action: str) -> list[str]:
    """Return the last lines of standard error of what did not start, as hints."""
    name, error = failed
    if action not in ("start", "restart", "reload") or error.code not in ("PROCESS_START_FAILED", "TIMEOUT"):
        return []
    try:
        lines = client.logs(GetLogs(process=name, lines=_LAST_LINES, stream="stderr")).lines
    except PMDaemonError:
        return []
    return [f"| {line.message[:500]}" for line in lines]


class _Progress:
    """Lines about what is done; on a terminal one more, which says what is waited for."""

    def __init__(self, place: Place, orders: Sequence[Order], *, quiet: bool) -> None:
        self._terminal = place.terminal
        self._quiet = quiet
        self._left = [each.name for each in orders]
        self._count = len(orders)
        self._doing = _DOING[orders[0].command.action] if orders else ""
        self._begun = time.monotonic()
        self._live = not quiet and sys.stderr.isatty() and sys.stdout.isatty()

    def wait(self) -> None:
        """Say what is waited for."""
        if self._live and self._left:
            names = ", ".join(self._left[:4]) + (", ..." if len(self._left) > 4 else "")
            text = f"{self._doing} {names} "[: self._terminal.width - 1]
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def _clear(self, name: str) -> str:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._left.remove(name)
        if self._count == 1:
            return ""
        return self._terminal.paint(f"[{self._count - len(self._left)}/{self._count}] ", "dim")

    def done(self, name: str, words: str) -> None:
        """Say that one is done."""
        prefix = self._clear(name)
        if not self._quiet:
            took = time.monotonic() - self._begun
            print(
                f"{prefix}{words}{self._terminal.paint(f' ({took:.1f} s)', 'dim') if took >= 0.1 else ''}", flush=True
            )
        self.wait()

    def failed(self, name: str, error: PMDaemonError) -> None:
        """Say that one failed; a single one is told at the end."""
        prefix = self._clear(name)
        if not self._quiet and self._count > 1:
            print(f"{prefix}{self._terminal.paint('failed', 'red')} {name}: {error.message}", file=sys.stderr)
        self.wait()

    def summary(self, ok: int, failed: int) -> None:
        """Say how many went well, where there were several."""
        if self._count > 1 and not self._quiet:
            print(f"{ok} ok, {failed} failed", file=sys.stderr)


def orders_for(processes: Sequence[ProcessObject], make: Callable[[int], Command]) -> list[Order]:
    """Return one order for each process, by its id."""
    return [Order(each.name, make(each.id)) for each in processes]
