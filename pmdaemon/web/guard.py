"""Who may ask at all: judges the headers of a request before anything else looks at it.

Every path passes here, pages and the WebSocket handshake alike: a browser lets any page open a WebSocket to
localhost, and a name of a stranger's may be made to point here.
"""

from collections.abc import Callable, Iterable
from typing import Final

from twisted.web.http_headers import Headers

from pmdaemon.errors import InvalidConfiguration
from pmdaemon.web.authority import DEFAULT_PORTS, Origin, parse_authority, parse_origin
from pmdaemon.web.refusal import Refusal, RefusalLog, printable

__all__ = ["Guard", "Refusal", "RefusalLog"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class _Asked:
    """A request as the checks see it: its headers, and what the checks before have established."""

    def __init__(self, headers: Headers, secure: bool) -> None:
        self.headers = headers
        self.scheme = "https" if secure else "http"
        self.port = DEFAULT_PORTS[self.scheme]

    def home(self) -> str:
        return str(Origin(self.scheme, "localhost", self.port)) + "/"


class Guard:
    """Refuses requests that were not meant for this daemon, and those of other sites' pages.

    ``allow_hosts`` are further names of this daemon (no port: any port is allowed, for tunnels), ``allow_origins``
    further pages, written as a browser sends them. Raises InvalidConfiguration where one cannot be read.
    """

    def __init__(self, allow_hosts: Iterable[str] = (), allow_origins: Iterable[str] = ()) -> None:
        self._hosts = LOOPBACK.union(map(_allowed_host, allow_hosts))
        self._origins = frozenset(map(_allowed_origin, allow_origins))
        # In this order; each check relies on those before it.
        self._checks: tuple[Callable[[_Asked], Refusal | None], ...] = (self._check_host, self._check_origin)

    def judge(self, headers: Headers, *, secure: bool) -> Refusal | None:
        """The first check's refusal, or None: served. ``secure`` tells whether the connection is TLS; never raises."""
        asked = _Asked(headers, secure)
        for check in self._checks:
            refusal = check(asked)
            if refusal is not None:
                return refusal
        return None

    def _check_host(self, asked: _Asked) -> Refusal | None:
        given = asked.headers.getRawHeaders(b"host", ())
        if len(given) != 1:
            return Refusal(
                400,
                "INVALID_HOST",
                f"cannot tell whom the request is for: it has {len(given)} Host headers",
                "send exactly one Host header",
            )
        host = parse_authority(given[0])
        if host is None:
            return Refusal(
                400, "INVALID_HOST", f"cannot read the Host header {_shown(given[0])}", "send host or host:port"
            )
        asked.port = host.port or asked.port
        if host.host in self._hosts:
            return None
        return Refusal(
            421,
            "HOST_NOT_ALLOWED",
            f"cannot answer for the host {host.host}: it is not a name of this daemon",
            f"open {asked.home()} or start the daemon with --allow-host {host.host}",
        )

    def _check_origin(self, asked: _Asked) -> Refusal | None:
        given = asked.headers.getRawHeaders(b"origin", ())
        if not given:
            return None  # not a page: browsers always say
        if len(given) > 1:
            return Refusal(
                400,
                "INVALID_ORIGIN",
                f"cannot tell which page is asking: the request has {len(given)} Origin headers",
                "send one Origin header, or none",
            )
        if given[0] == b"null":
            return Refusal(
                403,
                "ORIGIN_NOT_ALLOWED",
                "cannot let a page without an origin (a local file, a sandboxed frame) use this daemon",
                f"open the page at {asked.home()}www/, having started the daemon with --www DIRECTORY",
            )
        origin = parse_origin(given[0])
        if origin is None:
            return Refusal(
                400,
                "INVALID_ORIGIN",
                f"cannot read the Origin header {_shown(given[0])}",
                "send scheme://host or scheme://host:port",
            )
        if self._is_own(origin, asked) or origin in self._origins:
            return None
        return Refusal(
            403,
            "ORIGIN_NOT_ALLOWED",
            f"cannot let a page of {origin} use this daemon",
            f"open {asked.home()} or start the daemon with --allow-origin {origin}",
        )

    def _is_own(self, origin: Origin, asked: _Asked) -> bool:
        return origin.scheme == asked.scheme and origin.host in self._hosts and origin.port == asked.port


def _allowed_host(text: str) -> str:
    authority = parse_authority(text.encode("utf-8", "replace"))
    if authority is None or authority.port is not None:
        raise InvalidConfiguration(
            f"cannot allow the host {printable(text)}: it is not a host name",
            hint="write a name or an address without scheme and port, an IPv6 address in brackets",
        )
    return authority.host


def _allowed_origin(text: str) -> Origin:
    origin = parse_origin(text.encode("utf-8", "replace"))
    if origin is None or "@" in origin.host:
        raise InvalidConfiguration(
            f"cannot allow the origin {printable(text)}: it is not an origin",
            hint="write scheme://host or scheme://host:port, without a path, as in https://status.example",
        )
    return origin


def _shown(raw: bytes) -> str:
    return "'" + printable(raw[:100].decode("ascii", "backslashreplace")) + "'"
