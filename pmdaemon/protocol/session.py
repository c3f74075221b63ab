"""One connection's dialogue, without the connection: text in, replies out.

It reads requests, keeps the subscription, and words the replies. What a request does is the dispatcher's business.
"""

from collections.abc import Callable
from typing import Any

from pmdaemon.core.commands import Subscribe, Unsubscribe
from pmdaemon.core.selection import Selection
from pmdaemon.errors import PMDaemonError
from pmdaemon.protocol.codec import Incoming, decode, encode, error_data
from pmdaemon.protocol.subscription import Subscription

__all__ = ["Session"]


class Session:
    """A client's side of the conversation.

    *stamp* gives the next message id and the present time in unix seconds; every reply takes one [E3].
    """

    def __init__(self, stamp: Callable[[], tuple[str, float]]) -> None:
        self._stamp = stamp
        self.subscription = Subscription()

    def receive(self, payload: bytes) -> Incoming:
        """Read one text frame; never raises, whatever the bytes [E4]."""
        return decode(payload)

    def subscribe(self, request: Subscribe, within: Selection | None = None) -> dict[str, Any]:
        """Take the request's events over and return the acknowledgement's data [S2]. Raises InvalidMessage.

        *within* are the only processes that exist for who asks, None for all.
        """
        self.subscription, ignored = self.subscription.with_added(request, within)
        return {"events": self.subscription.effective(), "ignored": ignored}

    def unsubscribe(self, request: Unsubscribe) -> dict[str, Any]:
        """Drop the request's events and return the acknowledgement's data [S2], [S6]."""
        self.subscription, ignored = self.subscription.without(request.events)
        return {"events": self.subscription.effective(), "ignored": ignored}

    def reply(self, incoming: Incoming, type_: str, data: Any) -> bytes:
        """Word the answer to *incoming*."""
        id_, at = self._stamp()
        return encode(type_, data, id=id_, at=at, reply_to=incoming.id)

    def refuse(self, incoming: Incoming, error: PMDaemonError) -> bytes:
        """Word the ``error`` that answers *incoming* [R2]."""
        return self.reply(incoming, "error", error_data(error, incoming.about))

    def tell(self, type_: str, data: Any) -> bytes:
        """Word a message to this client that answers nothing, such as ``gap``."""
        id_, at = self._stamp()
        return encode(type_, data, id=id_, at=at)
