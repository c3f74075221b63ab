"""Which processes a selector means: a name, an app, an id, a glob, ``ns:NAME`` or ``all`` [P3], [S5]."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final, Protocol

__all__ = ["EVERYTHING", "Identity", "Selection", "close_matches", "is_pattern", "matches", "means_exactly"]


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


def means_exactly(who: Identity) -> tuple[str | int, ...]:
    """Return every selector that means *who* without being a pattern. No name is all digits, or ``all`` [P2]."""
    return who.id, str(who.id), who.name, who.app, f"ns:{who.namespace}", "all"


def is_pattern(selector: str | int) -> bool:
    """Tell whether *selector* has to be matched rather than looked up."""
    return isinstance(selector, str) and any(mark in selector for mark in "*?[")


def matches(selector: str | int, who: Identity) -> bool:
    """Tell whether *selector* means *who*."""
    return selector in means_exactly(who) or (is_pattern(selector) and _fits(str(selector), who))


def _fits(pattern: str, who: Identity) -> bool:
    if pattern.startswith("ns:"):
        return fnmatchcase(who.namespace, pattern[3:])
    return fnmatchcase(who.name, pattern)


class Selection:
    """A subscription's choice of processes: None means all of them, an empty one nobody [S5].

    With *within*, only those that are in that one too. Equal selections are equal values, so that equal subscriptions
    can share one channel.
    """

    __slots__ = ("_patterns", "selectors", "within")

    def __init__(self, selectors: Iterable[str | int] | None, within: "Selection | None" = None) -> None:
        self.selectors = None if selectors is None else frozenset(selectors)
        self.within = within
        self._patterns = [str(each) for each in self.selectors or () if is_pattern(each)]

    def __contains__(self, who: Identity) -> bool:
        if self.within is not None and who not in self.within:
            return False
        if self.selectors is None or not self.selectors.isdisjoint(means_exactly(who)):
            return True
        return any(_fits(each, who) for each in self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and (self.selectors, self.within) == (other.selectors, other.within)

    def __hash__(self) -> int:
        return hash((self.selectors, self.within))

    def listed(self) -> list[str | int] | None:
        """Return the selectors in a stable order for the acknowledgement, or None for all."""
        return None if self.selectors is None else sorted(self.selectors, key=str)


EVERYTHING: Final = Selection(None)
"""All processes."""


def close_matches(selector: str | int, names: Sequence[str]) -> list[str]:
    """Return at most three of *names* that resemble *selector*, the nearest first."""
    return get_close_matches(str(selector), names, n=3, cutoff=0.6)
