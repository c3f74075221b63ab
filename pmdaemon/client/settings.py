"""How both clients connect, how long they wait, and how they word a connection that broke."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from websockets.exceptions import ConnectionClosed

import pmdaemon
from pmdaemon.client.address import Address
from pmdaemon.core.commands import Command, Request, Selector, Subscribe
from pmdaemon.errors import InvalidMessage

__all__ = ["CLOSING", "LARGEST", "OPENING", "headers", "lost", "patience", "settings", "subscription"]

OPENING: Final = 10.0
CLOSING: Final = 2.0
"""Seconds that a connection may take to open and to close."""

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a message: 512 KiB, but for the metrics of very many processes."""

_COMMAND: Final = 60.0
"""Seconds that the daemon waits for a command unless it is told otherwise."""


def headers(address: Address) -> dict[str, str]:
    """Return the headers of a handshake."""
    agent = {"User-Agent": f"pmdaemon/{pmdaemon.__version__}"}
    return {**agent, "Authorization": f"Bearer {address.token}"} if address.token else agent


def settings(address: Address) -> dict[str, Any]:
    """Return what ``connect`` of websockets takes, beside the URL and the socket."""
    return {
        "additional_headers": headers(address),
        "user_agent_header": None,
        "compression": None,
        "max_size": LARGEST,
        "open_timeout": OPENING,
        "close_timeout": CLOSING,
        "proxy": None if address.socket else True,
    }


def patience(request: Request, timeout: float) -> float:
    """Return how many seconds to wait for a reply: *timeout*, after the time that a command itself may take."""
    if not isinstance(request, Command) or request.wait is False:
        return timeout
    return timeout + (_COMMAND if request.timeout is None else request.timeout / 1000)


def lost(why: ConnectionClosed) -> str:
    """Return in words how a connection ended."""
    if why.rcvd is None:
        return "the connection to the daemon broke"
    return f"the daemon closed the connection: {why.rcvd.reason or 'no reason given'} ({why.rcvd.code})"


def subscription(events: Iterable[str], processes: Iterable[Selector] | None, options: Mapping[str, Any]) -> Subscribe:
    """Return the request; ``options`` are further keys of it. Raises InvalidMessage for one that there is not."""
    unknown = options.keys() - {field.name for field in msgspec.structs.fields(Subscribe)}
    if unknown:
        raise InvalidMessage(f"cannot subscribe: {min(unknown)} is not an option of subscribe")
    wanted = None if processes is None else list(processes)
    return Subscribe(events=list(events), processes=wanted, **options)
