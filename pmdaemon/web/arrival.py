"""Connections as they arrive: who is at the other end, and whether there is room for another of theirs.

What is asked on them is judged in ``guard``, request by request.
"""

# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pmdaemon.web.answer import outright
from pmdaemon.web.channel import DeadlineChannel
from pmdaemon.web.limits import Connections, Place
from pmdaemon.web.peer import Peer
from pmdaemon.web.refusal import Refusal

__all__ = ["Arrivals", "GuardedChannel"]


class Arrivals:
    """Receives connections; ``peer_of`` tells who is at the other end of a transport."""

    def __init__(self, peer_of: Callable[[Any], Peer], connections: Connections) -> None:
        self.peer_of = peer_of
        self.connections = connections


class GuardedChannel(DeadlineChannel):
    """An HTTP connection that knows its ``peer``, asked once, and holds a ``place`` until it ends.

    Who takes its transport over takes over ``place`` too.
    """

    peer: Peer
    place: Place | None = None

    def connectionMade(self) -> None:
        """Called when the connection is there, before anything is read from it."""
        super().connectionMade()
        transport: Any = self.transport
        site: Any = self.factory
        arrivals: Arrivals = site.arrivals
        self.peer = arrivals.peer_of(transport)
        place = arrivals.connections.enter(self.peer)
        if isinstance(place, Place):
            self.place = place
            return
        site.refused(place)
        self._turn_away(transport, place)

    def _turn_away(self, transport: Any, refusal: Refusal) -> None:
        if self.isSecure():  # nothing can be said before TLS has been agreed on, which would keep the connection
            transport.abortConnection()
            return
        transport.write(outright(refusal))
        self.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called when it has ended, unless its transport was taken over."""
        super().connectionLost(reason)
        if self.place is not None:
            self.place.leave()
