"""Which processes a command is about: names, apps, ids, patterns, ``ns:NAME``, ``all``, several at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from pmdaemon.client import BlockingClient, ProcessObject

__all__ = ["complete_names", "process_argument", "select", "targets_argument", "wanted_argument"]

F = TypeVar("F", bound=Callable[..., Any])

ASKING = 0.1
"""Seconds that completing a name may take."""


def select(client: BlockingClient, targets: Sequence[str]) -> list[ProcessObject]:
    """Return the processes that any of *targets* means, by id; all where none is given.

    Raises PROCESS_NOT_FOUND of the daemon for a target that means none.
    """
    if not targets or "all" in targets:
        return client.processes()
    if len(targets) == 1:
        return client.processes(targets[0])
    from pmdaemon.core.selection import matches  # it brings difflib, which most commands do without

    everyone = client.processes()
    for target in targets:
        if not any(matches(target, each) for each in everyone):
            client.processes(target)
    return [each for each in everyone if any(matches(target, each) for target in targets)]


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names that begin so, as far as the daemon says them at once; nothing where it does not."""
    import threading

    found: list[str] = []

    def ask() -> None:
        from pmdaemon.cli.place import home_path
        from pmdaemon.client import locate
        from pmdaemon.errors import PMDaemonError

        try:
            home, url = ctx.params.get("home"), ctx.params.get("url")
            address = locate(url, home and home_path(home))
            with BlockingClient(address=address, timeout=ASKING) as client:
                names = [name for each in client.processes() for name in (each.app, each.name)]
                found.extend(dict.fromkeys(name for name in names if name.startswith(incomplete)))
        except (PMDaemonError, OSError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ASKING)
    return list(found)


def _argument(name: str, **options: Any) -> Callable[[F], F]:
    return click.argument(name, shell_complete=complete_names, **options)


targets_argument = _argument("targets", nargs=-1, metavar="[TARGET]...")
"""None, which means all, or some."""

wanted_argument = _argument("targets", nargs=-1, metavar="TARGET...", required=True)
"""One or some."""

process_argument = _argument("process", metavar="PROCESS")
"""One."""
