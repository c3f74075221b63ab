"""Clients that mean harm, against a live daemon: it stays small, quick and quiet, and gives nothing away."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from pmdaemon.tokens import TokenFile
from tests.integration.harness import LiveDaemon
from tests.integration.program import Program, twistd, within

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
GROWTH = 16 * 1024 * 1024

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = {
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, %d\r\n\r\n",
    "a length with a sign": b"Content-Length: +%d\r\n\r\n",
    "a length that is none": b"Content-Length: 0x%d\r\n\r\n",
    "a length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    "chunks": b"X: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks by another name": b"X: %d\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": b"X: %d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a name with a space": b"Content-Length : %d\r\n\r\n",
    "a folded header": b"X: y\r\n Content-Length: %d\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a line without a colon": b"Content-Length %d\r\n\r\n",
    "two hosts": b"Host: localhost\r\nX: %d\r\n\r\n",
}
"""What stands after the first Host header of a request, in whose body, or behind it, another may be hidden."""

STRANGERS = """
import os, socket, sys
os.setgroups([])
os.setresuid(12345, 12345, 12345)
def connect():
    made = socket.socket()
    made.connect(("127.0.0.1", int(sys.argv[1])))
    return made
held = [connect() for _ in range(16)]
print(connect().recv(100), flush=True)
sys.stdin.read()
"""


class Raw(protocol.Protocol):
    """A connection in bytes; ``answered`` fires with the end of the first head, ``lost`` with all that came."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.answered: Deferred[None] = Deferred()
        self.lost: Deferred[bytes] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if b"\r\n\r\n" in self.got and not self.answered.called:
            self.answered.callback(None)
        for word, found in [each for each in self._waiting if each[0] in self.got]:
            self._waiting.remove((word, found))
            found.callback(None)

    def until(self, word: bytes) -> "Deferred[None]":
        """Fires when ``word`` has come."""
        found: Deferred[None] = Deferred()
        self._waiting.append((word, found))
        self.dataReceived(b"")
        return within(10, found, lambda: f"{word!r} in {self.got!r}")

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.lost.callback(self.got)


class HostileTests(TestCase):
    """One daemon each."""

    timeout = 60

    async def connect(self, daemon: LiveDaemon) -> Raw:
        raw: Raw = await TCP4ClientEndpoint(reactor, "127.0.0.1", daemon.port).connect(
            protocol.Factory.forProtocol(Raw)
        )
        self.addCleanup(raw.transport.abortConnection)
        return raw

    def memory(self, daemon: LiveDaemon) -> int:
        return psutil.Process(daemon.program.pid).memory_info().rss

    async def test_a_bomb_of_compressed_data(self) -> None:
        daemon = await LiveDaemon.start(self)
        before = self.memory(daemon)
        raw = await self.connect(daemon)
        raw.transport.write(HANDSHAKE)
        await raw.until(b"\r\n\r\n")
        self.assertIn(b" 101 ", raw.got)
        self.assertNotIn(b"extensions", raw.got.lower(), "it is declined")
        size = 200_000
        raw.transport.write(b"\xc1\xff" + size.to_bytes(8, "big") + bytes(4) + bytes(size))
        self.assertIn(b"\x03\xea", await within(10, raw.lost, lambda: "the end"), "1002")
        self.assertLess(self.memory(daemon) - before, GROWTH)

    async def test_a_body_of_60_mb(self) -> None:
        daemon = await LiveDaemon.start(self)
        before = self.memory(daemon)
        raw = await self.connect(daemon)
        raw.transport.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n")
        for _ in range(60):
            raw.transport.write(bytes(1_000_000))
        await raw.until(b"LIMIT_EXCEEDED")
        self.assertIn(b" 413 ", raw.got)
        raw.transport.loseConnection()
        await within(20, raw.lost, lambda: "the end")
        self.assertLess(self.memory(daemon) - before, GROWTH)

    async def test_a_head_of_one_byte_a_second(self) -> None:
        """Bytes do not put the end off: in 3 s here, not to wait for the 10 that it takes."""
        before = "from pmdaemon.web import channel, site; channel.DEADLINE = site.DEADLINE = 3.0"
        daemon = await LiveDaemon.start(self, command=(*twistd("-n", "--pidfile=", before=before), "pmdaemon"))
        raw = await self.connect(daemon)
        began, sent = reactor.seconds(), iter(HANDSHAKE)
        sending = LoopingCall(lambda: raw.transport.write(bytes([next(sent)])))
        sending.start(1.0)
        self.addCleanup(lambda: sending.running and sending.stop())
        self.assertEqual(await within(20, raw.lost, lambda: "the end"), b"")
        self.assertGreaterEqual(reactor.seconds() - began, 2.5)
        self.assertEqual((await daemon.get("/"))[0], 302)

    async def test_no_request_hides_in_another(self) -> None:
        """Whatever another reader of the same bytes takes for a request, here it is none: one answer, and the end."""
        daemon = await LiveDaemon.start(self)
        for what, rest in SMUGGLED.items():
            raw = await self.connect(daemon)
            raw.transport.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + rest % len(HIDDEN) + HIDDEN)
            said = await within(20, raw.lost, lambda what=what: f"the end of {what}")
            self.assertEqual(said.count(b"HTTP/1.1 "), 1, (what, said))
            self.assertRegex(said, rb"\AHTTP/1\.1 4\d\d ", what)
            self.assertNotIn(b"hidden", said, what)
        daemon.assert_quiet_log()

    async def test_guessing_tokens(self) -> None:
        daemon = await LiveDaemon.start(self)
        text = TokenFile(Path(daemon.home, "tokens.json"), lambda: 1e9).create("right", "read")[1]
        statuses = []
        for number in range(12):
            status, _, body = await daemon.get("/", headers={"Authorization": f"Bearer pmd_{number:012}_wrong"})
            statuses.append(status)
            self.assertEqual(set(json.loads(body)["error"]), {"code", "message", "hint"})
        self.assertEqual(statuses, [401] * 10 + [429] * 2)
        self.assertEqual((await daemon.get("/", headers={"Authorization": f"Bearer {text}"}))[0], 429)
        self.assertEqual((await daemon.get("/"))[0], 302, "the own user needs none")
        self.assertEqual(daemon.log.count("BAD_TOKEN"), 1, "told once a minute")
        self.assertEqual(daemon.log.count("RATE_LIMITED"), 1)

    async def test_300_idle_connections_of_the_own_user_are_no_trouble(self) -> None:
        daemon = await LiveDaemon.start(self)
        before = self.memory(daemon)
        await gatherResults([Deferred.fromCoroutine(self.connect(daemon)) for _ in range(300)])
        client = await daemon.connect()
        self.assertEqual((await client.request("ping", timeout=5))["type"], "pong")
        self.assertLess(self.memory(daemon) - before, GROWTH)

    async def test_idle_connections_of_strangers_are_few(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can connect as another user")
        daemon = await LiveDaemon.start(self)
        stranger = Program.start(self, [sys.executable, "-c", STRANGERS, str(daemon.port)])
        await stranger.line(r"^b'HTTP/1\.1 429 ")
        self.assertEqual((await daemon.get("/"))[0], 302, "the own user is not kept out by them")
