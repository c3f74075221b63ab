"""Which channels an event goes to, without asking those that it does not go to.

Channels are found by what they name; who was found is remembered for each process until a channel comes or goes.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from pmdaemon.core.selection import Identity, is_pattern, matches, means_exactly
from pmdaemon.protocol.subscription import Subscription

__all__ = ["Routes", "Subscriber"]

_MAX_KNOWN = 20_000
"""Answers that are remembered; a process that is gone leaves its own behind."""


class Subscriber(Protocol):
    """What can be put into routes."""

    @property
    def subscription(self) -> Subscription: ...


S = TypeVar("S", bound=Subscriber)

_Place = tuple[str, str | int | None]
"""An event type, and a selector or None for all processes."""


class Routes(Generic[S]):
    """Subscribers by what they want."""

    def __init__(self) -> None:
        self._places: dict[_Place, dict[S, None]] = {}
        self._patterns: dict[str, set[str | int]] = {}
        self._known: dict[tuple[str, int, str], tuple[S, ...]] = {}

    def add(self, subscriber: S) -> None:
        """Take *subscriber* up."""
        for place in _places(subscriber.subscription):
            self._places.setdefault(place, {})[subscriber] = None
            type_, selector = place
            if selector is not None and is_pattern(selector):
                self._patterns.setdefault(type_, set()).add(selector)
        self._known.clear()

    def remove(self, subscriber: S) -> None:
        """Drop *subscriber*."""
        for place in _places(subscriber.subscription):
            there = self._places[place]
            del there[subscriber]
            if not there:
                del self._places[place]
                type_, selector = place
                if selector is not None and is_pattern(selector):
                    self._patterns[type_].discard(selector)
        self._known.clear()

    def of(self, type_: str, who: Identity) -> tuple[S, ...]:
        """Return who wants events of *type_* about *who*."""
        key = (type_, who.id, who.namespace)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            found = self._known[key] = tuple(self._find(type_, who))
        return found

    def _find(self, type_: str, who: Identity) -> dict[S, None]:
        fitting = [each for each in self._patterns.get(type_, ()) if matches(each, who)]
        found: dict[S, None] = {}
        for selector in (None, *means_exactly(who), *fitting):
            found.update(self._places.get((type_, selector), {}))
        return {each: None for each in found if _exists_for(each.subscription, type_, who)}


def _exists_for(subscription: Subscription, type_: str, who: Identity) -> bool:
    """Tell whether *who* is among the processes that there are for who subscribed."""
    want = subscription.get(type_)
    within = None if want is None else want.selection.within
    return within is None or who in within


def _places(subscription: Subscription) -> Iterator[_Place]:
    for type_ in subscription:
        want = subscription.get(type_)
        if want is not None:
            for selector in (None,) if want.selection.selectors is None else want.selection.selectors:
                yield type_, selector
