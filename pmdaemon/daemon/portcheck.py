"""Tells whether a port of this machine can be listened on, by trying."""

import errno
import socket

__all__ = ["is_free"]

_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_EVERYWHERE = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def is_free(port: int) -> bool:
    """Return whether nobody listens on TCP *port* on any address, and we may.

    ``SO_REUSEADDR`` ignores connections that are fading away but not listeners (socket(7)).
    """
    return all(_binds(family, host, port) for family, host in _EVERYWHERE)


def _binds(family: int, host: str, port: int) -> bool:
    try:
        probe = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return family == socket.AF_INET6  # no IPv6 here: nobody listens there
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
            probe.listen(1)
        except OSError as why:
            return family == socket.AF_INET6 and why.errno in _NO_IPV6
    return True
