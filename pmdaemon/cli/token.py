"""``pmdaemon token``: the token file from the command line. No daemon is needed, and one that runs sees it at once."""

import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import update_wrapper
from typing import Any, Final

import click

from pmdaemon.cli.command import Exit, Failure
from pmdaemon.cli.place import home_option, home_path, json_option, print_json
from pmdaemon.cli.table import table
from pmdaemon.core.access import SCOPES, Scope
from pmdaemon.core.fields import shown
from pmdaemon.core.times import rfc3339
from pmdaemon.tokens import Token, TokenFile, TokenFileBroken, TokenFileDenied, TokenFileError

__all__ = ["token_command"]

_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST: Final = 3660 * 86400
_EXITS: Final = {TokenFileBroken: Exit.UNPARSABLE, TokenFileDenied: Exit.DENIED}


def _lifetime(text: str) -> float | None:
    """Return a time such as 30d in seconds, None for ``never``."""
    if text == "never":
        return None
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise click.BadParameter(f"'{text}' is not 'never' or a time such as 12h, 30d or 8w, ten years at most")
    return float(seconds)


def _failing(command: Callable[..., None]) -> Callable[..., None]:
    """A command that tells what is wrong about the file in the script's way."""

    def run(**given: Any) -> None:
        try:
            command(**given)
        except TokenFileError as why:
            raise Failure(str(why), why.hint, exit=_EXITS.get(type(why), Exit.FAILED)) from why

    return update_wrapper(run, command)


@click.group("token")
def token_command() -> None:
    """Make, list and revoke what lets others in. No daemon is needed, and one that runs sees it at once.

    \b
      pmdaemon token create ci --scope operate --process 'web-*' --expires 30d
      pmdaemon token list
      pmdaemon token revoke ci
    """


@token_command.command("create")
@click.argument("name", required=False, metavar="[NAME]")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="read",
    help="read: look (the default); operate: also stop, restart and reload; start: everything, as if it were you.",
)
@click.option(
    "--process",
    "processes",
    multiple=True,
    metavar="SELECTOR",
    help="A process it is for: a name, a glob or ns:NAME; may be given several times (default: all).",
)
@click.option(
    "--expires",
    type=_lifetime,
    metavar="TIME",
    default="90d",
    help="How long it lasts: 12h, 30d, 8w or never (default: 90d).",
)
@json_option
@home_option
@_failing
def create(
    name: str | None, scope: Scope, processes: Sequence[str], expires: float | None, as_json: bool, home: str | None
) -> None:
    """Make a token and print it, which is done only once.

    \b
      pmdaemon token create ci --scope operate --process 'web-*' --expires 30d
    """
    token, text = _file(home).create(name, scope, tuple(processes) or None, expires)
    if as_json:
        print_json({"token": text, **_told(token)})
    else:
        print(text)
    until = "until it is revoked" if token.expires is None else f"until {_moment(token.expires)}"
    say = [f"made the token '{token.name}': scope {token.scope}, {until}; it is shown only this once"]
    if token.scope == "start":
        say.append("who has it can run anything as you")
    print("\n".join(say), file=sys.stderr)


@token_command.command("list")
@json_option
@home_option
@_failing
def list_tokens(as_json: bool, home: str | None) -> None:
    """List the tokens, without their texts."""
    tokens = _file(home).all()
    if as_json:
        print_json({"tokens": [_told(token) for token in tokens]})
    elif tokens:
        print(table(_HEADER, [_row(token) for token in tokens]), end="")
    else:
        print("there are no tokens; make one: pmdaemon token create", file=sys.stderr)


@token_command.command("revoke")
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
@json_option
@home_option
@_failing
def revoke(tokens: Sequence[str], as_json: bool, home: str | None) -> None:
    """Take tokens back, at once; each is named by its name or its id.

    \b
      pmdaemon token revoke ci
    """
    file = _file(home)
    revoked = {word: file.revoke(word) for word in map(_without_secret, tokens)}
    if as_json:
        print_json({"revoked": [_told(token) for token in revoked.values() if token is not None]})
    for token in filter(None, revoked.values()):
        print(f"revoked the token '{token.name}' ({token.id})", file=sys.stderr)
    unknown = [word for word, token in revoked.items() if token is None]
    if unknown:
        raise Failure(f"cannot revoke {', '.join(map(shown, unknown))}: no such token", "see: pmdaemon token list")


def _without_secret(word: str) -> str:
    """The id of a token that was given as its whole text, so that it is told to nobody again."""
    match = re.fullmatch(r"pmd_([0-9a-f]+)_.*", word)
    return match[1] if match else word


def _file(home: str | None) -> TokenFile:
    return TokenFile(home_path(home) / "tokens.json", time.time)


# What is told of a token; never its text or its digest

_HEADER: Final = ("ID", "NAME", "SCOPE", "PROCESSES", "CREATED", "EXPIRES", "LAST USED")


def _row(token: Token) -> tuple[str, ...]:
    expires = "never" if token.expires is None else _moment(token.expires) + (" (over)" if _is_over(token) else "")
    return (
        token.id,
        token.name,
        token.scope,
        "all" if token.processes is None else " ".join(token.processes),
        _moment(token.created),
        expires,
        "never" if token.last_used is None else _moment(token.last_used),
    )


def _told(token: Token) -> dict[str, Any]:
    moments = {"created": token.created, "expires": token.expires, "last_used": token.last_used}
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "processes": token.processes,
        **{key: None if at is None else rfc3339(at) for key, at in moments.items()},
        "expired": _is_over(token),
    }


def _is_over(token: Token) -> bool:
    return token.expires is not None and token.expires <= time.time()


def _moment(at: int) -> str:
    """Local time, to the minute."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
