"""``pmdaemon token``: the token file from the command line. No daemon is needed, and one that runs sees it at once."""

import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from pmdaemon.cli.command import Command, Exit, Failure
from pmdaemon.cli.home import add_home, home
from pmdaemon.cli.table import table
from pmdaemon.core.access import SCOPES
from pmdaemon.core.fields import shown
from pmdaemon.core.times import rfc3339
from pmdaemon.tokens import Token, TokenFile, TokenFileBroken, TokenFileDenied, TokenFileError

__all__ = ["COMMANDS"]

_SCHEMA: Final = 1
_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST: Final = 3660 * 86400
_EXITS: Final = {TokenFileBroken: Exit.UNPARSABLE, TokenFileDenied: Exit.DENIED}


def _create(given: Namespace) -> None:
    processes = tuple(given.process) if given.process else None
    token, text = _file(given).create(given.name, given.scope, processes, given.expires)
    if given.json:
        _print_json({"token": text, **_told(token)})
    else:
        print(text)
    until = "until it is revoked" if token.expires is None else f"until {_moment(token.expires)}"
    say = [f"made the token '{token.name}': scope {token.scope}, {until}; it is shown only this once"]
    if token.scope == "start":
        say.append("who has it can run anything as you")
    print("\n".join(say), file=sys.stderr)


def _list(given: Namespace) -> None:
    tokens = _file(given).all()
    if given.json:
        _print_json({"tokens": [_told(token) for token in tokens]})
    elif tokens:
        print(table(_HEADER, [_row(token) for token in tokens]), end="")
    else:
        print("there are no tokens; make one: pmdaemon token create", file=sys.stderr)


def _revoke(given: Namespace) -> None:
    file = _file(given)
    revoked = {word: file.revoke(word) for word in map(_without_secret, given.token)}
    if given.json:
        _print_json({"revoked": [_told(token) for token in revoked.values() if token is not None]})
    for token in filter(None, revoked.values()):
        print(f"revoked the token '{token.name}' ({token.id})", file=sys.stderr)
    unknown = [word for word, token in revoked.items() if token is None]
    if unknown:
        raise Failure(f"cannot revoke {', '.join(map(shown, unknown))}: no such token", "see: pmdaemon token list")


def _without_secret(word: str) -> str:
    """The id of a token that was given as its whole text, so that it is told to nobody again."""
    match = re.fullmatch(r"pmd_([0-9a-f]+)_.*", word)
    return match[1] if match else word


def _file(given: Namespace) -> TokenFile:
    return TokenFile(home(given) / "tokens.json", time.time)


def _failing(run: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """``run``, with what is wrong about the file told in the script's way."""

    def wrapped(given: Namespace) -> None:
        try:
            run(given)
        except TokenFileError as why:
            raise Failure(str(why), why.hint, exit=_EXITS.get(type(why), Exit.FAILED)) from why

    return wrapped


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


def _print_json(document: dict[str, Any]) -> None:
    print(msgspec.json.format(msgspec.json.encode({"schema": _SCHEMA, **document}), indent=2).decode())


# The command line


def _lifetime(text: str) -> float | None:
    """The seconds that ``text`` says, None for ``never``."""
    if text == "never":
        return None
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise ArgumentTypeError(f"'{text}' is not 'never' or a time such as 12h, 30d or 8w, ten years at most")
    return float(seconds)


def _common(parser: ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to call it, to know it again")
    parser.add_argument(
        "--scope",
        choices=SCOPES,
        default="read",
        help="read: look (the default); operate: also stop, restart and reload; start: everything, as if it were you",
    )
    parser.add_argument(
        "--process",
        action="append",
        metavar="SELECTOR",
        help="a process it is for: a name, a glob or ns:NAME; may be given several times (default: all)",
    )
    parser.add_argument(
        "--expires",
        type=_lifetime,
        default="90d",
        metavar="TIME",
        help="how long it lasts: 12h, 30d, 8w or never (default: 90d)",
    )
    _common(parser)


def _revoke_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("token", nargs="+", metavar="TOKEN", help="its name or its id")
    _common(parser)


COMMANDS: Final = (
    Command(
        ("token", "create"),
        "make a token and print it, which is done only once",
        _create_arguments,
        _failing(_create),
        ("pmdaemon token create ci --scope operate --process 'web-*' --expires 30d",),
    ),
    Command(
        ("token", "list"), "list the tokens, without their texts", _common, _failing(_list), ("pmdaemon token list",)
    ),
    Command(
        ("token", "revoke"),
        "take tokens back, at once",
        _revoke_arguments,
        _failing(_revoke),
        ("pmdaemon token revoke ci",),
    ),
)
