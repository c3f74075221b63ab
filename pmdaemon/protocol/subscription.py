"""What one connection wants: which events, of which processes, how often [S5]..[S9].

A subscription is a value: equal ones compare equal and share one channel.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from pmdaemon.core.commands import Subscribe
from pmdaemon.core.events import EVENTS, METRICS, LogMessage
from pmdaemon.core.logfilter import LogFilter
from pmdaemon.core.selection import Selection, close_matches
from pmdaemon.errors import InvalidMessage, LimitExceeded

__all__ = ["INTERVAL_DEFAULT", "INTERVAL_MAX", "INTERVAL_MIN", "Subscription", "Want"]

INTERVAL_DEFAULT = 1000
INTERVAL_MIN = 100
INTERVAL_MAX = 3_600_000
"""Milliseconds [S8]."""

_MAX_TOLD = 256 * 1024
"""Bytes that the effective state may take in an acknowledgement."""


class Want(Struct, frozen=True):
    """The filter of one event type; ``interval`` (ms) is None where it means nothing, ``lines`` is for logs only."""

    selection: Selection
    interval: int | None = None
    lines: LogFilter | None = None


class Subscription:
    """An immutable mapping from event type to what is wanted of it."""

    __slots__ = ("_hash", "_wants")

    def __init__(self, wants: Mapping[str, Want] | None = None) -> None:
        self._wants = dict(wants or {})
        self._hash = hash(frozenset(self._wants.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subscription) and self._wants == other._wants

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return bool(self._wants)

    def __iter__(self) -> Iterator[str]:
        return iter(self._wants)

    def get(self, event: str) -> Want | None:
        """Return what is wanted of *event*, or None."""
        return self._wants.get(event)

    def with_added(self, request: Subscribe, within: Selection | None = None) -> tuple["Subscription", list[str]]:
        """Return the subscription after *request*, and the event names nobody knows [S2], [S6].

        *within* are the only processes that exist for who asks, None for all.
        Raises InvalidMessage where all names are unknown or a log filter is wrong, LimitExceeded where the lists of
        processes are longer than the acknowledgement may be [E6].
        """
        known = [name for name in request.events if name in EVENTS]
        ignored = [name for name in request.events if name not in EVENTS]
        if not known:
            raise InvalidMessage("cannot subscribe: " + _nothing_known(ignored), details={"path": "data.events"})
        selection = Selection(request.processes, within)
        asked = INTERVAL_DEFAULT if request.interval is None else request.interval
        interval = min(INTERVAL_MAX, max(INTERVAL_MIN, asked))
        lines = LogFilter(request.level, request.stream, request.grep, bool(request.regex))
        lines.matcher()
        added = {
            name: Want(
                selection,
                interval if name in METRICS else None,
                lines if name == LogMessage.type else None,
            )
            for name in known
        }
        subscription = Subscription({**self._wants, **added})
        if len(msgspec.json.encode(subscription.effective())) > _MAX_TOLD:
            raise LimitExceeded(
                "cannot subscribe: processes is too long a list",
                hint="name apps, use a pattern such as web-*, or leave processes out for all of them",
                details={"path": "data.processes", "limit": _MAX_TOLD},
            )
        return subscription, ignored

    def without(self, events: list[str] | None) -> tuple["Subscription", list[str]]:
        """Return the subscription less *events* (None: all of them), and the names nobody knows.

        Raises InvalidMessage where all names are unknown.
        """
        if events is None:
            return Subscription(), []
        ignored = [name for name in events if name not in EVENTS]
        if ignored and len(ignored) == len(events):
            raise InvalidMessage("cannot unsubscribe: " + _nothing_known(ignored), details={"path": "data.events"})
        return Subscription({name: want for name, want in self._wants.items() if name not in events}), ignored

    def effective(self) -> dict[str, Any]:
        """Return the state as the acknowledgement tells it: name -> {processes, interval} [S2]."""
        return {name: _told(want) for name, want in self._wants.items()}


def _told(want: Want) -> dict[str, Any]:
    told: dict[str, Any] = {"processes": want.selection.listed(), "interval": want.interval}
    if want.lines is not None:
        told.update(want.lines.told())
    return told


def _nothing_known(names: list[str]) -> str:
    if not names:
        return "events is empty; known events: " + ", ".join(sorted(EVENTS))
    near = close_matches(names[0], sorted(EVENTS))
    hint = f"; did you mean {near[0]!r}?" if near else "; known events: " + ", ".join(sorted(EVENTS))
    return f"no known event among {', '.join(repr(name) for name in names[:5])}{hint}"
