"""Compares what is in the logs and in the event journal with what the children themselves wrote down.

It reads the files on its own, without the readers that the daemon has.
"""

import gzip
import json
import os
import re
import sqlite3
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from signal import SIGTERM, Signals
from typing import NamedTuple

from torture.printer import Truth

__all__ = ["Verdict", "judge"]

_LINE = re.compile(rb"(\d+-\d+) (\d+) (x*)\n\Z")
_SEGMENT = re.compile(r"\.(\d{15})(\.gz)?\Z")
_SLACK = 1
"""Lines that a run may have printed beyond what it had time to write down when it was killed."""


class Verdict(NamedTuple):
    """What was found; ``lost``, ``doubled``, ``unordered`` and ``torn`` are lines, all else are runs of children.

    ``killed`` ended though nobody but the torture can have ended them; ``restarted`` are further runs of those that
    never end; ``wrong`` are ends told otherwise than they were, or not at all, ``unknown`` those told as not known.
    ``misplaced`` are segments of logs whose name is not where they start.
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
    segments: int
    misplaced: int
    blocked: float

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or changed."""
        return not any(
            (
                self.lost,
                self.doubled,
                self.unordered,
                self.torn,
                self.killed,
                self.restarted,
                self.wrong,
                self.misplaced,
            )
        )


def judge(home: Path, truths: Path) -> Verdict:
    """Judge a run that has ended: all children have ended, and the daemon has."""
    runs: dict[str, dict[str, Truth]] = defaultdict(dict)
    for file in sorted(truths.iterdir(), key=lambda path: int(path.name.rpartition(".")[2].partition("-")[0])):
        name, _, run = file.name.partition(".")
        if file.stat().st_size:
            runs[name][run] = Truth.read(str(file))
    count: dict[str, int] = defaultdict(int)
    for name, of_name in runs.items():
        for which, stream in enumerate(("out", "err")):
            _judge_log(home / "logs" / f"{name}-{stream}.log", which, of_name, count)
    everyone = [truth for of_name in runs.values() for truth in of_name.values()]
    wrong, unknown, ends = _judge_ends(home, runs)
    return Verdict(
        lines=count["lines"],
        lost=count["lost"],
        doubled=count["doubled"],
        unordered=count["unordered"],
        torn=count["torn"],
        runs=len(everyone),
        killed=sum(not truth.done for truth in everyone),
        restarted=sum(len(of_name) - 1 for name, of_name in runs.items() if name.startswith("long")),
        ends=ends,
        wrong=wrong,
        unknown=unknown,
        segments=count["segments"],
        misplaced=count["misplaced"],
        blocked=max((truth.blocked for truth in everyone), default=0.0),
    )


def _judge_log(path: Path, which: int, runs: dict[str, Truth], count: dict[str, int]) -> None:
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
        count["lost"] += max(0, int(printed) - len(set(numbers)))
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


def _judge_ends(home: Path, runs: dict[str, dict[str, Truth]]) -> tuple[int, int, int]:
    """Return how many ends were told wrongly, told as unknown, and there were."""
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
    wrong = unknown = ends = 0
    for name, of_name in runs.items():
        true = [truth.code for truth in of_name.values()]
        heard = told[name]
        ends += len(true)
        unknown += heard.count(None)
        wrong += abs(len(true) - len(heard))
        wrong += sum(code not in (said, None) and said is not None for code, said in zip(true, heard, strict=False))
    return wrong, unknown, ends


def _code(details: dict[str, int | str | None]) -> int | None:
    name = details["exit_signal"]
    if name is not None:
        return -int(Signals[str(name)])
    code = details["exit_code"]
    return None if code is None else int(code)


def remains(truths: Path) -> list[int]:
    """Return the pids of children that still run."""
    pids = [int(path.name.rpartition("-")[2]) for path in truths.iterdir()]
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
