"""Bytes to requests and messages to bytes: the envelope of the WebSocket API [E1], [E2].

It knows the shape of what is said, not when it may be said: that is the session's.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pmdaemon.core.commands import ACTIONS, REQUESTS, Request
from pmdaemon.core.fields import convert
from pmdaemon.core.selection import close_matches
from pmdaemon.core.times import rfc3339
from pmdaemon.errors import InvalidJSON, InvalidMessage, PMDaemonError, UnknownAction, UnknownType

__all__ = ["Incoming", "decode", "encode", "error_data"]

_MAX_ID = 128
_encoder = msgspec.json.Encoder()


class Incoming(Struct, frozen=True, kw_only=True):
    """One message of a client as far as it could be read.

    Exactly one of ``request`` and ``error`` is set; ``about`` says what was asked, for the error reply [R2].
    """

    id: str | int | None = None
    about: Mapping[str, Any] = {}
    request: Request | None = None
    error: PMDaemonError | None = None


class _Envelope(Struct, frozen=True):
    type: str
    data: Any
    timestamp: str
    id: str


class _Reply(_Envelope, frozen=True):
    reply_to: str | int | None


def encode(type_: str, data: Any, *, id: str, at: float, reply_to: str | int | bool | None = False) -> bytes:
    """Return one message as JSON; *reply_to* is left out where it is False, since None is a value of it [E2]."""
    envelope = (type_, data, rfc3339(at), id)
    message = _Envelope(*envelope) if reply_to is False else _Reply(*envelope, reply_to)
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:  # what came from the system, as a path or a host's name, need not be text
        return _encoder.encode(_as_text(msgspec.to_builtins(message)))


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    return [_as_text(each) for each in value] if isinstance(value, list) else value


def error_data(error: PMDaemonError, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``data`` of an ``error`` reply [R2]."""
    request = {key: about.get(key) for key in ("type", "action", "process")}
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "request": request,
        "details": error.details,
    }


def decode(payload: bytes) -> Incoming:
    """Read one text frame. Never raises: what is wrong with it comes back as ``error`` [E4]."""
    try:
        message = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as why:  # of msgspec and of the UTF-8 decoder
        reason = "it is nested too deeply" if isinstance(why, RecursionError) else str(why)
        error = InvalidJSON(f"cannot read the message: {reason}", hint="send one JSON object in a text frame")
        return Incoming(error=error)
    if not isinstance(message, dict):
        return Incoming(
            error=InvalidMessage(
                f"cannot read the message: it is {_kind(message)}, not an object",
                hint='send an object with a "type"',
            )
        )
    return _read(message)


def _read(message: dict[str, Any]) -> Incoming:
    id_, data = message.get("id"), message.get("data")
    known = isinstance(id_, int | str) and not isinstance(id_, bool) and len(str(id_)) <= _MAX_ID
    about = _about(message)
    try:
        if id_ is not None and not known:
            raise InvalidMessage(
                "cannot read the message: id is neither an integer nor a string of at most 128 characters",
                details={"path": "id"},
            )
        if data is not None and not isinstance(data, dict):
            raise InvalidMessage(
                f"cannot read the message: data is {_kind(data)}, not an object", details={"path": "data"}
            )
        request = _request(message.get("type"), data or {})
    except PMDaemonError as error:
        return Incoming(id=id_ if known else None, about=about, error=error)
    return Incoming(id=id_, about=about, request=request)


def _request(type_: object, data: dict[str, Any]) -> Request:
    if not isinstance(type_, str):
        raise InvalidMessage(
            "cannot read the message: type is missing or not a string",
            hint="known types: " + ", ".join(sorted([*REQUESTS, "command"])),
            details={"path": "type"},
        )
    if type_ == "command":
        return _command(data)
    if type_ not in REQUESTS:
        raise UnknownType(
            f"cannot answer a message of type {type_[:64]!r}", hint=_nearest(type_, [*REQUESTS, "command"])
        )
    return convert(data, REQUESTS[type_], where="data", error=InvalidMessage)


def _command(data: dict[str, Any]) -> Request:
    action = data.get("action")
    if not isinstance(action, str):
        meant = [key for key in close_matches("action", list(data)) if key != "action"]
        raise InvalidMessage(
            "cannot read the command: action is missing or not a string",
            hint=f"did you mean it by {meant[0]!r}?" if meant else "known actions: " + ", ".join(ACTIONS),
            details={"path": "data.action"},
        )
    if action not in ACTIONS:
        raise UnknownAction(f"cannot carry out the action {action[:64]!r}", hint=_nearest(action, list(ACTIONS)))
    rest = {key: value for key, value in data.items() if key != "action"}
    return convert(rest, ACTIONS[action], where="data", error=InvalidMessage)


def _about(message: dict[str, Any]) -> dict[str, Any]:
    data = message.get("data")
    fields = data if isinstance(data, dict) else {}
    said = {"type": message.get("type"), "action": fields.get("action"), "process": fields.get("process")}
    return {key: value for key, value in said.items() if _short(value)}


def _short(value: object) -> bool:
    """Tell whether *value* can be said back: a scalar that is not long."""
    if isinstance(value, str):
        return len(value) <= 256
    return isinstance(value, int) and not isinstance(value, bool)


def _nearest(word: str, known: list[str]) -> str:
    near = close_matches(word[:64], known)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(sorted(known))


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number", dict: "an object"}
    return kinds.get(type(value), "null")
