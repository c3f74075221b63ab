"""Which names this daemon goes by, and which pages may use it: judges Host and Origin headers.

A browser lets any page open a WebSocket to localhost, and a name of a stranger's may be made to point here. What a
caller may do who comes from the right place is decided in ``guard``.
"""

from collections.abc import Iterable
from typing import Final

from twisted.web.http_headers import Headers

from pmdaemon.errors import InvalidConfiguration
from pmdaemon.web.authority import DEFAULT_PORTS, Authority, Origin, parse_authority, parse_origin
from pmdaemon.web.refusal import Refusal, printable

__all__ = ["Places"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Places:
    """Refuses requests that were not meant for this daemon, and those of other sites' pages.

    ``allow_hosts`` are further names of this daemon (no port: any port is allowed, for tunnels), ``allow_origins``
    further pages, written as a browser sends them; ``allow_null`` lets pages without an origin pass. Raises
    InvalidConfiguration where one cannot be read.
    """

    def __init__(
        self, allow_hosts: Iterable[str] = (), allow_origins: Iterable[str] = (), *, allow_null: bool = False
    ) -> None:
        self._hosts = LOOPBACK.union(map(_allowed_host, allow_hosts))
        self._origins = frozenset(map(_allowed_origin, allow_origins))
        self._allow_null = allow_null

    def check_host(self, headers: Headers, *, secure: bool) -> Refusal | None:
        """Why the request is not for this daemon, or None; ``secure`` tells whether it came by TLS. Never raises."""
        given = headers.getRawHeaders(b"host", ())
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
        if host.host in self._hosts:
            return None
        return Refusal(
            421,
            "HOST_NOT_ALLOWED",
            f"cannot answer for the host {host.host}: it is not a name of this daemon",
            f"open {_home(headers, secure)}/ or start the daemon with --allow-host {host.host}",
        )

    def check_origin(self, headers: Headers, *, secure: bool) -> Refusal | None:
        """Why the page that asks may not, or None, as where no page asks. Never raises."""
        given = headers.getRawHeaders(b"origin", ())
        if not given:
            return None  # not a page: browsers always say
        home = _home(headers, secure)
        if len(given) > 1:
            return Refusal(
                400,
                "INVALID_ORIGIN",
                f"cannot tell which page is asking: the request has {len(given)} Origin headers",
                "send one Origin header, or none",
            )
        if given[0] == b"null":
            if self._allow_null:
                return None
            return Refusal(
                403,
                "ORIGIN_NOT_ALLOWED",
                "cannot let a page without an origin (a local file, a sandboxed frame) use this daemon",
                f"open the page at {home}/www/, having started the daemon with --www DIRECTORY",
            )
        origin = parse_origin(given[0])
        if origin is None:
            return Refusal(
                400,
                "INVALID_ORIGIN",
                f"cannot read the Origin header {_shown(given[0])}",
                "send scheme://host or scheme://host:port",
            )
        if self._is_own(origin, home) or origin in self._origins:
            return None
        return Refusal(
            403,
            "ORIGIN_NOT_ALLOWED",
            f"cannot let a page of {origin} use this daemon",
            f"open {home}/ or start the daemon with --allow-origin {origin}",
        )

    def is_nowhere(self, headers: Headers) -> bool:
        """Whether a page without an origin asks: a local file, or a frame that anybody's page may hold."""
        return b"null" in headers.getRawHeaders(b"origin", ())

    def _is_own(self, origin: Origin, home: Origin) -> bool:
        return origin.scheme == home.scheme and origin.host in self._hosts and origin.port == home.port


def _home(headers: Headers, secure: bool) -> Origin:
    """This daemon as the asker's browser would name it: on the port that the request was sent to."""
    scheme = "https" if secure else "http"
    given = headers.getRawHeaders(b"host", (b"",))
    host = parse_authority(given[0]) or Authority("localhost", None)
    return Origin(scheme, "localhost", host.port or DEFAULT_PORTS[scheme])


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
