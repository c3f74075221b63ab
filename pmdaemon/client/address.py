"""Where a daemon is: its Unix socket or its URL, and the token that lets one in."""

import os
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from pmdaemon.client.errors import NoDaemon
from pmdaemon.errors import InvalidMessage, PermissionDenied

__all__ = ["DEFAULT_HOME", "Address", "locate", "unix_socket"]

DEFAULT_HOME = "~/.pmdaemon"
_LONGEST = 100
"""Bytes of a path that every system takes for a socket."""


class Address(Struct, frozen=True, kw_only=True):
    """One daemon: ``url`` of its WebSocket, and ``socket``, the path of its Unix socket where that is the way."""

    url: str
    socket: str | None = None
    token: str | None = None

    def __str__(self) -> str:
        return self.socket or self.url


def locate(
    url: str | None = None,
    home: str | os.PathLike[str] | None = None,
    token: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Address:
    """Return where the daemon is: at ``url``, or else in ``home``; where neither is given the environment says it.

    PMDAEMON_URL comes before PMDAEMON_HOME, and PMDAEMON_TOKEN goes with a URL alone: the Unix socket needs none.
    A URL may be ``ws:``, ``wss:``, ``http:`` or ``https:``; its path is ``/ws`` if it has none.
    """
    if url is None and home is None:
        url = environ.get("PMDAEMON_URL") or None
    if url is not None:
        return Address(url=_websocket(url), token=token or environ.get("PMDAEMON_TOKEN") or None)
    place = os.path.expanduser(home or environ.get("PMDAEMON_HOME") or DEFAULT_HOME)
    return Address(url="ws://localhost/ws", socket=os.path.abspath(os.path.join(place, "api.sock")), token=token)


def _websocket(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise InvalidMessage(f"cannot connect to {url!r}: it is not a URL", hint="write it as ws://localhost:9615")
    return urlunsplit((scheme, parts.netloc, "/ws" if parts.path in ("", "/") else parts.path, parts.query, ""))


def unix_socket(path: str, timeout: float) -> socket.socket:
    """Return a socket connected to *path*, which may be longer than the system takes. Raises NoDaemon."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = None
    try:
        connected.settimeout(timeout)
        name = path
        if len(os.fsencode(path)) > _LONGEST:
            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            name = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        connected.connect(name)
        connected.settimeout(None)
    except OSError as why:
        connected.close()
        raise unreachable(path, why) from why
    finally:
        if directory is not None:
            os.close(directory)
    return connected


def unreachable(where: str, why: Exception) -> NoDaemon | PermissionDenied:
    """Return the error that says that nobody answered at *where*."""
    if isinstance(why, PermissionError):
        return PermissionDenied(
            f"cannot connect to {where}: permission denied", hint="it is another user's daemon; a token lets you in"
        )
    silent = isinstance(why, FileNotFoundError | ConnectionRefusedError | NotADirectoryError)
    reason = "there is none" if silent else (getattr(why, "strerror", None) or str(why) or type(why).__name__).lower()
    return NoDaemon(f"cannot reach a daemon at {where}: {reason}", hint="start one: twistd pmdaemon")
