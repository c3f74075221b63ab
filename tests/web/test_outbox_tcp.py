"""A client that stops reading, over real sockets and behind the site, as the daemon runs [F1]."""

import socket
from itertools import count
from typing import Any

import trustme
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import defer, endpoints, protocol, reactor, ssl, task
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from pmdaemon.web.outbox import CLIENT_LIMIT, Frame, Kind, Outbox, Pool
from pmdaemon.web.site import build_site

from .test_site import UPGRADE
from .wire import arrivals, get, guard

TURNS, LINES, SIZE = 200, 100, 1000
"""20 MB of log lines."""


def framed(text: str) -> bytes:
    """A text frame of at least 126 bytes."""
    payload = text.encode().ljust(126)
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def texts(raw: bytes) -> list[str]:
    """The texts in the frames that ``raw`` is made of."""
    found, at = [], 0
    while at < len(raw):
        assert raw[at : at + 2] == b"\x81\x7e", raw[at : at + 20]
        end = at + 4 + int.from_bytes(raw[at + 2 : at + 4], "big")
        found.append(raw[at + 4 : end].decode().rstrip())
        at = end
    return found


class Reader(protocol.Protocol):
    """Asks for a WebSocket, and reads only while it is let."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.opened: defer.Deferred[None] = defer.Deferred()
        self.ended: defer.Deferred[None] = defer.Deferred()
        self.lost: defer.Deferred[None] = defer.Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        beneath: Any = getattr(self.transport, "transport", self.transport)  # that of TLS
        beneath.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # the kernel reads on otherwise
        self.transport.write(get(b"/ws", *UPGRADE))

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if not self.opened.called and b"\r\n\r\n" in self.got:
            del self.got[: self.got.index(b"\r\n\r\n") + 4]
            self.opened.callback(None)
        if not self.ended.called and b"the end" in self.got[-200:]:
            self.ended.callback(None)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.lost.callback(None)


class SlowReaderTests(TestCase):
    """Over TCP; the subclass does the same over TLS."""

    timeout = 60

    async def start(self) -> None:
        self.pool = Pool()
        self.closed: list[int] = []
        outboxes: list[Outbox] = []
        case = self

        class Server(WebSocketServerProtocol):
            def onOpen(self) -> None:
                outboxes.append(
                    Outbox(
                        self.transport,
                        reactor,  # type: ignore[arg-type]
                        case.pool,
                        encode_gap=lambda process, dropped, seq: framed(f"gap {process} {dropped} {seq}"),
                        close=self.give_up,
                    )
                )

            def give_up(self, code: int, reason: str) -> None:
                case.closed.append(code)
                self.sendCloseFrame(code, reason.encode())

        factory = WebSocketServerFactory(reactor=reactor)
        factory.protocol = Server
        factory.setProtocolOptions(openHandshakeTimeout=0, failByDrop=False, closeHandshakeTimeout=0.1)
        site = build_site(reactor, guard(reactor), arrivals(), factory, None)  # type: ignore[arg-type]
        port: Any = self.listen(site)
        self.addCleanup(port.stopListening)
        self.reader = Reader()
        client = protocol.Factory.forProtocol(lambda: self.reader)  # type: ignore[arg-type]
        await self.endpoint(port.getHost().port).connect(client)
        assert self.reader.transport is not None
        self.network: Any = self.reader.transport
        self.addCleanup(self.hang_up)
        await self.reader.opened
        self.outbox = outboxes[0]

    def listen(self, site: Any) -> Any:
        return reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]

    def endpoint(self, port: int) -> Any:
        return endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port)

    async def hang_up(self) -> None:
        self.network.resumeProducing()
        self.network.loseConnection()
        await self.reader.lost
        await task.deferLater(reactor, 0.0)  # type: ignore[arg-type]
        self.outbox.stop()

    async def offer_everything(self) -> int:
        """The largest size the outbox had."""
        largest, numbers = 0, count(1)
        self.offered: dict[str, list[int]] = {"even": [], "odd": []}
        for turn in range(TURNS):
            self.outbox.offer([*(self.line(next(numbers)) for _ in range(LINES)), *self.others(turn)])
            largest = max(largest, self.outbox.size)
            await task.deferLater(reactor, 0.0)  # type: ignore[arg-type]
        self.outbox.write(framed("the end"))
        return max(largest, self.outbox.size)

    def line(self, number: int) -> Frame:
        process = "odd" if number % 2 else "even"
        self.offered[process].append(number)
        return Frame(Kind.LOG, process, framed(f"log {process} {number} ".ljust(SIZE, "x")), number)

    def others(self, turn: int) -> list[Frame]:
        return [Frame(Kind.KEPT, "", framed(f"event {turn}")), Frame(Kind.METRICS, "m", framed(f"metrics {turn}"))]

    async def test_stops_and_comes_back(self) -> None:
        await self.start()
        self.network.pauseProducing()
        largest = await self.offer_everything()
        self.assertTrue(self.outbox.congested)
        self.assertLess(largest, CLIENT_LIMIT + 256 * 1024)
        self.network.resumeProducing()
        await self.reader.ended
        told = texts(bytes(self.reader.got))

        events = [text for text in told if text.startswith("event")]
        self.assertEqual(events, [f"event {turn}" for turn in range(TURNS)])
        metrics = [int(text.split()[1]) for text in told if text.startswith("metrics")]
        self.assertEqual((metrics, metrics[-1]), (sorted(set(metrics)), TURNS - 1))
        self.assertLess(len(metrics), TURNS // 2)
        for process in ("even", "odd"):
            self.assert_all_lines_told(process, told)
        self.assertTrue([text for text in told if text.startswith("gap")])
        self.assertEqual(self.closed, [])
        await task.deferLater(reactor, 0.0)  # type: ignore[arg-type]
        self.assertEqual((self.outbox.congested, self.outbox.size), (False, 0))

    def assert_all_lines_told(self, process: str, told: list[str]) -> None:
        """Every line was sent or counted, in its place."""
        due = iter(self.offered[process])
        for text in told:
            kind, *about = text.rstrip("x").split()
            if kind == "log" and about[0] == process:
                self.assertEqual(next(due), int(about[1]))
            elif kind == "gap" and about[0] == process:
                lost = [next(due) for _ in range(int(about[1]))]
                self.assertEqual(lost[0], int(about[2]))
        self.assertEqual(list(due), [])

    async def test_never_comes_back(self) -> None:
        await self.start()
        self.network.pauseProducing()
        event = Frame(Kind.KEPT, "", framed("event ".ljust(10_000, "x")))
        while not self.closed:
            self.outbox.offer([event] * 10)
            self.assertLessEqual(self.outbox.size, CLIENT_LIMIT + 1024 * 1024)
            await task.deferLater(reactor, 0.0)  # type: ignore[arg-type]
        self.assertEqual((self.closed, self.pool.total), ([1013], 0))
        self.network.resumeProducing()
        await self.reader.lost
        self.reader.lost = defer.succeed(None)


class SlowReaderTLSTests(SlowReaderTests):
    """The same over TLS, where nothing is sent past the transport."""

    def listen(self, site: Any) -> Any:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        key = issued.private_key_and_cert_chain_pem.bytes()
        self.trust = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
        context = ssl.PrivateCertificate.loadPEM(key).options()
        return reactor.listenSSL(0, site, context, interface="127.0.0.1")  # type: ignore[attr-defined]

    def endpoint(self, port: int) -> Any:
        options = ssl.optionsForClientTLS("localhost", trustRoot=self.trust)
        return endpoints.wrapClientTLS(options, super().endpoint(port))
