"""Asks a URL for its HTTP status and for nothing else: no redirect is followed, no body read, no connection kept."""

from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from pmdaemon.daemon.reason import plain_reason

__all__ = ["RequestError", "http_status"]

_HEADERS = Headers({"User-Agent": ["pmdaemon"]})


class RequestError(Exception):
    """A request was made and no status had; the text says why, in a clause."""


async def http_status(reactor: Any, url: str, trust: Any = None) -> tuple[int, float]:
    """Return the status and the seconds it took, once the connection is closed.

    ``trust`` is for https what ``TLSEndpoint`` takes. Raises RequestError, what an endpoint cannot connect by, or
    ValueError when that is no URL; cancelled, it gives up at once.
    """
    started = reactor.seconds()
    connections: Any = _OneConnection(reactor, persistent=False)  # type: ignore[no-untyped-call]  # Twisted's
    agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, trust), connections)
    try:
        response: Any = await agent.request(b"GET", url.encode(), _HEADERS)
        return response.code, max(reactor.seconds() - started, 0.0)
    except (ResponseFailed, RequestTransmissionFailed) as problem:
        raise RequestError(_reason(problem.reasons[0].value, tls=urlsplit(url).scheme == "https")) from problem
    finally:
        await connections.drop()


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Where to connect to for a URL."""

    def __init__(self, reactor: Any, trust: Any) -> None:
        self._reactor = reactor
        self._trust = trust

    def endpointForURI(self, uri: URI) -> Any:
        """Return a stream client's endpoint, for https one with TLS."""
        endpoint = HostnameEndpoint(self._reactor, uri.host, uri.port)
        if uri.scheme == b"http":
            return endpoint
        from pmdaemon.daemon.tlsclient import TLSEndpoint

        return TLSEndpoint(self._reactor, endpoint, uri.host.decode("ascii"), self._trust)


def _reason(problem: BaseException, *, tls: bool) -> str:
    reason = None
    if tls:
        from pmdaemon.daemon.tlsclient import tls_reason

        reason = tls_reason(problem)
    return reason or plain_reason(problem, "the answer cannot be read as HTTP")


class _OneConnection(HTTPConnectionPool):
    """Keeps hold of the connection of a request: an Agent gives no way to drop it while the body comes."""

    _wire: "_Wire | None" = None

    def getConnection(self, key: Hashable, endpoint: Any) -> "Deferred[Any]":
        """Connect, as an Agent asks."""
        held: Any = _Held(endpoint, self._hold)
        return super().getConnection(key, held)

    def _hold(self, wire: "_Wire") -> None:
        self._wire = wire

    async def drop(self) -> None:
        """Close at once, whatever the server still sends or does not acknowledge."""
        if self._wire is not None and not self._wire.closed.called:
            wire: Any = self._wire
            wire.transport.abortConnection()
            await wire.closed


class _Wire(ProtocolWrapper):
    """What is between an HTTP client and its transport; ``closed`` fires with None."""

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on and tell."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # Twisted's
        self.closed.callback(None)


class _Held:
    """An endpoint that shows the connection it makes."""

    def __init__(self, endpoint: Any, hold: Callable[[_Wire], None]) -> None:
        self._endpoint = endpoint
        self._hold = hold

    def connect(self, factory: Any) -> "Deferred[Any]":
        """Connect, and return the protocol that ``factory`` made."""
        factory.noisy = False  # or each probe would leave two lines in the log
        wrapping = WrappingFactory(factory)
        wrapping.protocol = _Wire
        wrapping.noisy = False
        connecting: Deferred[Any] = self._endpoint.connect(wrapping)
        return connecting.addCallback(self._connected)

    def _connected(self, wire: _Wire) -> Any:
        self._hold(wire)
        return wire.wrappedProtocol
