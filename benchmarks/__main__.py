"""Runs the benchmarks that are named, or all, and prints what they found; with ``--strict`` a miss is exit code 1."""

import signal
import sys
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import fanout, idle, restart, start
from benchmarks.figure import Figure, table

_LIMIT = 150
"""Seconds after which the whole run is given up."""

_ALL = {"start": start, "restart": restart, "idle": idle, "fanout": fanout}


def main() -> int:
    """Return the exit code."""
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure the daemon; see benchmarks/peers.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(_ALL)}; all where none is given")
    parser.add_argument("--strict", action="store_true", help="end with 1 where a goal is missed")
    given = parser.parse_args()
    if unknown := set(given.names) - set(_ALL):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(_ALL)}")
    _end_by_exception()
    figures: list[Figure] = []
    # Removed only at the end: ext4 makes new files slowly for half a minute after many were deleted.
    with TemporaryDirectory(prefix="pmdaemon-bench-") as scratch:
        for name in given.names or _ALL:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += _ALL[name].measure(Path(scratch))
    print(table(figures))
    return int(given.strict and any(figure.missed for figure in figures))


def _end_by_exception() -> None:
    """Have a signal, and the time limit, end the daemon that runs too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"given up after {_LIMIT} s"))
    signal.alarm(_LIMIT)


sys.exit(main())
