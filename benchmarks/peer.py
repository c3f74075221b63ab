"""What it costs to be told who connects, with 10,000 sockets in this machine: ``python -m benchmarks.peer``.

Beside the kernel's answer about one socket there is its table as text, for where the former is not to be had.
"""

import random
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from pmdaemon.web.limits import raise_descriptor_limit
from pmdaemon.web.peer import Connection, Means, SockDiag, in_proc_net

__all__ = ["SOCKETS", "costs"]

SOCKETS = 10_000
"""Both ends of 5,000 connections."""

_WAYS: dict[str, tuple[Callable[[], Means], int]] = {
    "one socket by netlink": (SockDiag, 5_000),
    "/proc/net/tcp": (lambda: in_proc_net, 50),
}
_GOAL = 50.0


def costs(sockets: int = SOCKETS) -> dict[str, list[float]]:
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


def _main() -> None:
    for way, values in costs().items():
        ordered = sorted(values)
        middle, late = median(ordered), ordered[len(ordered) * 99 // 100]
        print(f"{way}: median {middle:,.1f} us, 99th of 100 {late:,.1f} us, of {len(values)}; {SOCKETS} sockets")
        if way == next(iter(_WAYS)):
            print(f"under {_GOAL:g} us: {'yes' if median(ordered) < _GOAL else 'no'}")


if __name__ == "__main__":
    _main()
