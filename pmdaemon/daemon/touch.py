"""Touches a listening socket: connects and closes, to learn whether somebody listens."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["touch"]


class _Touch(Protocol):
    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.met_itself = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.met_itself = _ends(transport.getHost()) == _ends(transport.getPeer())
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


async def touch(reactor: Any, endpoint: Any) -> float:
    """Return the seconds a connection to ``endpoint``, a stream client's, took; it is closed again by then.

    Raises what ``endpoint.connect`` fails with; cancelled, it gives up at once.
    """
    started = reactor.seconds()
    protocol = await endpoint.connect(Factory.forProtocol(_Touch))
    took = reactor.seconds() - started
    await protocol.closed
    if protocol.met_itself:
        # A port that nobody listens on may by chance become our own end's, and TCP then connects it to itself.
        raise ConnectionRefusedError
    return float(max(took, 0.0))


def _ends(address: Any) -> tuple[str, int]:
    return address.host, address.port
