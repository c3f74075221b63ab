"""Asking a site in raw bytes, in memory and over TCP."""

from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from pmdaemon.tokens import TokenFile
from pmdaemon.web.arrival import Arrivals
from pmdaemon.web.credentials import Credentials
from pmdaemon.web.guard import Guard
from pmdaemon.web.limits import Connections, FailedLogins
from pmdaemon.web.peer import Peer
from pmdaemon.web.places import Places

OWN = 1000
"""The daemon's user."""


def guard(clock: Clock, places: Places | None = None) -> Guard:
    """A guard that knows no token."""
    credentials = Credentials(TokenFile(Path("nowhere/tokens.json"), clock.seconds), clock.seconds)
    return Guard(places or Places(), credentials, FailedLogins(clock), own=OWN)


def arrivals(peer: Peer = Peer("127.0.0.1", OWN)) -> Arrivals:  # noqa: B008  # it is immutable
    """Every connection is of this peer."""
    return Arrivals(lambda transport: peer, Connections(OWN, 1000))


class Answer(NamedTuple):
    """One HTTP answer and whatever came behind it."""

    status: int
    headers: Headers
    body: bytes


def parse(raw: bytes) -> Answer:
    """The first answer in ``raw``."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.split(b"\r\n")
    headers = Headers()
    for line in rest:
        name, _, value = line.partition(b": ")
        headers.addRawHeader(name, value)
    return Answer(int(first.split(b" ")[1]), headers, body)


def get(target: bytes, *headers: bytes, method: bytes = b"GET", host: bytes = b"localhost:9615") -> bytes:
    """A request."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def connect(factory: Any) -> tuple[Any, StringTransport]:
    """A connection to ``factory`` in memory."""
    channel, transport = factory.buildProtocol(None), StringTransport()
    transport.protocol = channel
    channel.makeConnection(transport)
    return channel, transport


def ask(factory: Any, raw: bytes) -> Answer:
    """The answer to ``raw`` on a connection of its own."""
    channel, transport = connect(factory)
    channel.dataReceived(raw)
    answer = parse(transport.value())
    channel.connectionLost(Failure(ConnectionError()))
    return answer


class _Collector(protocol.Protocol):
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.done.callback(b"".join(self.got))


async def exchange(reactor: Any, port: int, raw: bytes) -> Answer:
    """The answer to ``raw`` over TCP; ``raw`` has to ask for the connection to be closed."""
    collector = _Collector()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    await endpoint.connect(protocol.Factory.forProtocol(lambda: collector))  # type: ignore[arg-type]
    assert collector.transport is not None
    collector.transport.write(raw)
    return parse(await collector.done)
