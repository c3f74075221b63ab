"""How long a daemon takes to start the 100 children of one config: from the first to the last that runs."""

from pathlib import Path

from benchmarks.children import staged
from benchmarks.daemon import running
from benchmarks.figure import Figure

__all__ = ["measure"]

_CHILDREN = 100
_ROUNDS = 5
_GOAL = 1000.0


def measure(scratch: Path) -> list[Figure]:
    """Start as many daemons one after another as there are rounds."""
    return [Figure(f"start of {_CHILDREN} children", "ms", [_round(scratch) for _ in range(_ROUNDS)], _GOAL)]


def _round(scratch: Path) -> float:
    with staged(scratch) as children, running(scratch, children.apps(_CHILDREN)):
        starts = [children.next().at for _ in range(_CHILDREN)]
    return 1000 * (starts[-1] - starts[0])
