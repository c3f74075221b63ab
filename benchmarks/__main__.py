"""Runs the benchmarks that are named, or all, and prints a page of what they found.

All of them, unless ``--quick``, write it to RESULTS.rst too.
"""

import platform
import signal
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import capture, fanout, life, look, peer, sampling
from benchmarks.figure import Figure, Section
from benchmarks.page import page

_LIMIT, _QUICK_LIMIT = 1800, 300
"""Seconds after which the whole run is given up."""

_ALL = {
    "capture": capture,
    "life": life,
    "look": look,
    "fanout": fanout,
    "sampling": sampling,
    "peer": peer,
}
_RESULTS = Path(__file__).with_name("RESULTS.rst")


def main() -> int:
    """Return the exit code."""
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure the daemon beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(_ALL)}; all where none is given")
    parser.add_argument("--quick", action="store_true", help="few values of each: some 3 minutes, and not written")
    parser.add_argument("--strict", action="store_true", help="end with 1 where a goal is missed")
    given = parser.parse_args()
    if unknown := set(given.names) - set(_ALL):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(_ALL)}")
    _end_by_exception(_QUICK_LIMIT if given.quick else _LIMIT)
    sections: list[Section] = []
    # Removed only at the end: ext4 makes new files slowly for half a minute after many were deleted.
    with TemporaryDirectory(prefix="pmdaemon-bench-") as scratch:
        for name in given.names or _ALL:
            begun = time.monotonic()
            sections += _ALL[name].measure(Path(scratch), quick=given.quick)
            print(f"measured {name} in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    text = page(sections, _facts(quick=given.quick))
    print(text, end="")
    if not given.names and not given.quick:
        _RESULTS.write_text(text)
    return int(given.strict and any(_missed(figure) for section in sections for figure in section.figures))


def _facts(*, quick: bool) -> list[str]:
    uname = platform.uname()
    return [
        f"Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"Machine: {uname.system} {uname.release}, {uname.machine}, {cpu_count()} cores",
        f"Python {platform.python_version()}",
        "Run: quick, with few values of each" if quick else "Run: in full",
    ]


def _missed(figure: Figure) -> bool:
    return any(figure.met(whose) is False for whose in figure.goals)


def _end_by_exception(limit: int) -> None:
    """Have a signal, and the time limit, end the programs that are measured too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"given up after {limit} s"))
    signal.alarm(limit)


sys.exit(main())
