"""What every command that asks the daemon takes: where that is, and how to print."""

import gc
import os
import sys
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from pmdaemon.cli.command import Exit, Failure, failure_of
from pmdaemon.cli.terminal import Terminal
from pmdaemon.client import Address, BlockingClient, locate
from pmdaemon.errors import PMDaemonError

__all__ = ["SCHEMA", "Place", "connected", "home_option", "home_path", "json_option", "print_json"]

SCHEMA = 1
"""The version of what ``--json`` prints; keys are added within it, never changed or removed."""

home_option = click.option("--home", metavar="DIR", help="The daemon's home (default: $PMDAEMON_HOME or ~/.pmdaemon).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Place(NamedTuple):
    """One daemon as the command line names it, and the terminal."""

    address: Address
    home: str | None
    terminal: Terminal

    def client(self, timeout: float = 30.0) -> BlockingClient:
        """Return a client, not connected yet."""
        return BlockingClient(address=self.address, timeout=timeout)

    def failure(self, error: PMDaemonError, action: str = "") -> Failure:
        """Return what is told the user of an error."""
        return failure_of(error, action, home=self.home)


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--home``, ``--url``, ``--token-file`` and ``--color``; it gets a `Place` before all else."""

    def run(home: str | None, url: str | None, token_file: str | None, color: str, /, **rest: Any) -> Any:
        if home is not None and url is not None:
            raise click.UsageError("--home and --url name two daemons: give one of them")
        token = None if token_file is None else _token(token_file)
        place = Place(locate(url, home and home_path(home), token), home, Terminal.of(color))
        gc.freeze()  # what is imported stays
        gc.enable()
        try:
            return command(place, **rest)
        except PMDaemonError as error:
            raise place.failure(error) from error

    def called(**given: Any) -> Any:
        return run(given.pop("home"), given.pop("url"), given.pop("token_file"), given.pop("color"), **given)

    wrapped = update_wrapper(called, command)
    for option in (
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Use colours."),
        click.option("--token-file", metavar="FILE", help="A file with a token (default: $PMDAEMON_TOKEN)."),
        click.option("--url", metavar="URL", help="A daemon elsewhere, as ws://host:9615 (default: $PMDAEMON_URL)."),
        home_option,
    ):
        wrapped = option(wrapped)
    return wrapped


def home_path(given: str | None) -> Path:
    """Return a home's path, absolute; it need not be there."""
    path = given or os.environ.get("PMDAEMON_HOME") or "~/.pmdaemon"
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise Failure(f"cannot tell where the home {path} is: there is no such user", exit=Exit.USAGE)
    return Path(os.path.abspath(expanded))


def _token(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is not text"
        raise Failure(f"cannot read the token file {path}: {reason}", exit=Exit.UNREADABLE) from why


def print_json(document: dict[str, Any], *, line: bool = False) -> None:
    """Print one JSON document on stdout, on one line or laid out for reading."""
    encoded = msgspec.json.encode({"schema": SCHEMA, **document})
    sys.stdout.write((encoded if line else msgspec.json.format(encoded, indent=2)).decode() + "\n")
    if line:
        sys.stdout.flush()
