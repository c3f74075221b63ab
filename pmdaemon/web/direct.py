"""The socket beneath a Twisted transport: sending at once, and seeing how much waits to be sent.

``transport.write`` never sends at once: it waits for the reactor to find the socket writable, which doubles the cost of
a small write. What this needs to know is private to Twisted, so nothing else may rely on it: where it is not as
expected, nothing is sent at once and nothing is known.
"""

import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import tcp

__all__ = ["is_clear", "sender", "tune", "waiting"]

UNSENT: Final = 64 * 1024
"""Bytes that the kernel may hold unsent for a connection; it takes no more, so a slow reader shows early."""


def tune(transport: Any) -> None:
    """Have the kernel send small writes at once and hold little unsent, where the socket can do that."""
    sock = getattr(transport, "socket", None)
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT)


def sender(transport: Any) -> Callable[[bytes], int] | None:
    """Return what sends on the socket beneath ``transport``, or None where nothing may be sent past it, as for TLS.

    It tells how many bytes the kernel took, raises OSError, and may be called while ``is_clear``.
    """
    sock = getattr(transport, "socket", None)
    if sock is None or not isinstance(transport, tcp.Connection) or getattr(transport, "TLS", True):
        return None
    send: Callable[[bytes], int] = sock.send
    return send


def is_clear(transport: Any) -> bool:
    """Whether ``transport`` has given the kernel all that was written to it, and is not closing."""
    return waiting(transport) == 0 and not getattr(transport, "disconnecting", True)


def waiting(transport: Any) -> int | None:
    """How many bytes were written to ``transport`` that the kernel has not taken yet, or None where that is unknown."""
    try:
        # through a TLS wrapper this reads the connection beneath it
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)
    except (AttributeError, TypeError):
        return None
