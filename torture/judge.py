"""Compares what is in the logs and in the event journal with what the children themselves wrote down.

It reads the files on its own, without the readers that the daemon has.
"""

import gzip
import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from signal import SIGTERM, Signals
from typing import NamedTuple

from torture.printer import Truth

__all__ = ["Dark", "Verdict", "judge"]

_LINE = re.compile(rb"(\d+-\d+) (\d+) (x*)\n\Z")
_SEGMENT = re.compile(r"\.(\d{15})(\.gz)?\Z")
_SLACK = 1
"""Lines that a run may have printed beyond what it had time to write down when it was killed."""
_BEFORE = 0.5
"""Seconds in which a keeper may not have got to an end yet when it is killed."""


class Verdict(NamedTuple):
    """What was found; ``lost``, ``doubled``, ``unordered`` and ``torn`` are lines, all else are runs of children.

    ``killed`` ended though nobody but the torture can have ended them; ``restarted`` are further runs of those that
    never end; ``wrong`` are ends told otherwise than they were, or not at all, ``unknown`` those told as not known.
    ``misplaced`` are segments of logs whose name is not where they start.

    ``orphans`` ended while neither a daemon nor a keeper was there: what such a run had printed last is gone with it,
    which is in ``orphaned`` lines and not ``lost``, and its end may be unknown. ``unexplained`` are other unknown ends.
    """

    lines: int
    lost: int
    doubled: int
    unordered: int
    torn: int
    runs: int
    killed: int
    restarted: int
    ends: int
    wrong: int
    unknown: int
    unexplained: int
    orphans: int
    orphaned: int
    segments: int
    misplaced: int
    blocked: float

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or changed, but what nobody can know of those who ended unseen."""
        return not any(
            (
                self.lost,
                self.doubled,
                self.unordered,
                self.torn,
                self.killed,
                self.restarted,
                self.wrong,
                self.unexplained,
                self.misplaced,
            )
        )


Dark = Sequence[tuple[float, float]]
"""Stretches of unix seconds in which neither a daemon nor a keeper was there."""


def judge(home: Path, truths: Path, dark: Dark = ()) -> Verdict:
    """Judge a run that has ended: all children have ended, and the daemon has."""
    runs: dict[str, dict[str, Truth]] = defaultdict(dict)
    for file in sorted(truths.iterdir(), key=lambda path: int(path.name.rpartition(".")[2].partition("-")[0])):
        name, _, run = file.name.partition(".")
        if file.stat().st_size:
            runs[name][run] = Truth.read(str(file))
    count: dict[str, int] = defaultdict(int)
    for name, of_name in runs.items():
        for which, stream in enumerate(("out", "err")):
            _judge_log(home / "logs" / f"{name}-{stream}.log", which, of_name, count, dark)
    everyone = [truth for of_name in runs.values() for truth in of_name.values()]
    ends = _judge_ends(home, runs, dark)
    return Verdict(
        lines=count["lines"],
        lost=count["lost"],
        doubled=count["doubled"],
        unordered=count["unordered"],
        torn=count["torn"],
        runs=len(everyone),
        killed=sum(not truth.done for truth in everyone),
        restarted=sum(len(of_name) - 1 for name, of_name in runs.items() if name.startswith("long")),
        ends=ends["ends"],
        wrong=ends["wrong"],
        unknown=ends["unknown"],
        unexplained=ends["unexplained"],
        orphans=sum(_unseen(truth, dark) for truth in everyone),
        orphaned=count["orphaned"],
        segments=count["segments"],
        misplaced=count["misplaced"],
        blocked=max((truth.blocked for truth in everyone), default=0.0),
    )


def _unseen(truth: Truth, dark: Dark) -> bool:
    """Whether a run ended while nobody was there to see it."""
    return bool(truth.done) and any(begun - _BEFORE <= truth.ended <= over for begun, over in dark)


def _judge_log(path: Path, which: int, runs: dict[str, Truth], count: dict[str, int], dark: Dark) -> None:
    found: dict[str, list[int]] = {run: [] for run in runs}
    order: list[str] = []
    for data in _segments(path, count):
        for line in data.splitlines(keepends=True):
            match = _LINE.match(line)
            run = match[1].decode() if match else ""
            if match is None or run not in found:
                count["torn"] += 1
                continue
            if run not in order:
                order.append(run)
            elif order[-1] != run:
                count["unordered"] += 1
            found[run].append(int(match[2]))
    for run, numbers in found.items():
        printed = runs[run][which]
        slack = 0 if runs[run].done else _SLACK
        count["lines"] += len(numbers)
        count["doubled"] += len(numbers) - len(set(numbers))
        missing = max(0, int(printed) - len(set(numbers)))
        # Only the last lines can have gone with a run: one that lacks others has lost them.
        tail = int(printed) - 1 - max(numbers, default=-1)
        count["orphaned" if _unseen(runs[run], dark) and missing == tail else "lost"] += missing
        count["torn"] += max(0, len(set(numbers)) - int(printed) - slack)
        count["unordered"] += sum(later < earlier for earlier, later in pairwise(numbers))


def _segments(path: Path, count: dict[str, int]) -> list[bytes]:
    """Return the content of a log, oldest first, each file checked to start where its name says."""
    old = sorted(each for each in path.parent.glob(f"{path.name}.*") if _SEGMENT.search(each.name))
    contents, at = [], 0
    for each in old:
        match = _SEGMENT.search(each.name)
        data = gzip.decompress(each.read_bytes()) if match and match[2] else each.read_bytes()
        count["segments"] += 1
        count["misplaced"] += match is None or int(match[1]) != at
        contents.append(data)
        at += len(data)
    if path.exists():
        contents.append(path.read_bytes())
    return contents


def _judge_ends(home: Path, runs: dict[str, dict[str, Truth]], dark: Dark) -> dict[str, int]:
    """Return how many ends there were, and were told wrongly, as unknown, and as that without a reason."""
    told: dict[str, list[int | None]] = defaultdict(list)
    with sqlite3.connect(home / "state.db") as db:
        for name, body in db.execute("SELECT name, body FROM events WHERE type = 'process_event' ORDER BY seq"):
            data = json.loads(body)["data"]
            if data["event"] in ("crashed", "stopped"):
                code = _code(data["details"])
                # Stopped before it could write down anything.
                if (data["event"], code) != ("stopped", -SIGTERM):
                    told[name].append(code)
    db.close()
    count = dict.fromkeys(("ends", "wrong", "unknown", "unexplained"), 0)
    for name, of_name in runs.items():
        heard = told[name]
        count["ends"] += len(of_name)
        count["wrong"] += abs(len(of_name) - len(heard))
        for truth, said in zip(of_name.values(), heard, strict=False):
            count["wrong"] += said not in (truth.code, None)
            count["unknown"] += said is None
            count["unexplained"] += said is None and not _unseen(truth, dark)
    return count


def _code(details: dict[str, int | str | None]) -> int | None:
    name = details["exit_signal"]
    if name is not None:
        return -int(Signals[str(name)])
    code = details["exit_code"]
    return None if code is None else int(code)
