"""A subscription over many connections: what to ask for next, and what of the frames is for the user; no I/O."""

import random
from collections.abc import Iterator

import msgspec

from pmdaemon.client.messages import Disconnected, Message, decode, encode, error_of
from pmdaemon.core.commands import Subscribe
from pmdaemon.errors import InvalidMessage
from pmdaemon.protocol.replies import Error, Gap, Snapshot, Subscribed

__all__ = ["Resume"]

_ID = "subscribe"
_FIRST = 0.1
_LONGEST = 5.0
"""Seconds before the first and the later attempts to connect again."""


class Resume:
    """One subscription. ``cursor`` is the id of the last message that was taken, or None before the first.

    ``next_attempt`` is when to connect, by the clock that each *now* is of, in seconds; there is none before the first
    connection broke. After *patience* seconds without a daemon it is given up, never where that is None.
    """

    def __init__(self, request: Subscribe, patience: float | None = None) -> None:
        self._request = request
        self._patience = patience
        self.cursor: str | None = None
        self.answered = False
        self.next_attempt = 0.0
        self._broken_at: float | None = None
        self._lost: str | None = None
        self._begun: Message | None = None
        self._attempts = 0

    def opening(self) -> bytes:
        """Return the text frame that each connection begins with."""
        self.answered = False
        request = self._request
        if self.cursor is not None or self._lost is not None:
            request = msgspec.structs.replace(request, since=self.cursor, tail=None)
        return encode(request, _ID)

    def take(self, text: str | bytes) -> Iterator[Message]:
        """Yield what one text frame means for the user.

        Where the daemon does not know the cursor, as one whose home was made anew, ``answered`` is False afterwards:
        then the opening is to be sent again. Raises what else the daemon answers.
        """
        message = decode(text)
        if message.id and (self.cursor is None or message.id > self.cursor) and not isinstance(message.data, Error):
            self.cursor = message.id
        if message.reply_to != _ID:
            yield message
            return
        if isinstance(message.data, Error):
            self._refused(message.data)
            return
        self.answered = True
        self._attempts = 0
        begun = self._joined(message)
        if begun.data.more:
            self._begun = begun
            return
        self._begun = None
        yield begun
        if self._lost is not None:
            gap = Gap(from_=self._lost, to=begun.id, dropped=None)
            self._lost = None
            yield Message(type=gap.type, data=gap, timestamp=begun.timestamp, id=begun.id)

    def _refused(self, error: Error) -> None:
        why = error_of(error)
        if not (isinstance(why, InvalidMessage) and why.details.get("path") == "data.since") or self.cursor is None:
            raise why
        self._lost, self.cursor = self.cursor, None

    def _joined(self, message: Message) -> Message:
        """Return the reply with all pages of its snapshot so far."""
        page = message.data
        if self._begun is None or not isinstance(page, Snapshot):
            return message
        whole: Subscribed = self._begun.data
        joined = msgspec.structs.replace(
            whole, snapshot=[*whole.snapshot, *page.processes], more=page.more, cursor=page.cursor
        )
        return msgspec.structs.replace(self._begun, data=joined)

    def broken(self, reason: str, now: float) -> list[Message]:
        """Take it that the connection has broken; return what tells the user, unless that was told already."""
        self._begun = None
        told = not self.answered and self._broken_at is not None
        self._wait(now)
        if told:
            return []
        self._broken_at = now
        lost = Disconnected(reason=reason)
        return [Message(type=lost.type, data=lost, timestamp="", id=self.cursor or "")]

    def absent(self, now: float) -> bool:
        """Take it that no daemon was there; return whether to try again."""
        if self._broken_at is None or (self._patience is not None and now - self._broken_at > self._patience):
            return False
        self._wait(now)
        return True

    def _wait(self, now: float) -> None:
        longest: float = min(_LONGEST, _FIRST * 2.0**self._attempts)
        self._attempts = min(self._attempts + 1, 16)
        self.next_attempt = now + longest * random.uniform(0.5, 1.0)
