"""Clients that mean harm, against a live daemon: it stays small, quick and quiet, and gives nothing away."""

import os
import sys
from pathlib import Path
from typing import Any

import psutil
from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import Program, within

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
CANARY = "canary-0123456789abcdef"
GROWTH = 16 * 1024 * 1024

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
        raw.transport.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n" + bytes(1 << 20))
        await raw.until(b"LIMIT_EXCEEDED")
        self.assertIn(b" 413 ", raw.got)
        self.assertLess(self.memory(daemon) - before, GROWTH)

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

    async def test_a_secret_is_nowhere(self) -> None:
        config = (
            "apps: [{name: web, script: \"sh -c 'exec sleep 1000'\", args: [--password=%s], env: {SECRET: %s}, "
            "health_check: {check_type: http, url: 'http://user:%s@localhost:1/'}}]"
        ) % ((CANARY,) * 3)
        daemon = await LiveDaemon.start(self, config=config)
        client = await daemon.connect()
        await client.request("subscribe", {"events": ["process_status", "process_event", "health_update"]})
        await client.request("get_info", {"process": "web"})
        await client.request("get_events", {})
        await client.request("get_config", {"process": "web"})
        await client.request("command", {"action": "restart", "process": "web", "wait": False})
        await client.request("command", {"action": "start", "process": "web", "config": {"script": CANARY, "x": 1}})
        await client.request("command", {"action": "start", "process": "b", "config": {"env": {"A": [CANARY]}}})
        for message in client.messages:
            self.assertNotIn(CANARY, str(message))
        self.assertNotIn(CANARY, daemon.log)
        for file in Path(daemon.home).rglob("*"):
            if file.is_file() and file.name.partition("-")[0] not in ("state.db", "keeper.jsonl"):
                self.assertNotIn(CANARY.encode(), file.read_bytes(), file)
            if not file.is_symlink():
                self.assertEqual(os.lstat(file).st_mode & 0o077, 0, f"{file} is for its user alone")
