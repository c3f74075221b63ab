"""Binds the daemon's port before anything is started, so that a port that is taken ends the start with one line."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["LOOPBACKS", "ListenError", "bind", "bind_unix", "remote"]

LOOPBACKS = ("127.0.0.1", "::1")
"""Both, since some clients take the one and some the other for ``localhost``."""

_LONGEST = 100
"""Bytes of a path that every system takes for a socket."""

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


def bind_unix(path: Path) -> socket.socket:
    """Return a listening socket that only this user and root can connect to.

    What is at *path* is removed, so hold the lock of the directory, which must let nobody else in. Where the path is
    too long for a socket it is bound by way of a descriptor of the directory, which stays open. Raises ListenError.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    try:
        path.unlink(missing_ok=True)
        listening.bind(_short(path))
        path.chmod(0o600)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as why:
        listening.close()
        raise ListenError(f"cannot listen on {path}: {(why.strerror or str(why)).lower()}") from why
    finally:
        os.umask(before)
    return listening


def _short(path: Path) -> str:
    if len(os.fsencode(path)) <= _LONGEST:
        return str(path)
    return f"/proc/self/fd/{os.open(path.parent, os.O_PATH | os.O_CLOEXEC)}/{path.name}"


def remote(hosts: Iterable[str]) -> list[str]:
    """Return those of *hosts* that other machines can reach; what cannot be had at all is left to ``bind``."""
    return [host for host in hosts if not _is_loopback(host)]


def _is_loopback(host: str) -> bool:
    try:
        address = str(_resolved(host, 0)[4][0])
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except (OSError, ValueError):
        return True


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
    family, kind, protocol, _, address = _resolved(host, port)
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


def _resolved(host: str, port: int) -> Any:
    """Return what ``getaddrinfo`` finds first."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except UnicodeError:
        raise OSError(errno.EINVAL, "it is not a host name") from None


def _words(host: str, port: int, why: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if why.errno == errno.EADDRINUSE:
        return f"cannot listen on {where}: the port is taken; stop who has it or give another with --port"
    return f"cannot listen on {where}: {(why.strerror or str(why)).lower()}"
