"""One figure: what was measured, in which unit, and the values that PMDaemon and each peer came to.

How figures are put on a page is ``page``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = ["OURS", "Figure", "Section"]

OURS = "PMDaemon"
"""Whose values are held against those of all others."""


@dataclass(frozen=True)
class Figure:
    """The ``values`` of one ``unit``, by whose they are; ours may be missing, as in that of a raw limit.

    ``goals`` is by whose the value is that ours is held against: under OURS the value that ours is to reach, under
    another's name how many times as good as theirs it is to be.
    """

    name: str
    unit: str
    values: Mapping[str, Sequence[float]]
    more_is_better: bool = False
    goals: Mapping[str, float] = field(default_factory=dict)

    def median(self, whose: str) -> float:
        """The value that counts."""
        return median(self.values[whose])

    def ratio(self, whose: str) -> float | None:
        """How many times as good ours is; below 1 the other wins. None where there is nothing to compare."""
        if whose == OURS or not self.values.get(OURS) or not self.values.get(whose):
            return None
        ours, theirs = self.median(OURS), self.median(whose)
        if self.more_is_better:
            ours, theirs = theirs, ours
        return theirs / ours if ours else None

    def met(self, whose: str) -> bool | None:
        """Whether ours reaches the goal that stands beside this value; None where there is none."""
        goal = self.goals.get(whose)
        if goal is None or not self.values.get(whose):
            return None
        if whose == OURS:
            return self.median(OURS) >= goal if self.more_is_better else self.median(OURS) <= goal
        ratio = self.ratio(whose)
        return None if ratio is None else ratio >= goal


@dataclass(frozen=True)
class Section:
    """Figures that were obtained in one way: ``method`` says in RST which, ``versions`` is of what was measured.

    ``missing`` has a sentence for each peer or row that could not be measured.
    """

    title: str
    method: str
    figures: Sequence[Figure]
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
