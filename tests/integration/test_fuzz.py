"""Random bytes at a live daemon, near to what is right and far from it: it survives, small, quiet and with all at hand.

For ``PMDAEMON_FUZZ_SECONDS`` seconds, 3 if not set; ``PMDAEMON_FUZZ_SEED`` repeats a run.
"""

import json
import os
import random
from typing import Any

import psutil
from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.test_hostile import GROWTH, HANDSHAKE, Raw

SECONDS = float(os.environ.get("PMDAEMON_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("PMDAEMON_FUZZ_SEED") or random.randrange(2**32))
PATIENCE = 0.1
"""Seconds that each connection has to be closed by the daemon, before we do."""

WORDS = ["web", "all", "*", "ns:x", "process_status", "log_message", "stop", "scale", 0, -1, None, True, {}, [], 1e99]
KEYS = ["events", "processes", "process", "action", "config", "since", "tail", "token", "grep", "cursor", "id", "lines"]
TYPES = ["subscribe", "unsubscribe", "get_info", "get_logs", "get_events", "ping", "command", "authenticate", "x"]
HEADERS = [b"Host", b"Origin", b"Authorization", b"X-API-Key", b"Sec-WebSocket-Protocol", b"Upgrade", b"Content-Length"]


class Fuzz:
    """Makes what is sent."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def session(self) -> tuple[bytes, bytes]:
        """What one connection sends: at once, and when it has been answered."""
        kind = self._random.randrange(4)
        if kind == 0:
            return self._random.randbytes(self._random.randrange(300)), b""
        if kind == 1:
            return self._broken(HANDSHAKE), self._broken(self._frame() + self._frame())
        if kind == 2:
            headers = b"".join(self._header() for _ in range(4))
            return b"GET /%b HTTP/1.1\r\n%b\r\n" % (self._random.randbytes(5), headers), b""
        return HANDSHAKE, b"".join(self._frame() for _ in range(20))

    def _broken(self, data: bytes) -> bytes:
        whole = bytearray(data)
        for _ in range(self._random.randrange(1, 6)):
            whole[self._random.randrange(len(whole))] = self._random.randrange(256)
        return bytes(whole)

    def _header(self) -> bytes:
        return self._random.choice(HEADERS) + b": " + self._random.randbytes(self._random.randrange(40)) + b"\r\n"

    def _frame(self) -> bytes:
        payload = self._payload()
        size = len(payload)
        head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        return bytes([self._random.choice([0x81, 0x81, 0x81, 0x01, 0x80, 0x89, 0x8F])]) + head + bytes(4) + payload

    def _payload(self) -> bytes:
        data = {self._random.choice(KEYS): self._word() for _ in range(self._random.randrange(5))}
        text = json.dumps({"type": self._random.choice(TYPES), "data": data, "id": self._word()}).encode()
        return text if self._random.random() < 0.8 else self._broken(text)

    def _word(self) -> Any:
        word = self._random.choice(WORDS)
        return [word] * self._random.randrange(4) if self._random.random() < 0.3 else word


class FuzzTests(TestCase):
    """Eight connections at a time."""

    timeout = SECONDS + 60

    async def one(self, daemon: LiveDaemon, first: bytes, then: bytes) -> bool:
        """Whether it came to a WebSocket that answered."""
        raw: Raw = await TCP4ClientEndpoint(reactor, "127.0.0.1", daemon.port).connect(
            protocol.Factory.forProtocol(Raw)
        )
        raw.transport.write(first)
        raw.answered.addCallback(lambda _: raw.transport.write(then))
        give_up = reactor.callLater(PATIENCE, raw.transport.abortConnection)
        said = await raw.lost
        if give_up.active():
            give_up.cancel()
        self.assertNotIn(b"HTTP/1.1 500", said)
        self.assertNotIn(b"INTERNAL_ERROR", said)
        return b"reply_to" in said

    async def test_survives(self) -> None:
        daemon = await LiveDaemon.start(self, config="apps: [{name: web, script: sleep 1000}]")
        client = await daemon.connect()
        await client.until_online("web")
        process = psutil.Process(daemon.program.pid)
        fuzz, until = Fuzz(SEED), reactor.seconds() + SECONDS
        made = answered = 0
        for warmed_up in (False, True):
            while True:
                ended = [Deferred.fromCoroutine(self.one(daemon, *fuzz.session())) for _ in range(8)]
                for ok, found in await DeferredList(ended, consumeErrors=True):
                    made += 1
                    self.assertTrue(ok, f"PMDAEMON_FUZZ_SEED={SEED}: {found}")
                    answered += found
                if warmed_up and reactor.seconds() >= until:
                    break
                if not warmed_up:
                    before, descriptors = process.memory_info().rss, process.num_fds()
                    break
        self.assertEqual((await client.request("ping", timeout=5))["type"], "pong")
        daemon.assert_quiet_log()
        self.assertGreater(answered, 10, "it gets as far as to requests")
        grown = process.memory_info().rss - before
        if "PMDAEMON_FUZZ_SECONDS" in os.environ:
            print(f"{made:,} connections, {answered:,} of them answered by a WebSocket, {grown / 1024:,.0f} KiB more")
        self.assertLess(grown, GROWTH, f"PMDAEMON_FUZZ_SEED={SEED}")
        self.assertLess(process.num_fds() - descriptors, 8, "no connection is left")
