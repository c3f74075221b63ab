"""Looks through the events that are kept, a bounded stretch at a time: the newest first, or from an id on [R11]."""

import re
from collections.abc import Callable

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.selection import Identity
from pmdaemon.daemon.ids import id_of
from pmdaemon.daemon.journal import Journal
from pmdaemon.errors import InvalidMessage

__all__ = ["EventPage", "EventSearch"]

MAX_SCAN = 20_000
"""Events that are looked through for one page."""

_BATCH = 500
_NEWEST = (1 << 63) - 1
_CURSOR = re.compile(r"([np])([0-9a-f]{16})")


class EventPage(Struct, frozen=True):
    """Messages as they were told, oldest first; with a ``cursor`` there may be more, in the direction of the search."""

    events: list[msgspec.Raw]
    cursor: str | None


class EventSearch:
    """Searches *journal*; it gives way to others after each 500 events.

    A page has at most *page* bytes of messages, or one message.
    """

    def __init__(self, clock: IReactorTime, journal: Journal, *, page: int) -> None:
        self._clock = clock
        self._journal = journal
        self._page = page

    async def page(
        self, wanted: Callable[[Identity], bool], limit: int, *, after: int | None, cursor: str | None
    ) -> EventPage:
        """Return at most *limit* events of those *wanted*: the last ones, or the first ones newer than id *after*.

        A *cursor*, of an earlier page, goes on from there. Raises InvalidMessage where it is none.
        """
        forward, at = (after is not None, _NEWEST if after is None else after) if cursor is None else _read(cursor)
        events: list[msgspec.Raw] = []
        size = scanned = 0
        while scanned < MAX_SCAN:
            rows = self._journal.events(at, _BATCH) if forward else self._journal.before(at, _BATCH)
            for row in rows:
                if wanted(row):
                    size += len(row.body)
                    if len(events) == limit or (size > self._page and events):
                        return self._told(events, at, forward=forward)
                    events.append(msgspec.Raw(row.body))
                at = row.seq
            if len(rows) < _BATCH:
                return self._told(events, None, forward=forward)
            scanned += len(rows)
            await self._give_way()
        return self._told(events, at, forward=forward)

    def _give_way(self) -> "Deferred[None]":
        over: Deferred[None] = Deferred()
        self._clock.callLater(0, over.callback, None)
        return over

    def _told(self, events: list[msgspec.Raw], at: int | None, *, forward: bool) -> EventPage:
        cursor = None if at is None else ("n" if forward else "p") + id_of(at)
        return EventPage(events if forward else events[::-1], cursor)


def _read(cursor: str) -> tuple[bool, int]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidMessage(
            "cannot read the events: cursor is not one of an earlier reply",
            hint="send the cursor of the reply before, or leave it out",
            details={"path": "data.cursor"},
        )
    return found[1] == "n", int(found[2], 16)
