"""Random lives of a client that comes and goes [S7]: whatever happens, it misses nothing and is told nothing twice."""

import random
from typing import Any

from pmdaemon.daemon.process import Process
from pmdaemon.web import catchup
from tests.web.rig import Message, Peer, World, WorldCase

KINDS = ["process_status", "process_event", "health_update", "log_message"]
PIECES = [
    "one\n",
    "two\r\n",
    "a\nb\nc\n",
    "part",
    "ial",
    "\n",
    "error: no\n",
    "\x00\x07\n",
    "\udcff\udcfe\n",
    "caf\udce9\n",
    "x" * 70_000,
]


class Flaky:
    """A client that loses its connection, and goes on from the last id that it saw."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.got: list[Message] = []
        self.last: str | None = None
        self.peer: Peer | None = None

    def connect(self) -> None:
        if self.peer is None:
            self.peer = self.world.connect()
            self.peer.wire.lags = True
            resume = {} if self.last is None else {"since": self.last}
            self.peer.send("subscribe", {"events": KINDS, **resume})

    def read(self, writes: int | None = None) -> None:
        if self.peer is not None:
            self.peer.wire.take(writes)
            for message in self.peer.take():
                assert message["type"] not in ("gap", "error"), message
                assert self.last is None or message["id"] > self.last, (message["id"], self.last)
                self.last = message["id"]
                if message["type"] in KINDS:
                    self.got.append(message)
                if message["type"] == "log_gap":  # it read too slowly [F1], and goes back for what it lost
                    self.lose()
                    return

    def lose(self) -> None:
        if self.peer is not None:
            peer, self.peer = self.peer, None
            peer.lose()

    def ask(self) -> None:
        if self.peer is not None:
            self.peer.send("ping")


class WalkTests(WorldCase):
    def _walk(self, seed: int, *, restarts: bool) -> tuple[Flaky, dict[str, str]]:
        """Return the client, and what each process has printed, after a life of that *seed*."""
        dice = random.Random(seed)
        flaky, printed = Flaky(self.world), {}
        flaky.connect()
        flaky.read()
        for _ in range(60):
            processes = list(self.world.supervisor.processes.values())
            step = dice.random()
            if step < 0.08 and len(processes) < 4:
                self.world.start(f"app{dice.randrange(10**6)}", autorestart=dice.random() < 0.5)
            elif step < 0.5 and processes:
                self._print(dice, dice.choice(processes), printed)
            elif step < 0.58 and processes:
                self._end_or_start(dice, dice.choice(processes))
            elif step < 0.66:
                flaky.lose()
            elif step < 0.76:
                flaky.connect()
            elif step < 0.88:
                flaky.read(dice.choice([0, 1, 2, None]))
            elif step < 0.92:
                flaky.ask()
            elif step < 0.95 and restarts:
                flaky.lose()
                flaky.world = self.restart(killed=dice.random() < 0.3)
            else:
                self.world.pass_time(dice.choice([0.0, 0.05, 0.3, 2.0]))
        self.world.pass_time(5)
        for _ in range(20):
            flaky.connect()
            flaky.read()
            self.world.pass_time(0.3)
        return flaky, printed

    def _print(self, dice: random.Random, process: Process, printed: dict[str, str]) -> None:
        children = self.world.children.of(process)
        for _ in range(dice.choice([1, 1, 3])):
            if children:
                piece = dice.choice(PIECES)
                stream = 1 + (dice.random() < 0.2)
                self.world.say(process, piece.encode("utf-8", "surrogateescape"), stream)
                name = f"{process.name} {stream}"
                printed[name] = printed.get(name, "") + piece

    def _end_or_start(self, dice: random.Random, process: Process) -> None:
        for child in self.world.children.of(process):
            child.exit(dice.choice([0, 1]))
            return
        process.start()

    def _all_there_is(self) -> list[Message]:
        """What a client is told that has never seen anything."""
        peer = self.world.connect()
        peer.ask("subscribe", {"events": KINDS, "since": "0" * 16})
        return [each for each in peer.take() if each["type"] in KINDS]

    def _check(self, flaky: Flaky, printed: dict[str, str]) -> None:
        self.assertEqual([each["id"] for each in flaky.got], sorted({each["id"] for each in flaky.got}))
        self.assertEqual(flaky.got, self._all_there_is())
        for name, text in printed.items():
            told = [each["data"] for each in flaky.got if each["type"] == "log_message"]
            own = [each for each in told if f"{each['process']} {1 + (each['stream'] == 'stderr')}" == name]
            self.assertEqual(_joined(own), _lines(text), name)

    def test_over_disconnects(self) -> None:
        for seed in range(25):
            self._live_through(seed, restarts=False)

    def test_over_daemon_restarts(self) -> None:
        for seed in range(100, 125):
            self._live_through(seed, restarts=True)

    def _live_through(self, seed: int, *, restarts: bool) -> None:
        self.patch(catchup, "_BATCH", 1 + seed % 4)
        self.anew()
        try:
            self._check(*self._walk(seed, restarts=restarts))
        except AssertionError as wrong:
            raise AssertionError(f"seed {seed}: {wrong}") from wrong


def _joined(told: list[Any]) -> list[str]:
    """The lines of one log, with the pieces of a line put together again."""
    lines: dict[int, str] = {}
    for each in told:
        lines[each["offset"]] = lines.get(each["offset"], "") + each["message"]
    return [lines[offset] for offset in sorted(lines)]


def _lines(printed: str) -> list[str]:
    raw = printed.encode("utf-8", "surrogateescape")
    ended = raw.split(b"\n")
    if not ended[-1]:
        ended.pop()
    return [each.removesuffix(b"\r").decode("utf-8", "replace")[:65536] for each in ended]
