"""What it costs to tell many: messages a second from one core, beside what others' broadcasts come to."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp

from benchmarks import fanout_daemon
from benchmarks.fanout_load import Load, cores, loading, program
from benchmarks.figure import OURS, Figure, Section
from pmdaemon.core.events import LogMessage
from pmdaemon.protocol.codec import encode

__all__ = ["measure"]

_CLIENTS, _QUICK_CLIENTS = (1, 10, 100, 1000), (1, 1000)
_EVENTS = (1, 10, 100)
_ROUNDS, _WINDOW, _QUICK_WINDOW = 3, 0.7, 0.3
_GOALS = {1: (1.4, 1.2), 10: (7, 5.5), 100: (60, 50)}
"""By the events of a turn, for 1000 clients: against websockets and against ws."""

_ROOT = Path(__file__).resolve().parents[1]
_TOOLS = _ROOT / ".tools"

METHOD = """
A publisher inside the server's process tells N clients of K events, and goes on at once, unless a client is more than
64 KiB behind. Each event is a WebSocket message of its own. A turn of ours is a log line's whole way through the
daemon's bus, journal, JSON, channels and sockets; the peers send {size} ready bytes with ``websockets.broadcast`` and
with ``ws.send``. The server has one core; the clients, a program in {load}, have the other. The servers take turns in
each round. Counted is what the clients have received, all of it, until the last message of the round has come.

With more than one event in a turn it is the number of system calls that makes the difference: the peers' broadcasts
write each message on its own. With one client the daemon's commit of each turn to its journal is what costs most.
"""


class _Server:
    """A server that publishes when it is told to, and its clients."""

    def __init__(self, program: "subprocess.Popen[bytes]", words: Sequence[str]) -> None:
        self._program = program
        self.port = int(words[1])
        self.version = " ".join(words[3:])
        self.load: Load

    def run(self, events: int, seconds: float) -> float:
        """Return how many messages a second the clients have received."""
        self.load.zero()
        orders, answers = self._program.stdin, self._program.stdout
        assert orders is not None and answers is not None
        orders.write(f"run {events} {seconds}\n".encode())
        orders.flush()
        turns, begun = map(int, answers.readline().split())
        messages = turns * events * self.load.clients
        return messages / (self.load.expect(messages) - begun / 1e9)


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Compare for some numbers of clients and of events, then watch whole daemons."""
    commands, missing = _commands(scratch)
    values: dict[tuple[int, int], dict[str, list[float]]] = {}
    versions: dict[str, str] = {}
    for clients in _QUICK_CLIENTS if quick else _CLIENTS:
        with ExitStack() as stack:
            servers = {
                whose: stack.enter_context(_serving(scratch, whose, command, clients))
                for whose, command in commands.items()
            }
            versions |= {whose: server.version for whose, server in servers.items()}
            for server in servers.values():
                server.run(1, _QUICK_WINDOW)  # the first one finds nothing where it will be
            for events in _EVENTS:
                found: dict[str, list[float]] = {whose: [] for whose in servers}
                values[clients, events] = found
                for _ in range(1 if quick else _ROUNDS):
                    for whose, server in servers.items():
                        found[whose].append(server.run(events, _QUICK_WINDOW if quick else _WINDOW))
    figures = [
        Figure(f"N={clients} K={events}", "messages/s", found, more_is_better=True, goals=_goals(clients, events))
        for (clients, events), found in values.items()
    ]
    method = METHOD.format(size=_size(), load=program(scratch)[1])
    section = Section("Fan-out to N clients, K events a turn", method, figures, versions, missing)
    return [section, *fanout_daemon.measure(scratch, quick=quick)]


def _goals(clients: int, events: int) -> dict[str, float]:
    return dict(zip(("websockets", "ws"), _GOALS[events], strict=True)) if clients == 1000 else {}


def _commands(scratch: Path) -> tuple[dict[str, list[str]], list[str]]:
    commands = {
        OURS: [sys.executable, "-m", "benchmarks.fanout_ours"],
        "websockets": [sys.executable, "-m", "benchmarks.fanout_websockets", str(_size())],
        "ws": ["node", str(Path(__file__).with_name("fanout_ws.mjs")), str(_size()), f"{_TOOLS}/"],
    }
    if not (_TOOLS / "node_modules" / "ws").is_dir():
        del commands["ws"]
        return commands, ["ws was not measured: it is not installed; make tools does that where there is npm."]
    return commands, []


def _size() -> int:
    """Bytes of a message of ours."""
    line = LogMessage(
        process="talker",
        id=0,
        app="talker",
        instance=0,
        namespace="default",
        level="info",
        message="x" * 80,
        stream="stdout",
        offset=100_000,
    )
    return len(encode(line.type, line, id="0" * 16, at=time.time()))


@contextmanager
def _serving(scratch: Path, whose: str, command: list[str], clients: int) -> Iterator[_Server]:
    own = [str(Path(mkdtemp(dir=scratch)) / "home"), str(_free_port())] if whose == OURS else []
    env = {**os.environ, "PYTHONPATH": str(_ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *own], stdin=pipe, stdout=pipe, env=env, cwd=_ROOT) as running:
        try:
            os.sched_setaffinity(running.pid, {cores()[0]})
            assert running.stdout is not None
            words = running.stdout.readline().decode().split()
            if words[:1] != ["ready"]:
                raise RuntimeError(f"cannot start {json.dumps(command)}")
            server = _Server(running, words)
            events = ["log_message"] if whose == OURS else []
            with loading(scratch, server.port, clients, events=events) as server.load:
                if whose == OURS:
                    server.load.expect(clients)  # the acknowledgements
                yield server
        finally:
            running.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
