"""What a daemon costs that has nothing to do: 100 children that are quiet, and nobody connected."""

import time
from pathlib import Path

from benchmarks.children import staged
from benchmarks.daemon import running
from benchmarks.figure import Figure

__all__ = ["measure"]

_CHILDREN = 100
_SETTLED = 2.0
"""Seconds after the last start; what a start leaves to be done is done by then."""
_WINDOWS, _WINDOW = 4, 5.0
_GOAL = 0.1


def measure(scratch: Path) -> list[Figure]:
    """Watch one daemon for as many windows of so many seconds."""
    with staged(scratch) as children, running(scratch, children.apps(_CHILDREN)) as daemon:
        for _ in range(_CHILDREN):
            children.next()
        time.sleep(_SETTLED)
        values = [daemon.load(_WINDOW) for _ in range(_WINDOWS)]
    return [Figure(f"idle with {_CHILDREN} children", "% of a core", values, _GOAL)]
