"""How long a process is away whose child is killed: from SIGKILL until its replacement runs."""

import os
import signal
import time
from pathlib import Path

from benchmarks.children import Children, staged
from benchmarks.daemon import running
from benchmarks.figure import Figure

__all__ = ["measure"]

_OTHERS = 99
_ROUNDS = 50
_PAUSE = 0.05
"""Seconds from one start to the next kill, in which the daemon settles."""
_GOAL = 20.0


def measure(scratch: Path) -> list[Figure]:
    """Kill one child again and again, among others that are left alone."""
    with staged(scratch) as children:
        apps = children.apps(_OTHERS + 1, restart_delay=0, max_restarts=10 * _ROUNDS)
        with running(scratch, apps):
            pid, *_ = [children.next().pid for _ in range(_OTHERS + 1)]
            values = []
            for _ in range(_ROUNDS):
                time.sleep(_PAUSE)
                pid, away = _kill(children, pid)
                values.append(1000 * away)
    return [Figure(f"restart among {_OTHERS} others", "ms", values, _GOAL)]


def _kill(children: Children, pid: int) -> tuple[int, float]:
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    start = children.next()
    return start.pid, start.at - killed
