"""``pmdaemon monit``: everything on one screen, or one picture of it."""

import asyncio
import os
import shutil
import sys

import click

from pmdaemon.cli.command import Exit, Failure
from pmdaemon.cli.place import Place, connected
from pmdaemon.client import Client

__all__ = ["monit_command"]

_SORTS = ("id", "name", "status", "pid", "port", "cpu", "memory", "uptime", "restarts", "health")


@click.command("monit")
@click.option("--filter", "chosen", metavar="TEXT", default="", help="Processes to begin with, as 'status:errored'.")
@click.option("--sort", type=click.Choice(_SORTS), default="id", help="The column to sort by (default: id).")
@click.option("--once", is_flag=True, help="Print one picture as plain text, and end.")
@click.option("--ascii", "ascii_", is_flag=True, help="Use no other characters than ASCII.")
@connected
def monit_command(place: Place, chosen: str, sort: str, once: bool, ascii_: bool) -> None:
    """Watch all processes and the log of one, and act on them by keys; ? shows the keys.

    \b
      pmdaemon monit
      pmdaemon monit --filter 'ns:prod cpu:>50' --sort cpu
      pmdaemon monit --once > now.txt
    """
    unicode = place.terminal.unicode and _unicode_locale() and not ascii_
    client = Client(address=place.address)
    if once:
        asyncio.run(_print(client, place, unicode=unicode, chosen=chosen, sort=sort))
        return
    if not all(each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr)):
        raise Failure(
            "cannot show a screen: input, output or standard error is not a terminal",
            "one picture as text: pmdaemon monit --once",
            exit=Exit.USAGE,
        )
    with place.client() as asking:
        asking.ping()  # who is not there, or lets nobody in, is told of before there is a screen
    from pmdaemon.monit.app import Monitor

    monitor = Monitor(client, colors=place.terminal.colors, unicode=unicode, chosen=chosen, sort=sort)
    monitor.run()
    if monitor.return_code:
        raise click.exceptions.Exit(monitor.return_code)


def _unicode_locale() -> bool:
    """Whether the terminal shows Unicode as far as the locale says: Python writes UTF-8 also in the locale C."""
    said = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
    return not said or "utf" in said.lower()


async def _print(client: Client, place: Place, *, unicode: bool, chosen: str, sort: str) -> None:
    from pmdaemon.monit.once import picture

    width, height = shutil.get_terminal_size(fallback=(120, 40))
    async with client:
        text = await picture(client, width=width, height=height, unicode=unicode, chosen=chosen, sort=sort)
    sys.stdout.write(text)
