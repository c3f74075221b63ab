"""Who may do what: a caller has a scope, and perhaps only some of the processes.

Who a caller is, and what shows it, is no business of this module.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from pmdaemon.core.commands import Command, Request
from pmdaemon.core.selection import EVERYTHING, Identity, Selection
from pmdaemon.errors import PermissionDenied

__all__ = [
    "NEEDS",
    "SCOPES",
    "Caller",
    "Kind",
    "Need",
    "Scope",
    "check",
    "covers",
    "limited",
    "require",
    "require_processes",
    "widest",
]

Scope = Literal["read", "operate", "start"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "operate", "start")
"""Each includes those before it. ``start`` is as good as a shell of the daemon's user."""

Kind = Literal["user", "token", "jwt", "key"]


class Caller(Struct, frozen=True, kw_only=True):
    """Somebody who was let in: by being a user of this machine, or by a credential of another kind.

    ``name`` is for the audit; ``processes`` are all that exist for this caller; ``expires`` is in unix seconds, None
    for never; ``token`` is the id in the token file, for a token; ``limit`` is what to do where the daemon gives less
    than the caller would have had.
    """

    name: str
    kind: Kind
    scope: Scope
    processes: Selection = EVERYTHING
    expires: float | None = None
    token: str | None = None
    limit: str | None = None


class Need(Struct, frozen=True):
    """The scope that a request needs; it is ``start`` where one of the fields ``start_if`` is given."""

    scope: Scope
    start_if: tuple[str, ...] = ()


NEEDS: Final[Mapping[str, Need]] = {
    # requests
    "authenticate": Need("read"),
    "get_config": Need("read", start_if=("secrets",)),
    "get_crash": Need("read"),
    "get_events": Need("read"),
    "get_history": Need("read"),
    "get_info": Need("read"),
    "get_logs": Need("read"),
    "get_system": Need("read"),
    "ping": Need("read"),
    "subscribe": Need("read"),
    "unsubscribe": Need("read"),
    # actions of a command
    "apply": Need("start"),
    "delete": Need("start"),
    "flush": Need("start"),
    "reload": Need("operate", start_if=("config",)),
    "reset": Need("operate"),
    "restart": Need("operate"),
    "scale": Need("start"),
    "signal": Need("operate"),
    "start": Need("operate", start_if=("config", "file", "replace")),
    "stop": Need("operate"),
}
"""By action or, where it is no command, by type; what is not here needs ``start``."""


def covers(scope: Scope, needed: Scope) -> bool:
    """Tell whether ``scope`` includes ``needed``."""
    return SCOPES.index(scope) >= SCOPES.index(needed)


def widest(words: Iterable[str]) -> Scope | None:
    """Return the widest scope among ``words``, None where there is none; other words count for nothing."""
    among = frozenset(words)
    named = [scope for scope in SCOPES if scope in among]
    return named[-1] if named else None


def limited(caller: Caller, scope: Scope, limit: str) -> Caller:
    """Return the caller with ``scope`` at most, and with ``limit`` to tell for what is thereby refused."""
    if covers(scope, caller.scope):
        return caller
    return msgspec.structs.replace(caller, scope=scope, limit=limit)


def check(caller: Caller, request: Request) -> None:
    """Raise PermissionDenied unless the caller may ask this; of which processes is decided apart."""
    word, doing = _named(request)
    need = NEEDS.get(word, Need("start"))
    field = next((each for each in need.start_if if _given(getattr(request, each))), None)
    if field is None:
        require(caller, need.scope, doing)
    else:
        require(caller, "start", f"{doing} with {field}")


def require(caller: Caller, needed: Scope, doing: str) -> None:
    """Raise PermissionDenied unless the caller has the scope ``needed``; ``doing`` goes on from "cannot"."""
    if covers(caller.scope, needed):
        return
    raise PermissionDenied(
        f"cannot {doing}: scope {needed} is needed, yours is {caller.scope}",
        hint=caller.limit or f"use a token with it: pmdaemon token create --scope {needed}",
        details={"needed": needed, "scope": caller.scope},
    )


def require_processes(caller: Caller, processes: Iterable[Identity], doing: str, *, told: str | None = None) -> None:
    """Raise PermissionDenied unless all of ``processes``, which may be yet to be made, are the caller's.

    ``told`` stands for the name of one that is not, where the caller is not to learn it.
    """
    for each in processes:
        if each not in caller.processes:
            listed = ", ".join(map(str, caller.processes.listed() or ()))
            raise PermissionDenied(
                f"cannot {doing}: '{told or each.name}' is none of your processes",
                hint=f"yours are: {listed}" if listed else "there are none for you",
                details={"process": told or each.name, "processes": caller.processes.listed()},
            )


def _named(request: Request) -> tuple[str, str]:
    """Return the request's word in the table, and what it does in words."""
    if isinstance(request, Command):
        return request.action, f"{request.action} '{request.process}'"
    return request.type, f"answer {request.type}"


def _given(value: Any) -> bool:
    return value is not None and value is not False
