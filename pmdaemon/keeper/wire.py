"""What is said over the socket: lines of JSON, and what an order to start a child must look like.

Who says it, and what is done then, are ``server`` and ``orders``.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pmdaemon.keeper.identity import Owner

__all__ = [
    "OLDEST",
    "VERSION",
    "LogOrder",
    "Malformed",
    "Message",
    "Spawn",
    "agree",
    "decode",
    "encode",
    "get",
    "natural_in",
    "text_in",
]

VERSION = 1
"""The newest version of the protocol this keeper speaks."""
OLDEST = 1
"""The oldest."""

Message = dict[str, Any]
_json = json.JSONEncoder(separators=(",", ":")).encode  # made once: `json.dumps` would make one for each message
T = TypeVar("T")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


class Malformed(Exception):
    """A line that is no message, or an order that lacks what it needs; the text says what."""


class LogOrder(NamedTuple):
    """Where one output of a child goes; ``limits`` is for `segments.Limits`, with ``owner`` for `identity.Owner`."""

    path: str
    limits: Message


class Spawn(NamedTuple):
    """An order to start a child, checked.

    ``note`` is whatever the daemon wants to find again with the child, should it have forgotten all else.
    ``logs`` is by descriptor, 1 and 2; ``copy`` takes both. ``groups`` None stands for those of the user. ``rlimits``
    are soft and hard, -1 for none.
    """

    id: str
    inc: int
    argv: list[str]
    executable: str | None
    env: dict[str, str]
    cwd: str
    cookie: tuple[str, str]
    logs: dict[int, LogOrder]
    copy: str | None
    user: str | int | None
    group: str | int | None
    groups: list[str | int] | None
    umask: int | None
    nice: int | None
    rlimits: dict[str, tuple[int, int]]
    on_full: str
    note: str | None

    @property
    def key(self) -> tuple[str, int]:
        """What makes it the same order when it comes again."""
        return self.id, self.inc

    @classmethod
    def from_wire(cls, order: Message) -> "Spawn":
        """Check an order. Raises Malformed; what it does not know is ignored, as a newer daemon may say more."""
        return cls(
            id=get(order, "id", _identifier),
            inc=get(order, "inc", natural_in),
            argv=get(order, "argv", _arguments),
            executable=get(order, "executable", text_in, None),
            env=get(order, "env", _variables),
            cwd=get(order, "cwd", text_in),
            cookie=get(order, "cookie", _pair),
            logs=get(order, "logs", _logs),
            copy=get(order, "copy", text_in, None),
            user=get(order, "user", _name, None),
            group=get(order, "group", _name, None),
            groups=get(order, "groups", lambda value: [_name(name) for name in _list(value)], None),
            umask=get(order, "umask", natural_in, None),
            nice=get(order, "nice", _integer, None),
            rlimits=get(order, "rlimits", _rlimits, {}),
            on_full=get(order, "on_full", _on_full, "block"),
            note=get(order, "note", text_in, None),
        )


def encode(message: Message) -> bytes:
    """Return the line of a message."""
    return _json(message).encode() + b"\n"


def decode(line: bytes) -> list[Message]:
    """Return the orders of a line: one, or several in a batch. Raises Malformed."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise Malformed(f"not JSON: {problem}") from None
    orders = message.get("orders", [message]) if isinstance(message, dict) else None
    if not isinstance(orders, list) or not all(isinstance(order, dict) for order in orders):
        raise Malformed("not an object")
    return orders


def agree(version: object) -> int | None:
    """Return which version is spoken with somebody whose newest is this one; None where there is none."""
    if type(version) is not int:
        return None
    common = min(version, VERSION)
    return common if common >= OLDEST else None


_required: Any = object()


def get(order: Message, name: str, check: Callable[[Any], T], default: Any = _required) -> T:
    """Return what is under a name; the default where there is nothing or null. Raises Malformed."""
    value = order.get(name)
    if value is None:
        if default is _required:
            raise Malformed(f"{name} is missing")
        return default  # type: ignore[no-any-return]  # it is None or of T, which cannot be said without overloads
    try:
        return check(value)
    except (TypeError, ValueError, KeyError) as problem:
        raise Malformed(f"{name}: {problem}") from None


def _instance(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"not a {kind.__name__}")
    return value


def text_in(value: Any) -> str:
    """Check for `get`: a string with something in it."""
    text = _instance(value, str)
    if not text or "\0" in text:
        raise ValueError("empty, or holds a NUL")
    return text


def _integer(value: Any) -> int:
    return _instance(value, int)


def natural_in(value: Any) -> int:
    """Check for `get`: an integer, not negative."""
    if _integer(value) < 0:
        raise ValueError("negative")
    return _integer(value)


def _list(value: Any) -> list[Any]:
    return _instance(value, list)


def _identifier(value: Any) -> str:
    if not _ID.fullmatch(text_in(value)):
        raise ValueError("not an id")
    return text_in(value)


def _arguments(value: Any) -> list[str]:
    if not value:
        raise ValueError("empty")
    return [_instance(argument, str) for argument in _list(value)]


def _variables(value: Any) -> dict[str, str]:
    return {name: _instance(text, str) for name, text in _instance(value, dict).items()}


def _pair(value: Any) -> tuple[str, str]:
    name, text = _list(value)
    return text_in(name), text_in(text)


def _name(value: Any) -> str | int:
    return value if type(value) is int else text_in(value)


def _logs(value: Any) -> dict[int, LogOrder]:
    logs = {}
    for descriptor, log in _instance(value, dict).items():
        if descriptor not in ("1", "2"):
            raise ValueError(f"no log for descriptor {descriptor}")
        limits = {name: limit for name, limit in _instance(log, dict).items() if name != "path"}
        Owner.from_wire(limits.get("owner"))
        logs[int(descriptor)] = LogOrder(text_in(log["path"]), limits)
    return logs


def _rlimits(value: Any) -> dict[str, tuple[int, int]]:
    limits = {}
    for name, limit in _instance(value, dict).items():
        soft, hard = [limit, limit] if isinstance(limit, int) else _list(limit)
        limits[name] = _integer(soft), _integer(hard)
    return limits


def _on_full(value: Any) -> str:
    if value not in ("block", "drop"):
        raise ValueError("neither block nor drop")
    return text_in(value)
