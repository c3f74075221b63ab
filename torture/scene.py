"""Runs children under a daemon, kills the daemon, its keeper or both again and again, and has the end judged.

Orphans are reaped at once, as a real init does it: what somebody has to know of their ends cannot be read off a zombie.
"""

import ctypes
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from torture import printer
from torture.judge import Verdict, judge

__all__ = ["Outcome", "Scene", "play"]

_ROOT = Path(__file__).resolve().parents[1]
_TWISTD = ["-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "pmdaemon"]
_PATIENCE = 40.0
_SET_CHILD_SUBREAPER = 36
_LOOK = 0.005


class Scene(NamedTuple):
    """What is done to whom.

    ``victims`` are killed in turn, each after *pause* seconds at random; a daemon stays down for *down* seconds at
    random. Rates are lines a second of each child. *user* is a number to run as, by *python*.
    """

    name: str
    victims: Sequence[str]
    long: int = 8
    mortal: int = 8
    rate: tuple[int, int] = (1500, 1000)
    pause: tuple[float, float] = (0.5, 2.0)
    down: tuple[float, float] = (0.1, 2.5)
    rotate: int | None = None
    without: str = ""
    options: Sequence[str] = ()
    user: int | None = None
    python: str = sys.executable


class Outcome(NamedTuple):
    """What came of a scene; ``adopted`` are the seconds from each start of a daemon until it had all children."""

    scene: Scene
    verdict: Verdict
    adopted: list[float]
    seconds: float

    def __str__(self) -> str:
        v = self.verdict
        slowest = max(self.adopted[1:], default=0.0)
        return (
            f"{self.scene.name}: {v.lines} lines, {v.lines / self.seconds:.0f}/s; lost {v.lost}, doubled {v.doubled}, "
            f"unordered {v.unordered}, torn {v.torn}; {v.runs} runs, killed {v.killed}, restarted {v.restarted}; "
            f"{v.ends} ends, wrong {v.wrong}, unknown {v.unknown}; {v.segments} segments, misplaced {v.misplaced}; "
            f"{v.orphans} ended unseen, with {v.orphaned} lines; "
            f"longest write {1000 * v.blocked:.0f} ms; adopted within {slowest:.2f} s"
        )


class _Play:
    def __init__(self, scene: Scene, place: Path, chance: random.Random) -> None:
        self.scene = scene
        self.chance = chance
        self.home = place / "home"
        self.truths = place / "truths"
        self._config = place / "apps.json"
        self._output = place / "output"
        self._own = 0  # which may have been a printer's pid before
        self.adopted: list[float] = []
        self.dark: list[tuple[float, float]] = []
        for directory in (self.home, self.truths):
            directory.mkdir(mode=0o777)
            os.chown(directory, -1 if scene.user is None else scene.user, -1)
        self._config.write_text(json.dumps({"apps": self._apps()}))

    def _apps(self) -> list[dict[str, object]]:
        scene = self.scene
        common: dict[str, object] = {
            "script": scene.python,
            "restart_delay": 0,
            "max_restarts": 100_000,
            "kill_timeout": "10s",
        }
        if scene.rotate:
            common |= {"log_max_size": scene.rotate, "log_max_files": 100_000}
        return [
            {
                **common,
                "name": f"{kind}{number}",
                "args": ["-S", "-E", printer.__file__, str(self.truths), str(rate), kind],
            }
            for kind, count, rate in (
                ("long", scene.long, scene.rate[0]),
                ("mortal", scene.mortal, scene.rate[1]),
            )
            for number in range(count)
        ]

    def begin(self) -> None:
        """Start a daemon, and wait until it has taken up its children."""
        env = {**os.environ, "PMDAEMON_KEEPER_WITHOUT": self.scene.without}
        env["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *(path for path in sys.path if "site-packages" in path)])
        options = ["--port", "0", "--home", str(self.home), *self.scene.options]
        if not self.adopted:
            options += ["--config", str(self._config)]
        with self._output.open("ab") as file:
            begun, at = time.monotonic(), file.seek(0, os.SEEK_END)
            self._daemon = subprocess.Popen(
                [self.scene.python, *_TWISTD, *options],
                env=env,
                stdout=file,
                stderr=file,
                user=self.scene.user,
                extra_groups=None if self.scene.user is None else [],
                cwd="/",
            )
        self._own = self._daemon.pid
        self._until(lambda: re.search(r"PMDaemon listens", self.said()[at:]), "a daemon that listens")
        self.adopted.append(time.monotonic() - begun)

    def said(self) -> str:
        return self._output.read_bytes().decode(errors="replace")

    def kill(self, victim: str) -> None:
        """Kill one, and have it again."""
        if victim == "keeper":
            self._kill_keeper()
            return
        begun = time.time()
        if victim == "both":
            self._daemon.send_signal(signal.SIGSTOP)
            os.kill(self._keeper(), signal.SIGKILL)
        self._daemon.kill()
        self._daemon.wait()
        time.sleep(self.chance.uniform(*self.scene.down))
        self.begin()
        if victim == "both":
            self.dark.append((begun, time.time()))

    def _kill_keeper(self) -> None:
        pid = self._keeper()
        os.kill(pid, signal.SIGKILL)
        self._until(lambda: self._keeper() not in (0, pid), "another keeper")

    def _keeper(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.home / "keeper.lock").read_text())
        return 0

    def end(self) -> None:
        """Stop all in order."""
        self._daemon.terminate()
        if self._daemon.wait(_PATIENCE):
            raise AssertionError(f"the daemon ended with {self._daemon.returncode}")

    def clean(self) -> None:
        """Leave nothing behind, however it went."""
        self._daemon.kill()
        self._daemon.wait()
        if keeper := self._keeper():
            with suppress(OSError):
                os.kill(keeper, signal.SIGKILL)
        for pid in self._printers():
            with suppress(OSError):
                if str(self.truths).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def _until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > end or self._daemon.poll() is not None:
                raise AssertionError(f"no {what}: {self.said()[-3000:]}")
            time.sleep(_LOOK)

    @contextmanager
    def reaping(self) -> Iterator[None]:
        """Be the parent of all orphans meanwhile, and let the system forget the children that ended among them."""
        over = threading.Event()
        thread = threading.Thread(target=self._reap, args=(over,))
        prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
        prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def _reap(self, over: threading.Event) -> None:
        while not over.wait(_LOOK):
            for pid in {*self._printers(), self._keeper()} - {self._own}:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG) if pid else None

    def _printers(self) -> list[int]:
        return [int(each.rpartition("-")[2]) for each in os.listdir(self.truths)]


def play(scene: Scene, place: Path, seed: int | None = None) -> Outcome:
    """Play a scene in an empty directory."""
    chance = random.Random(seed)
    playing = _Play(scene, place, chance)
    with playing.reaping():
        return _played(playing)


def _played(playing: _Play) -> Outcome:
    scene, chance = playing.scene, playing.chance
    begun = time.monotonic()
    try:
        playing.begin()
        for victim in scene.victims:
            time.sleep(chance.uniform(*scene.pause))
            playing.kill(victim)
        time.sleep(chance.uniform(*scene.pause))
        seconds = time.monotonic() - begun
        playing.end()
        return Outcome(scene, judge(playing.home, playing.truths, playing.dark), playing.adopted, seconds)
    finally:
        playing.clean()
