"""Binds the daemon's port before anything is started, so that a port that is taken ends the start with one line."""

import errno
import socket
from collections.abc import Sequence

__all__ = ["LOOPBACKS", "ListenError", "bind"]

LOOPBACKS = ("127.0.0.1", "::1")
"""Both, since some clients take the one and some the other for ``localhost``."""

_BACKLOG = 1024
_ATTEMPTS = 20
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class ListenError(Exception):
    """The port cannot be had; the text is one line for the user."""


def bind(hosts: Sequence[str], port: int) -> tuple[list[socket.socket], list[str]]:
    """Return listening sockets on *port* of every host, and the hosts that this machine does not have.

    Port 0 takes one that is free on all of them. Only an IPv6 address beside an IPv4 one may be missing.
    Raises ListenError.
    """
    attempts = _ATTEMPTS if port == 0 and len(hosts) > 1 else 1
    while True:
        try:
            return _bind(hosts, port)
        except ListenError:
            attempts -= 1  # a port that was free on the first host may be taken on another
            if not attempts:
                raise


def _bind(hosts: Sequence[str], port: int) -> tuple[list[socket.socket], list[str]]:
    sockets: list[socket.socket] = []
    missing: list[str] = []
    for host in hosts:
        try:
            sockets.append(_listen(host, port))
        except OSError as why:
            if sockets and ":" in host and why.errno in _NO_IPV6:
                missing.append(host)
                continue
            for each in sockets:
                each.close()
            raise ListenError(_words(host, port, why)) from why
        port = sockets[0].getsockname()[1]
    return sockets, missing


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:
        raise OSError(errno.EINVAL, "it is not a host name") from None
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _words(host: str, port: int, why: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if why.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is taken; stop who has it or give another with --port"
    return f"cannot listen on {where}: {(why.strerror or str(why)).lower()}"
