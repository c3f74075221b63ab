"""Which processes a selector means: a name, an app, an id, a glob, ``ns:NAME`` or ``all`` [P3], [S5]."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Protocol

__all__ = ["Identity", "Selection", "close_matches", "matches"]


class Identity(Protocol):
    """What a selector looks at; every process and every event of a process has it."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def app(self) -> str: ...
    @property
    def namespace(self) -> str: ...


def matches(selector: str | int, who: Identity) -> bool:
    """Tell whether *selector* means *who*. A string of digits is an id, since no name is all digits [P2]."""
    if isinstance(selector, int):
        return who.id == selector
    if selector in ("all", who.name, who.app):
        return True
    if selector.startswith("ns:"):
        return fnmatchcase(who.namespace, selector[3:])
    if selector.isdecimal() and selector.isascii():
        return str(who.id) == selector
    return any(mark in selector for mark in "*?[") and fnmatchcase(who.name, selector)


class Selection:
    """A subscription's choice of processes: None means all of them, an empty one nobody [S5].

    Equal selections are equal values, so that equal subscriptions can share one channel.
    """

    __slots__ = ("selectors",)

    def __init__(self, selectors: Iterable[str | int] | None) -> None:
        self.selectors = None if selectors is None else frozenset(selectors)

    def __contains__(self, who: Identity) -> bool:
        return self.selectors is None or any(matches(each, who) for each in self.selectors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.selectors == other.selectors

    def __hash__(self) -> int:
        return hash(self.selectors)

    def listed(self) -> list[str | int] | None:
        """Return the selectors in a stable order for the acknowledgement, or None for all."""
        return None if self.selectors is None else sorted(self.selectors, key=str)


def close_matches(selector: str | int, names: Sequence[str]) -> list[str]:
    """Return at most three of *names* that resemble *selector*, the nearest first."""
    return get_close_matches(str(selector), names, n=3, cutoff=0.6)
