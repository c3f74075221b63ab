"""HTTP connections that cannot be held open by a slow or an endless request.

What is asked, and who may, is decided in ``site``.
"""

# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

from typing import Any, Final

from twisted.internet.interfaces import ITCPTransport
from twisted.web import http

__all__ = ["DEADLINE", "MAX_BODY", "DeadlineChannel"]

DEADLINE: Final = 10.0
"""Seconds from the connection, or from the end of an answer, to the end of the next request."""

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request body; a larger one, or one of unknown length, is not read."""


class DeadlineChannel(http.HTTPChannel):
    """Ends a connection on which no complete request arrives within its factory's ``timeOut`` seconds.

    The deadline is absolute: bytes do not extend it. It also bounds how long a connection may stay idle between
    requests, and how long the peer may take to read the rest of an answer after which the connection closes. A
    connection that has been answered is closed rather than aborted, since the answer may still be on its way.
    It does not run while a request is being answered, and never again once a WebSocket has taken the transport.

    A request whose body is too large or chunked is handed on at once without its body, with ``too_large`` set on
    it; what is left of it is never parsed. The answer is followed by the end of what we send, and the connection ends
    when the peer has sent its rest, or at the deadline.
    """

    _answered = False
    _closing = False
    _unread = False

    def resetTimeout(self) -> None:
        """Nothing: Twisted calls this for every byte."""

    def timeoutConnection(self) -> None:
        """Called at the deadline."""
        if self._answered and not self._closing:
            self.loseConnection()
            return
        transport: Any = self.transport
        self._log.debug("no complete request in time from {peer}", peer=transport.getPeer())
        transport.abortConnection()

    def requestDone(self, request: http.Request) -> None:
        """Called when a request is answered."""
        self._answered = True
        super().requestDone(request)

    def loseConnection(self) -> None:
        """Close once everything is written, or at the deadline."""
        self._closing = True
        transport: Any = self.transport
        if self._unread and ITCPTransport.providedBy(transport) and not self.isSecure():
            # To close with bytes unread would be a reset, and take the answer from whoever is still sending.
            transport.loseWriteConnection()
        else:
            super().loseConnection()
        self.setTimeout(DEADLINE)

    # Twisted goes on parsing what came in the same segment as a malformed header, and would answer that too.

    def lineReceived(self, line: bytes) -> None:
        """Called for each line of a head."""
        if not self._closing:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Called with the bytes of a body, and with what comes while an answer is awaited."""
        if not self._closing:
            super().rawDataReceived(data)

    def headerReceived(self, line: bytes) -> bool:
        """Called for each header; tells whether it was well formed."""
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # a Content-Length of more digits than int() takes
            self._respondToBadRequestAndDisconnect()
            return False

    def allHeadersReceived(self) -> None:
        """Called at the end of the head, before any byte of the body is taken."""
        large = self.length is None or self.length > MAX_BODY
        if large:
            request = self.requests[-1]
            request.too_large = True
            request.requestHeaders.removeHeader(b"Expect")  # or Twisted would ask for the body
            self.length, self._transferDecoder = 0, None
            self._unread = True
        super().allHeadersReceived()
        if large:
            self.persistent = 0
