"""Reading what a request says about places: the Host header and the Origin header.

Which places are allowed is decided in ``guard``.
"""

import ipaddress
import re
from typing import Final

import msgspec

__all__ = ["DEFAULT_PORTS", "Authority", "Origin", "parse_authority", "parse_origin"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_HOST = rb"(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
_AUTHORITY: Final = re.compile(_HOST)
# A browser never sends userinfo in an Origin; it is read so that it can be refused as another page's, by its full text.
_ORIGIN: Final = re.compile(rb"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31})://(?P<user>[!-.0-?A-~]{0,64}@)?" + _HOST)


class Authority(msgspec.Struct, frozen=True):
    """``host[:port]``; the host in lower case, an IPv6 address in brackets and in its short form.

    A trailing dot is kept: ``localhost.`` is another name than ``localhost``.
    """

    host: str
    port: int | None


class Origin(msgspec.Struct, frozen=True):
    """``scheme://host[:port]``; the port is filled in where the scheme has a default one."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        shown = self.port is not None and self.port != DEFAULT_PORTS.get(self.scheme)
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if shown else "")


def parse_authority(raw: bytes) -> Authority | None:
    """The authority that ``raw`` spells, or None where it is malformed; never raises."""
    return _authority(_AUTHORITY.fullmatch(raw))


def parse_origin(raw: bytes) -> Origin | None:
    """The origin that ``raw`` spells, or None where it is malformed (``null`` is); never raises."""
    match = _ORIGIN.fullmatch(raw)
    authority = _authority(match)
    if match is None or authority is None:
        return None
    scheme = match["scheme"].decode("ascii").lower()
    user = (match["user"] or b"").decode("ascii")
    port = DEFAULT_PORTS.get(scheme) if authority.port is None else authority.port
    return Origin(scheme, user + authority.host, port)


def _authority(match: re.Match[bytes] | None) -> Authority | None:
    if match is None:
        return None
    port = None if match["port"] is None else int(match["port"])
    host = _host(match["host"].decode("ascii").lower())
    if host is None or (port is not None and port > 65535):
        return None
    return Authority(host, port)


def _host(text: str) -> str | None:
    if not text.startswith("["):
        return text
    try:
        return f"[{ipaddress.IPv6Address(text[1:-1]).compressed}]"
    except ValueError:
        return None
