"""The clients: many WebSocket connections in one program, which counts what they receive and how old that was.

The program is ``fanout_load.c`` where there is a C compiler. Otherwise it is this module, which takes the same orders:
it counts frames by the first two bytes of their heads, which no JSON has in it, and looks at one stamp of each read.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import EPOLLIN, epoll
from typing import IO, NamedTuple

__all__ = ["Ages", "Load", "connect", "cores", "loading", "program"]

_HEAD = b"\x81\x7e"
_PATIENCE = 10.0
_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Ages(NamedTuple):
    """How many messages came, and percentiles of their ages in ms."""

    count: int
    half: float
    p99: float
    most: float


class Load:
    """The program, with ``clients`` connections."""

    def __init__(self, program: "subprocess.Popen[bytes]", clients: int) -> None:
        self._program = program
        self.clients = clients

    def ask(self, order: str) -> list[int]:
        """Give it an order, and return the numbers it answers with."""
        orders, answers = self._program.stdin, self._program.stdout
        assert orders is not None and answers is not None
        orders.write(f"{order}\n".encode())
        orders.flush()
        answer = answers.readline()
        if not answer:
            raise ConnectionError("the clients have ended")
        return [int(word) for word in answer.split()]

    def expect(self, frames: int) -> float:
        """Wait for so many frames since the last ``zero``; return when the last came, by the monotonic clock."""
        got, last = self.ask(f"expect {frames}")
        if got != frames:
            raise ValueError(f"{got} of {frames} messages came")
        return last / 1e9

    def zero(self) -> None:
        """Count anew."""
        self.ask("zero")

    def ages(self, seconds: float) -> Ages:
        """Read for so long, and tell how old the messages were."""
        count, *ages = self.ask(f"latency {seconds}")
        return Ages(count, *(age / 1000 for age in ages))


def cores() -> tuple[int, int]:
    """Return the core for the server and that for the clients; one and the same where there is but one."""
    there = sorted(os.sched_getaffinity(0))
    return there[0], there[-1]


def program(scratch: Path) -> tuple[list[str], str]:
    """Return the program's command and what to call it on the page; it is compiled if it can be."""
    compiler = shutil.which("cc")
    if compiler is None:
        return [sys.executable, __file__], "Python, as there is no C compiler"
    built = scratch / "fanout_load"
    if not built.exists():
        source = Path(__file__).with_suffix(".c")
        subprocess.run([compiler, "-O2", "-o", str(built), str(source)], check=True)
    return [str(built)], "C"


@contextmanager
def loading(scratch: Path, port: int, clients: int, *, events: list[str]) -> Iterator[Load]:
    """Connect *clients* on one core, and subscribe them to *events*; without any they only listen."""
    request = json.dumps({"type": "subscribe", "data": {"events": events}}) if events else ""
    command = [*program(scratch)[0], str(port), str(clients), request]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        try:
            os.sched_setaffinity(running.pid, {cores()[1]})
            assert running.stdout is not None
            if running.stdout.readline() != b"ready\n":
                raise ConnectionError("the clients cannot connect")
            yield Load(running, clients)
        finally:
            running.kill()


class _Program:
    """The clients in Python."""

    def __init__(self, port: int, clients: int, request: str) -> None:
        self._poll = epoll()
        self._clients = {each.fileno(): each for each in (connect(port, request) for _ in range(clients))}
        self._split: set[int] = set()
        for descriptor in self._clients:
            self._poll.register(descriptor, EPOLLIN)
        self._poll.register(sys.stdin.fileno(), EPOLLIN)
        self._buffer = bytearray(1 << 18)
        self._frames, self._last = 0, 0
        self._ages: list[int] | None = None

    def run(self, orders: IO[bytes]) -> None:
        print("ready", flush=True)
        while True:
            self._read(None)
            kind, _, number = orders.readline().decode().strip().partition(" ")
            if kind == "expect":
                wanted, begun = int(number), time.monotonic_ns()
                while self._frames < wanted and time.monotonic_ns() < max(self._last, begun) + _PATIENCE * 1e9:
                    self._read(0.01)
                print(self._frames, self._last, flush=True)
                continue
            self._frames = 0
            if kind == "latency":
                self._report(float(number))
            elif kind == "zero":
                print(0, flush=True)
            else:
                return

    def _report(self, seconds: float) -> None:
        self._ages = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._read(0.01)
        ages, self._ages = sorted(self._ages), None
        places = (len(ages) // 2, len(ages) * 99 // 100, len(ages) - 1)
        print(self._frames, *(ages[place] // 1000 if ages else 0 for place in places), flush=True)

    def _read(self, timeout: float | None) -> None:
        """Read until an order comes, or for *timeout* seconds."""
        while True:
            for descriptor, _ in self._poll.poll(timeout):
                if descriptor == sys.stdin.fileno():
                    return
                self._take(descriptor, self._clients[descriptor].recv_into(self._buffer))
            if timeout is not None:
                return

    def _take(self, descriptor: int, size: int) -> None:
        if not size:
            raise ConnectionError("the server has closed a connection")
        self._last = time.monotonic_ns()
        data = self._buffer
        self._frames += data.count(_HEAD, 0, size) + (descriptor in self._split and data[0] == _HEAD[1])
        if data.find(b"\x89\x08pmdaemon", 0, size) >= 0:  # a ping, for whose pong the daemon waits
            self._clients[descriptor].sendall(b"\x8a\x80" + bytes(4))
        change: Callable[[int], None] = self._split.add if data[size - 1] == _HEAD[0] else self._split.discard
        change(descriptor)
        if self._ages is not None and (at := data.find(b"@", 0, size - 40)) >= 0:
            stamp = bytes(data[at + 1 : at + 30]).split(b" ", 1)[0]
            self._ages.append(self._last - int(stamp))


def connect(port: int, request: str) -> socket.socket:
    """Return a WebSocket connection on which *request* was sent, of which nothing behind the handshake was read."""
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.sendall(_HANDSHAKE.format(port=port).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):  # one by one: what comes behind the answer is a frame
        answer += made.recv(1)
    if request:
        size = len(request)
        length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big")
        made.sendall(b"\x81" + length + bytes(4) + request.encode())
    return made


if __name__ == "__main__":
    _Program(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run(sys.stdin.buffer)
