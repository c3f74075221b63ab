"""A daemon, made by the product's own service, that publishes log lines itself: its bus, its channels and its sockets.

Run as a program by ``fanout``, whose orders it takes on stdin. All that a line costs once it was read is in a turn:
its id, its row in the journal and its commit, JSON, frame, and sending.
"""

import sys
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

import pmdaemon
import twisted
from benchmarks.figure import OURS
from pmdaemon.core.lines import Line
from pmdaemon.core.spec import parse_app
from pmdaemon.daemon.logs import message
from pmdaemon.service import Options, makeService

TEXT = b"request answered with 200 in 12 ms, 4096 bytes for GET /api/items/".ljust(80, b"0")


class Orders(LineReceiver):
    """``run EVENTS SECONDS``: publishes so many events a turn for so long; answers with turns and when it began."""

    delimiter = b"\n"

    def __init__(self, daemon: Any) -> None:
        self._daemon = daemon
        self._members: list[Any] = []
        self._turns = self._begun = 0
        self._process = next(iter(daemon.parts.supervisor.processes.values()))
        self._line = 0

    def connectionMade(self) -> None:
        self._say("ready", sys.argv[2], OURS, pmdaemon.__version__, "on Twisted", twisted.__version__)

    def _say(self, *words: object) -> None:
        self.sendLine(" ".join(map(str, words)).encode())

    def lineReceived(self, line: bytes) -> None:
        _, events, seconds = line.split()
        self._members = list(self._daemon.parts.factory.connections)
        self._turns, self._begun = 0, time.monotonic_ns()
        self._publish(int(events), time.monotonic() + float(seconds))

    def _publish(self, count: int, until: float) -> None:
        """Go on at once, and wait only while a client, another one each time, is behind."""
        if time.monotonic() >= until:
            self._say(self._turns, self._begun)
            return
        if not self._members[self._turns % len(self._members)].outbox.congested:
            self._turns += 1
            lines = [Line(81 * n, 81 * n + 81, TEXT) for n in range(self._line, self._line + count)]
            self._line += count
            events = [message(self._process, "stdout", each) for each in lines]
            self._daemon.parts.bus.publish_lines(
                events, self._process, stream="stdout", start=lines[0].offset, end=lines[-1].end, line=lines[0].offset
            )
            self._daemon.parts.bus.flush()
        reactor.callLater(0, self._publish, count, until)

    def connectionLost(self, reason: object = None) -> None:
        reactor.stop()


def main() -> None:
    options = Options()
    options.parseOptions(["--home", sys.argv[1], "--port", sys.argv[2], "--no-keeper"])
    daemon = makeService(options)
    daemon.startService()
    daemon.parts.supervisor.declare(parse_app({"script": "/bin/true"}, where="app", base="/", name="talker"), None)
    reactor.callWhenRunning(lambda: StandardIO(Orders(daemon)))
    reactor.run()


main()
