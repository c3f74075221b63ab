"""Asks a URL for its HTTP status and for nothing else: no redirect is followed, no body read, no connection kept."""

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

__all__ = ["http_status"]

_HEADERS = Headers({"User-Agent": ["pmdaemon"]})


async def http_status(reactor: Any, url: str, policy: Any) -> tuple[int, float]:
    """Return the status and the seconds it took, once the connection is closed; ``policy`` is an IPolicyForHTTPS.

    Raises what an Agent's request fails with, or ValueError when that is no URL; cancelled, it gives up at once.
    """
    started = reactor.seconds()
    connections: Any = _OneConnection(reactor, persistent=False)  # type: ignore[no-untyped-call]  # as is this
    agent = Agent(reactor, policy, pool=connections)
    try:
        response: Any = await agent.request(b"GET", url.encode(), _HEADERS)
        return response.code, max(reactor.seconds() - started, 0.0)
    finally:
        await connections.drop()


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
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # not typed in Twisted
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
