"""Plays all scenes, or those that are named, and prints what came of each; exit code 1 where one is not as it must."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from pmdaemon.keeper.features import summary
from torture.judge import Verdict
from torture.scene import Scene, play

_TIMES = 10
_NOBODY = 65534
_SMALL = 150_000


_TELLS_EXIT = "pidfd_exit" in summary(cgroup=False)


def _nothing_lost(verdict: Verdict) -> bool:
    """Before Linux 6.15 nobody but a keeper can tell how its children have ended."""
    return (verdict if _TELLS_EXIT else verdict._replace(unexplained=0)).clean


def _survivors_lost_nothing(verdict: Verdict) -> bool:
    """What ended while nobody watched may be unknown, and what it had printed last is gone with it: some did."""
    return verdict.clean and verdict.orphans > 0 and verdict.unknown > 0


def _lost(verdict: Verdict) -> bool:
    return bool(verdict.killed or verdict.lost)


_IN_TURN = ("daemon", "keeper") * _TIMES
_SCENES: dict[str, tuple[Scene, Callable[[Verdict], bool]]] = {
    scene.name: (scene, fits)
    for scene, fits in (
        (Scene("daemon", ("daemon",) * _TIMES), _nothing_lost),
        (Scene("keeper", ("keeper",) * _TIMES), _nothing_lost),
        (Scene("in turn", _IN_TURN), _nothing_lost),
        (Scene("both at once", ("both",) * _TIMES), _survivors_lost_nothing),
        (Scene("rotation", ("daemon",) * _TIMES, rotate=_SMALL), _nothing_lost),
        (Scene("rotation, in turn", _IN_TURN, rotate=_SMALL), _nothing_lost),
        (Scene("without splice", ("daemon",) * _TIMES, without="splice"), _nothing_lost),
        (
            Scene("portable", ("daemon",) * _TIMES, without="splice,pidfd,subreaper,cgroup,brand"),
            _nothing_lost,
        ),
        (Scene("plain user", _IN_TURN, user=_NOBODY, python="/usr/bin/python3"), _nothing_lost),
        (Scene("without a keeper", ("daemon",) * 3, options=("--no-keeper",), down=(0.5, 1.0)), _lost),
    )
}


def main() -> int:
    """Return the exit code."""
    parser = ArgumentParser(prog="python -m torture")
    parser.add_argument("names", nargs="*", metavar="SCENE", help=f"one of {', '.join(_SCENES)}")
    given = parser.parse_args()
    failed = 0
    for name in given.names or _SCENES:
        scene, fits = _SCENES[name]
        if scene.user is not None and os.geteuid():
            print(f"{name}: skipped, as only root can become another user", flush=True)
            continue
        place = Path(mkdtemp(prefix="pmdaemon-torture-"))
        place.chmod(0o755)
        outcome = play(scene, place)
        good = fits(outcome.verdict)
        failed += not good
        print("ok  " if good else "BAD ", outcome, flush=True)
        if good:
            rmtree(place, ignore_errors=True)
        else:
            print(f"     see {place}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
