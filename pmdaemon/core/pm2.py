"""What people paste from PM2: its other spellings, what is dropped because it changes nothing, and what is refused."""

from collections.abc import Mapping
from typing import Any

from pmdaemon.core.fields import FieldError

__all__ = ["HARMLESS", "SPELLINGS", "UNSUPPORTED", "canonical"]

SPELLINGS = {
    "out": "out_file",
    "error": "error_file",
    "exec_interpreter": "interpreter",
    "node_args": "interpreter_args",
    "uid": "user",
    "gid": "group",
}
"""PM2's key -> ours, where both mean the same."""

HARMLESS: Mapping[str, tuple[tuple[str | bool, ...], str, str]] = {
    "exec_mode": (
        ("fork", "fork_mode"),
        "must be 'fork': sharing one port is not supported yet",
        'leave it out; each instance is a process of its own, with a port of a range such as "3000-3003"',
    ),
    "watch": ((False,), "must be false: watching files is not supported yet", "leave it out"),
}
"""Key -> the values that ask for what happens anyway; problem and hint of any other value."""

UNSUPPORTED = {
    "depends_on": "leave it out; let the app try again until what it needs is there",
    "cron": "leave it out; let cron itself send a restart",
    "sockets": "leave it out; an app opens its own sockets",
    "hooks": "leave it out; let the script run what has to come first",
}
"""Key -> what to do instead."""


def canonical(config: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return an app's configuration in our own keys; a key that is nobody's is left for others to refuse.

    Raises FieldError on a key that is not supported yet, and on one that is given in both spellings.
    """
    result: dict[Any, Any] = {}
    spelled: dict[Any, Any] = {}
    for key, value in config.items():
        if value is None and (key in SPELLINGS or key in HARMLESS or key in UNSUPPORTED):
            continue
        if key in UNSUPPORTED:
            raise FieldError(key, "is not supported yet", UNSUPPORTED[key])
        if key in HARMLESS:
            _refuse_unless_harmless(key, value)
            continue
        ours = SPELLINGS.get(key, key)
        if value is None:
            result.setdefault(ours, None)
        elif ours in spelled:
            raise FieldError(ours, f"is given twice, as {spelled[ours]!r} and as {key!r}", f"keep {ours!r} only")
        else:
            result[ours], spelled[ours] = value, key
    return result


def _refuse_unless_harmless(key: str, value: object) -> None:
    harmless, problem, hint = HARMLESS[key]
    if not any(type(value) is type(other) and value == other for other in harmless):
        raise FieldError(key, problem, hint)
