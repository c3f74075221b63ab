"""Text frames to typed messages and requests to text frames, and errors back into exceptions; no I/O."""

from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import Struct

import pmdaemon.errors
from pmdaemon.client.errors import NoDaemon, ProtocolError
from pmdaemon.core.commands import Command, Request
from pmdaemon.core.events import (
    HealthUpdate,
    LogMessage,
    ProcessEvent,
    ProcessMetrics,
    ProcessStatus,
    SystemMetrics,
)
from pmdaemon.core.info import ProcessObject
from pmdaemon.errors import PermissionDenied, PMDaemonError, RateLimited, Unauthorized
from pmdaemon.protocol import replies

__all__ = ["Disconnected", "Message", "decode", "encode", "error_of", "refusal", "result"]

T = TypeVar("T")


class Disconnected(Struct, frozen=True, kw_only=True):
    """The connection of a subscription has broken; it comes back by itself, and a `Subscribed` tells of that."""

    type: ClassVar[str] = "disconnected"

    reason: str


class Message(Struct, frozen=True, kw_only=True):
    """One message of the daemon.

    ``data`` is the Struct of its ``type``, or a dict where the type is not known here; ``timestamp`` is RFC 3339.
    """

    type: str
    data: Any
    timestamp: str
    id: str
    reply_to: str | int | None = None


class _Envelope(Struct, frozen=True):
    type: str
    data: msgspec.Raw
    timestamp: str = ""
    id: str = ""
    reply_to: str | int | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()
_DATA: Final[dict[str, type[Struct]]] = {
    each.type: each
    for each in (
        *(ProcessStatus, ProcessEvent, ProcessMetrics, SystemMetrics, HealthUpdate, LogMessage),
        *(replies.Error, replies.Subscribed, replies.Snapshot, replies.Unsubscribed, replies.ProcessInfo),
        *(replies.SystemReply, replies.Logs, replies.Events, replies.CrashReply, replies.History, replies.Config),
        *(replies.CommandResult, replies.Authenticated, replies.Pong, replies.Gap, replies.LogGap),
    )
}
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def encode(request: Request, id_: str) -> bytes:
    """Return the text frame of a request."""
    data = {key: value for key, value in msgspec.to_builtins(request).items() if value is not None}
    if isinstance(request, Command):
        data = {"action": request.action, **data}
    return _encoder.encode({"type": request.type, "id": id_, "data": data})


def decode(text: str | bytes) -> Message:
    """Read one text frame. Raises ProtocolError where it is not a message of the daemon."""
    try:
        read = _envelope.decode(text)
        return Message(type=read.type, data=_data(read), timestamp=read.timestamp, id=read.id, reply_to=read.reply_to)
    except (msgspec.DecodeError, UnicodeDecodeError) as why:
        raise ProtocolError(
            f"cannot understand the daemon: {why}", hint="is it a PMDaemon, and as new as this client?"
        ) from why


def _data(read: _Envelope) -> Any:
    type_ = _DATA.get(read.type)
    if type_ is None:
        return msgspec.json.decode(read.data)
    data = _as(type_, read.data)
    if isinstance(data, replies.ProcessInfo) and data.processes is None and data.instances is None:
        return replies.ProcessInfo(processes=[_as(ProcessObject, read.data)])
    return data


def _as(type_: type[T], raw: msgspec.Raw) -> T:
    decoder = _decoders.get(type_)
    if decoder is None:  # made when first needed, as making all of them would take longer than most programs run
        decoder = _decoders[type_] = msgspec.json.Decoder(type_)
    decoded: T = decoder.decode(raw)
    return decoded


def result(message: Message, answer: type[T]) -> T:
    """Return the reply's data; raises what an ``error`` says, and ProtocolError where it is no *answer*."""
    if isinstance(message.data, replies.Error):
        raise error_of(message.data)
    if not isinstance(message.data, answer):
        raise ProtocolError(
            f"cannot understand the daemon: it answered with {message.type}", hint="is it as new as this client?"
        )
    return message.data


_ERRORS: Final = {
    each.code: each
    for each in vars(pmdaemon.errors).values()
    if isinstance(each, type) and issubclass(each, PMDaemonError) and each is not PMDaemonError
}


def error_of(error: replies.Error) -> PMDaemonError:
    """Return the exception that an ``error`` means: the class of its code, or one like it for a code of its own."""
    kind: type[PMDaemonError] = _ERRORS.get(error.code) or type("PMDaemonError", (PMDaemonError,), {"code": error.code})
    return kind(error.message, hint=error.hint, details=error.details)


def refusal(status: int, body: bytes, where: object) -> PMDaemonError:
    """Return why a handshake was answered with HTTP *status*."""
    kinds: dict[int, type[PMDaemonError]] = {
        401: Unauthorized,
        403: PermissionDenied,
        421: PermissionDenied,
        429: RateLimited,
        503: NoDaemon,
    }
    kind = kinds.get(status, ProtocolError)
    try:
        error = msgspec.json.decode(body, type=dict[str, replies.Error])["error"]
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return kind(f"cannot connect to {where}: it answers with HTTP {status}", hint="is it a PMDaemon?")
    return kind(error.message, hint=error.hint, details={**error.details, "code": error.code})
