"""The commands that do something to processes there are: stop, restart, reload, scale, delete, signal, reset, flush."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence

import click

from pmdaemon.cli.orders import Order, carry_out, orders_for, waiting_options
from pmdaemon.cli.place import Place, connected
from pmdaemon.cli.targets import process_argument, select, wanted_argument
from pmdaemon.client import (
    Command,
    CommandResult,
    Delete,
    Flush,
    Reload,
    Reset,
    Restart,
    Scale,
    Signal,
    Stop,
)

__all__ = [
    "delete_command",
    "flush_command",
    "reload_command",
    "reset_command",
    "restart_command",
    "scale_command",
    "signal_command",
    "stop_command",
]

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask, as about 'all' on a terminal.")


def _act(
    place: Place,
    targets: Sequence[str],
    make: Callable[[int | str], Command],
    *,
    as_json: bool,
    no_wait: bool,
    timeout: int | None,
    result: Callable[[CommandResult], str] | None = None,
) -> None:
    """One order a process; for a caller with a token, who is held to so many messages, one a target."""
    with place.client() as client:
        if place.address.token is None:
            orders = orders_for(select(client, targets), make)
        else:
            orders = [Order(target, make(target)) for target in targets]
        carry_out(place, client, orders, as_json=as_json, no_wait=no_wait, timeout=timeout, result=result)


def _ask(targets: Sequence[str], doing: str, yes: bool) -> None:
    """Ask before all are stopped, where somebody can answer."""
    if "all" in targets and not yes and sys.stdin.isatty():
        click.confirm(f"{doing} all processes?", abort=True, err=True)


@click.command("stop")
@wanted_argument
@yes_option
@waiting_options
@connected
def stop_command(
    place: Place, targets: Sequence[str], yes: bool, as_json: bool, no_wait: bool, timeout: int | None
) -> None:
    """Stop processes, each with everything it has started.

    \b
      pmdaemon stop web
      pmdaemon stop worker-0 'batch-*' ns:test
      pmdaemon stop all
    """
    _ask(targets, "Stop", yes)
    _act(place, targets, lambda id_: Stop(process=id_), as_json=as_json, no_wait=no_wait, timeout=timeout)


@click.command("restart")
@wanted_argument
@waiting_options
@connected
def restart_command(place: Place, targets: Sequence[str], as_json: bool, no_wait: bool, timeout: int | None) -> None:
    """Stop processes and start them again.

    \b
      pmdaemon restart web
      pmdaemon restart all --timeout 2m
    """
    _act(place, targets, lambda id_: Restart(process=id_), as_json=as_json, no_wait=no_wait, timeout=timeout)


@click.command("reload")
@wanted_argument
@waiting_options
@connected
def reload_command(place: Place, targets: Sequence[str], as_json: bool, no_wait: bool, timeout: int | None) -> None:
    """Replace processes one by one, with the configuration as its file has it now.

    Each new process is started beside the old one, which goes when the new one has proved itself. If that fails, the
    old one stays.

    \b
      pmdaemon reload web
      pmdaemon reload all
    """
    with place.client() as client:
        everyone = Counter(each.app for each in client.processes())
        chosen = select(client, targets)
        apps = Counter(each.app for each in chosen)
        whole = [app for app, count in apps.items() if count == everyone[app]]
        orders = [Order(app, Reload(process=app)) for app in whole]
        orders += orders_for([each for each in chosen if each.app not in whole], lambda id_: Reload(process=id_))
        carry_out(place, client, orders, as_json=as_json, no_wait=no_wait, timeout=timeout)


@click.command("scale")
@process_argument
@click.argument("instances", type=click.IntRange(1, 1000))
@waiting_options
@connected
def scale_command(
    place: Place, process: str, instances: int, as_json: bool, no_wait: bool, timeout: int | None
) -> None:
    """Change how many processes an app has.

    \b
      pmdaemon scale worker 4
    """
    orders = [Order(process, Scale(process=process, instances=instances))]

    def words(result: CommandResult) -> str:
        return f"{'scaling' if no_wait else 'scaled'} {process} to {instances}"

    with place.client() as client:
        carry_out(place, client, orders, as_json=as_json, no_wait=no_wait, timeout=timeout, result=words)


@click.command("delete")
@wanted_argument
@click.option("--purge", is_flag=True, help="Remove the logs too.")
@yes_option
@waiting_options
@connected
def delete_command(
    place: Place, targets: Sequence[str], purge: bool, yes: bool, as_json: bool, no_wait: bool, timeout: int | None
) -> None:
    """Stop processes and forget them; the logs stay.

    \b
      pmdaemon delete web
      pmdaemon delete all --purge
    """
    _ask(targets, "Stop and delete", yes)
    purged = purge or None
    _act(
        place,
        targets,
        lambda id_: Delete(process=id_, purge=purged),
        as_json=as_json,
        no_wait=no_wait,
        timeout=timeout,
    )


@click.command("signal")
@click.argument("signal", metavar="SIGNAL")
@wanted_argument
@waiting_options
@connected
def signal_command(
    place: Place, signal: str, targets: Sequence[str], as_json: bool, no_wait: bool, timeout: int | None
) -> None:
    """Send a signal to processes and their groups.

    \b
      pmdaemon signal HUP web
      pmdaemon signal SIGUSR1 'worker-*'
    """

    def words(result: CommandResult) -> str:
        return f"sent {signal.upper()} to {', '.join(each.name for each in result.processes)}"

    _act(
        place,
        targets,
        lambda id_: Signal(process=id_, signal=signal),
        as_json=as_json,
        no_wait=no_wait,
        timeout=timeout,
        result=words,
    )


@click.command("reset")
@wanted_argument
@waiting_options
@connected
def reset_command(place: Place, targets: Sequence[str], as_json: bool, no_wait: bool, timeout: int | None) -> None:
    """Set the counters of restarts to 0, and forget the failures so far.

    \b
      pmdaemon reset web
    """
    _act(place, targets, lambda id_: Reset(process=id_), as_json=as_json, no_wait=no_wait, timeout=timeout)


@click.command("flush")
@wanted_argument
@waiting_options
@connected
def flush_command(place: Place, targets: Sequence[str], as_json: bool, no_wait: bool, timeout: int | None) -> None:
    """Empty the logs, rotated files included.

    \b
      pmdaemon flush web
      pmdaemon flush all
    """
    _act(place, targets, lambda id_: Flush(process=id_), as_json=as_json, no_wait=no_wait, timeout=timeout)
