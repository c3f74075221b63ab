"""What it costs to tell many: 100 clients that follow the log of one process, which writes 1,000 lines a second."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from socket import create_connection, socket

from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from benchmarks.daemon import Daemon, running
from benchmarks.figure import OURS, Figure, Section

__all__ = ["measure"]

_CLIENTS = 100
_LINES = 1000
_WARM, _WINDOWS, _WINDOW = 1.0, 5, 1.0
_MARK = b'"type":"log_message"'
_PROGRAM = f"""
import itertools, time
begun = time.monotonic()
for number in itertools.count():
    time.sleep(max(0, begun + number / {_LINES} - time.monotonic()))
    print("request", number, "answered with 200 in 12 ms", flush=True)
"""


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Count what all clients receive in each of some windows, and the daemon's CPU meanwhile."""
    app = {"name": "talker", "script": sys.executable, "args": ["-c", _PROGRAM]}
    with ExitStack() as stack:
        daemon = stack.enter_context(running(scratch, [app]))
        port = daemon.port()
        clients = [_Client(stack.enter_context(create_connection(("127.0.0.1", port), 20))) for _ in range(_CLIENTS)]
        readers = stack.enter_context(DefaultSelector())
        for client in clients:
            client.subscribe(port)
            readers.register(client.socket, EVENT_READ, client)
        _receive(readers, _WARM)
        windows = [_window(daemon, clients, readers) for _ in range(2 if quick else _WINDOWS)]
    name = f"fan-out {_LINES:,} lines/s to {_CLIENTS}"
    delivered, loads = zip(*windows, strict=True)
    figures = [
        Figure(name, "messages/s", {OURS: list(delivered)}, more_is_better=True),
        Figure(name, "% of a core", {OURS: list(loads)}),
    ]
    return [Section("Fan-out", "One process writes 1,000 lines a second, 100 connections follow it.", figures)]


class _Client:
    """A connection that counts log messages without taking them apart, so that it costs little beside the daemon."""

    def __init__(self, sock: socket) -> None:
        self.socket = sock
        self.received = 0
        self._rest = b""

    def subscribe(self, port: int) -> None:
        """Upgrade the connection, and ask for log messages."""
        protocol = ClientProtocol(parse_uri(f"ws://localhost:{port}/ws"))
        protocol.send_request(protocol.connect())
        self.socket.sendall(b"".join(protocol.data_to_send()))
        protocol.receive_data(self.socket.recv(4096))
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        protocol.send_text(json.dumps({"type": "subscribe", "data": {"events": ["log_message"]}}).encode())
        self.socket.sendall(b"".join(protocol.data_to_send()))

    def read(self) -> None:
        """Count what has come."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the daemon has closed a connection")
        data = self._rest + data
        self.received += data.count(_MARK)
        self._rest = data[1 - len(_MARK) :]


def _receive(readers: DefaultSelector, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for key, _ in readers.select(left):
            key.data.read()


def _window(daemon: Daemon, clients: Iterable[_Client], readers: DefaultSelector) -> tuple[float, float]:
    """Return messages received per second, and percent of a core."""
    before, cpu, begun = sum(client.received for client in clients), daemon.cpu(), time.monotonic()
    _receive(readers, _WINDOW)
    taken = time.monotonic() - begun
    return (sum(client.received for client in clients) - before) / taken, 100 * (daemon.cpu() - cpu) / taken
