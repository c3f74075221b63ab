"""The one port: a route table, and the guard in front of all of it."""

# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

from importlib import resources
from typing import Any, Final

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web import http, resource, server

from pmdaemon.web.answer import NOT_FOUND, Refused, answer
from pmdaemon.web.arrival import Arrivals, GuardedChannel
from pmdaemon.web.channel import DEADLINE, MAX_BODY
from pmdaemon.web.guard import Guard, Refusal, RefusalLog
from pmdaemon.web.pages import ExamplePages, Redirect, UserPages
from pmdaemon.web.request import Request
from pmdaemon.web.visit import Visit

__all__ = ["GuardedSite", "build_site"]

TOO_LARGE: Final = Refusal(
    413,
    "LIMIT_EXCEEDED",
    f"cannot take the body: it is chunked or larger than {MAX_BODY} bytes",
    "send at most 1 MiB, with its Content-Length",
)
METHOD: Final = Refusal(405, "METHOD_NOT_ALLOWED", "cannot serve this method here", "use GET or HEAD")
UPGRADE: Final = Refusal(
    426, "UPGRADE_REQUIRED", "cannot answer here without a WebSocket handshake", "connect with a WebSocket client"
)

HEADERS: Final = (
    (b"server", b"PMDaemon"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def build_site(
    reactor: IReactorTime, guard: Guard, arrivals: Arrivals, factory: WebSocketServerFactory, www: str | None
) -> server.Site:
    """The site to listen with: ``factory``'s WebSockets at ``/ws``, the examples, and the directory ``www``."""
    root = _Root()
    root.putChild(b"", Redirect(b"/examples/dashboard.html"))
    root.putChild(b"ws", _Handshake(factory, guard, reactor))
    root.putChild(b"examples", ExamplePages(resources.files("pmdaemon.web") / "static"))
    if www is not None:
        root.putChild(b"www", UserPages(www))
    return GuardedSite(root, guard, arrivals, reactor)


class GuardedSite(server.Site):
    """Serves nothing that the guard refuses, on whatever path."""

    noisy = False
    protocol = GuardedChannel  # type: ignore[assignment]  # typed as the wrapper that also speaks HTTP/2
    log_refused = Logger()

    def __init__(self, root: resource.Resource, guard: Guard, arrivals: Arrivals, reactor: IReactorTime) -> None:
        super().__init__(root, requestFactory=Request, timeout=DEADLINE, reactor=reactor, parsePOSTFormSubmission=False)
        self._guard = guard
        self.arrivals = arrivals
        self._refusals = RefusalLog(reactor, self.log_refused)

    def log(self, request: http.Request) -> None:
        """Keep no access log: what is refused is told by ``RefusalLog``, what is done by events."""

    def _updateLogDateTime(self) -> None:
        """Do without the clock of Twisted's access log, which would wake an idle daemon every second."""

    def acceptableProtocols(self) -> list[bytes]:
        """Called for TLS: no HTTP/2, on which a WebSocket handshake of ours does not work."""
        return [b"http/1.1"]

    def refused(self, refusal: Refusal) -> None:
        """Tell the operator of what was refused."""
        self._refusals.record(refusal)

    def getResourceFor(self, request: Request) -> resource.IResource:
        """Called for every request, before any resource sees it."""
        for name, value in HEADERS:
            request.setHeader(name, value)
        channel: GuardedChannel = request.channel
        judged = self._guard.judge(request.requestHeaders, channel.peer, secure=request.isSecure())
        if isinstance(judged, Refusal):
            self.refused(judged)
            return _closing(request, judged)
        if channel.place is not None:
            channel.place.let_in()
        request.caller = judged
        if request.too_large:
            return _closing(request, TOO_LARGE)
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return Refused(METHOD)
        found: resource.IResource = super().getResourceFor(request)
        return found


def _closing(request: Request, refusal: Refusal) -> Refused:
    request.channel.persistent = 0
    request.setHeader(b"connection", b"close")
    return Refused(refusal)


class _Root(resource.Resource):
    """Nothing but its children."""

    def getChild(self, path: bytes, request: server.Request) -> resource.Resource:
        return Refused(NOT_FOUND)


class _Handshake(resource.Resource):
    """Hands the connection over to Autobahn, if it asks for that, and tells its protocol who is there."""

    isLeaf = True

    def __init__(self, factory: WebSocketServerFactory, guard: Guard, reactor: IReactorTime) -> None:
        super().__init__()
        self._factory = factory
        self._guard = guard
        self._reactor = reactor

    def render(self, request: Request) -> bytes | int:
        """Called by Twisted."""
        if request.postpath:
            return answer(request, NOT_FOUND)
        wanted = b",".join(request.requestHeaders.getRawHeaders(b"upgrade", ())).lower()
        if b"websocket" not in map(bytes.strip, wanted.split(b",")):
            request.setHeader(b"upgrade", b"websocket")
            return answer(request, UPGRADE)
        channel: GuardedChannel = request.channel
        place, channel.place = channel.place, None
        assert place is not None and request.caller is not None, "the guard has been there"
        visit = Visit(request.caller, channel.peer, self._guard, place, self._reactor)
        taken: bytes | int = WebSocketResource(_Introduction(self._factory, visit)).render(request)
        return taken


class _Introduction:
    """The factory as one visit sees it: what it makes knows of the visit."""

    def __init__(self, factory: WebSocketServerFactory, visit: Visit) -> None:
        self._factory = factory
        self._visit = visit

    def buildProtocol(self, address: IAddress) -> Any:
        """Called by Autobahn."""
        made: Any = self._factory.buildProtocol(address)
        made.visit = self._visit
        return made
