"""What it costs to be told who connects, with 10,000 sockets in this machine."""

import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figure import OURS, Figure, Section
from pmdaemon.web.limits import raise_descriptor_limit
from pmdaemon.web.peer import Connection, Means, SockDiag, in_proc_net

__all__ = ["measure"]

_SOCKETS = 10_000
"""Both ends of 5,000 connections."""

_WAYS: dict[str, tuple[Callable[[], Means], int]] = {
    "one socket by netlink": (SockDiag, 5_000),
    "/proc/net/tcp": (lambda: in_proc_net, 50),
}
_GOAL = 50.0

_METHOD = f"""
With {_SOCKETS:,} sockets open, the daemon's own way of asking the kernel whose the other end of a connection is, about
one of them at random: an exact question by netlink, or its table as text, where the former is not to be had.
"""


def costs(sockets: int = _SOCKETS) -> dict[str, list[float]]:
    """Return the microseconds of each of many questions, by the way they were asked, about connections at random."""
    _, limit = raise_descriptor_limit()
    if limit < sockets + 64:
        raise SystemExit(f"cannot measure with {sockets} sockets: at most {limit} files may be open (ulimit -n)")
    chance = random.Random(1)
    with ExitStack() as held:
        listening = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        connections = []
        for _ in range(sockets // 2):
            client = held.enter_context(socket.create_connection(listening.getsockname()))
            held.enter_context(listening.accept()[0])
            connections.append(Connection.of(client.getsockname(), client.getpeername()))
        return {
            way: [_timed(means, chance.choice(connections)) for _ in range(count)]
            for way, (make, count) in _WAYS.items()
            for means in [make()]
        }


def _timed(means: Means, connection: Connection | None) -> float:
    assert connection is not None
    before = time.perf_counter()
    uid = means(connection)
    took = time.perf_counter() - before
    assert uid is not None
    return took * 1e6


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Ask about connections at random."""
    figures = [
        Figure(f"to ask for the user, by {way}", "us", {OURS: values}, goals={} if number else {OURS: _GOAL})
        for number, (way, values) in enumerate(costs().items())
    ]
    return [Section("Who connects", _METHOD, figures)]
