"""A real daemon and a WebSocket client of it, for tests of the whole: every wait has a deadline, nothing sleeps.

What a test looks like::

    async def test_stop(self):
        daemon = await LiveDaemon.start(self)
        client = await daemon.connect()
        reply = await client.request("command", {"action": "stop", "process": "web"})

The daemon and its clients are closed when the test ends, and the end is checked: see `LiveDaemon.stop`.
"""

import itertools
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers

from tests.integration.program import Program, twistd, within

Message = dict[str, Any]
PATIENT: dict[str, Any] = {
    "openHandshakeTimeout": 20,
    "closeHandshakeTimeout": 20,
    "serverConnectionDropTimeout": 20,  # or a close by a daemon that is slow just then would count as none
    "maxMessagePayloadSize": 0,
}
"""Options of a WebSocket client of Autobahn's; times in seconds."""

MARK = "PMDAEMON_TEST_RUN"  # in the environment of one daemon, so of all its descendants


class Refused(Exception):
    """The daemon did not open the WebSocket: the HTTP status (0 when there was none) and Autobahn's reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


class Client(WebSocketClientProtocol):
    """One WebSocket connection; every message that came is in ``messages``, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []
        self._opened: Deferred[None] = Deferred()
        self._closing: list[Deferred[tuple[int, str]]] = []
        self._end: tuple[int, str] | None = None
        self._waiting: list[tuple[Callable[[Message], bool], Deferred[Message]]] = []
        self._numbers = itertools.count(1)

    async def request(self, type_: str, data: object = None, *, timeout: float = 20.0) -> Message:
        """Send a message with an id of its own; its reply, an ``error`` too."""
        number = f"r{next(self._numbers)}"
        self.send(type_, data, id=number)
        return await self.expect(
            lambda message: message.get("reply_to") == number, timeout=timeout, what=f"{type_} {data}"
        )

    async def command(self, action: str, process: object, *, timeout: float = 20.0, **rest: object) -> Message:
        """`request` a ``command`` that has to succeed; the data of its ``command_result``."""
        reply = await self.request("command", {"action": action, "process": process, **rest}, timeout=timeout)
        assert reply["type"] == "command_result", reply
        return reply["data"]

    def send(self, type_: str, data: object = None, **rest: object) -> None:
        """Send one message and wait for nothing."""
        self.send_raw(json.dumps({"type": type_, "data": data, **rest}))

    def send_raw(self, payload: str | bytes) -> None:
        """Send ``payload`` as it is: text as a text frame, bytes as a binary one."""
        binary = isinstance(payload, bytes)
        self.sendMessage(payload if isinstance(payload, bytes) else payload.encode(), isBinary=binary)

    def expect(
        self, wanted: str | Callable[[Message], bool], *, after: int = 0, timeout: float = 10.0, what: str = "a message"
    ) -> Deferred[Message]:
        """The first message of type ``wanted`` (or for which it is true), of those since index ``after`` or to come."""
        matches = wanted if callable(wanted) else lambda message: message["type"] == wanted
        name = what if callable(wanted) else wanted
        found: Deferred[Message] = Deferred()
        for message in self.messages[after:]:
            if matches(message):
                found.callback(message)
                break
        else:
            self._waiting.append((matches, found))
        return within(timeout, found, lambda: f"{name}; the last that came: {self.messages[-8:]}; closed: {self._end}")

    def expect_status(self, name: str, status: str, *, after: int = 0, timeout: float = 20.0) -> Deferred[Message]:
        """The ``process_status`` that says that process ``name`` is now ``status``."""

        def matches(message: Message) -> bool:
            data = message["data"]
            return message["type"] == "process_status" and data["name"] == name and data["status"] == status

        return self.expect(matches, after=after, timeout=timeout, what=f"{name} {status}")

    async def until_online(self, *names: str) -> None:
        """Subscribe to ``process_status`` and wait until each of ``names`` is online."""
        after = len(self.messages)
        reply = await self.request("subscribe", {"events": ["process_status"]})
        online = {process["name"] for process in reply["data"]["snapshot"] if process["status"] == "online"}
        for name in names:
            if name not in online:
                await self.expect_status(name, "online", after=after)

    def of_type(self, type_: str) -> list[Message]:
        """The data of every message of one type that came, in order."""
        return [message["data"] for message in self.messages if message["type"] == type_]

    def closed(self, timeout: float = 20.0) -> Deferred[tuple[int, str]]:
        """The close code and reason that the daemon sent; 1006 where the connection ended without a close frame."""
        over: Deferred[tuple[int, str]] = Deferred()
        if self._end is not None:
            over.callback(self._end)
        else:
            self._closing.append(over)
        return within(timeout, over, lambda: "the end of a WebSocket connection")

    async def close(self) -> None:
        """Close it, where it is open, and wait until it is."""
        if self._end is None and self._opened.called:
            self.transport.resumeProducing()
            self.sendClose(1000)
        elif self._end is None:
            self.transport.abortConnection()
        await self.closed()

    def pause(self) -> None:
        """Read nothing more from the daemon, until `resume`."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def onOpen(self) -> None:
        self._opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary, "the daemon sends text only"
        message = json.loads(payload)
        self.messages.append(message)
        for entry in [entry for entry in self._waiting if entry[0](message)]:
            self._waiting.remove(entry)
            entry[1].callback(message)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self._opened.called:
            status = getattr(self, "http_status_line", "HTTP/1.1 0").split()[1]
            self._opened.errback(Refused(int(status), reason or ""))
        self._end = (self.remoteCloseCode or 1006, self.remoteCloseReason or "")
        for over in self._closing:
            over.callback(self._end)
        self._closing.clear()


class LiveDaemon:
    """A daemon that runs as a program of its own, with a home that is removed when the test ends."""

    def __init__(self, test: TestCase, home: str, mark: str, program: Program) -> None:
        self.test = test
        self.home = home
        self.mark = mark
        self.program = program
        self.port = 0

    @classmethod
    async def start(
        cls,
        test: TestCase,
        *options: str,
        port: int = 0,
        home: str | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        command: Sequence[str] = (*twistd("-n", "--pidfile="), "pmdaemon"),
    ) -> "LiveDaemon":
        """Start a daemon, wait until it listens, and have it stopped and checked when ``test`` ends.

        ``options`` go to the plugin; ``home`` (and ``port``) are those of an earlier daemon, to go on from it;
        ``config`` is the text of an ecosystem file in YAML; ``env`` comes on top of ours; ``command`` is all that
        stands before the options.
        """
        if home is None:
            home = tempfile.mkdtemp(prefix="pmdaemon-")  # short, for the sockets in it: a path may have 107 bytes
            test.addCleanup(shutil.rmtree, home, ignore_errors=True)
        if config is not None:
            file = Path(test.mktemp() + ".yaml").absolute()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(config)
            options = ("--config", str(file), *options)
        mark = uuid.uuid4().hex
        program = Program.start(
            test,
            [*command, "--port", str(port), "--home", home, *options],
            env={MARK: mark, **(env or {})},
            cwd=cwd,
        )
        daemon = cls(test, home, mark, program)
        test.addCleanup(daemon._end)
        daemon.port = int((await program.line(r"PMDaemon listens on https?://.*:(\d+)/")).group(1))
        return daemon

    @property
    def log(self) -> str:
        """All that it logged so far."""
        return self.program.output

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}/ws"

    @property
    def http(self) -> str:
        return f"http://localhost:{self.port}"

    async def connect(
        self,
        *,
        origin: str | None = None,
        host: str | None = None,
        headers: Mapping[str, str] | None = None,
        protocols: Sequence[str] = (),
    ) -> Client:
        """An open client, closed when the test ends; `Refused` when the daemon says no.

        ``host`` is the Host header (``name:port``) in place of this daemon's own.
        """
        factory = WebSocketClientFactory(
            f"ws://{host}/ws" if host else self.url,
            origin=origin,
            headers=dict(headers or {}),
            protocols=list(protocols),
            reactor=reactor,
        )
        factory.protocol = Client
        factory.setProtocolOptions(**PATIENT)
        client: Client = await HostnameEndpoint(reactor, "localhost", self.port).connect(factory)
        self.test.addCleanup(client.close)
        await within(20, client._opened, lambda: f"the WebSocket handshake with {self.program}")
        return client

    async def get(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        host: str = "localhost",
        port: int | None = None,
    ) -> tuple[int, Headers, bytes]:
        """Status, headers and body of ``GET path``, redirects not followed; ``port`` is another than the daemon's."""
        raw = Headers({name: [value] for name, value in (headers or {}).items()})
        response = await within(
            20,
            Agent(reactor).request(b"GET", f"http://{host}:{port or self.port}{path}".encode(), raw),
            lambda: f"an answer to GET {path}",
        )
        return response.code, response.headers, await within(20, readBody(response), lambda: f"the body of GET {path}")

    async def stop(self) -> None:
        """SIGTERM, then all that an orderly end promises: exit code 0, no child left, no traceback in the log."""
        self.program.signal("TERM")
        code = await self.program.ended(30)
        assert code == 0, f"the daemon ended with {code}: {self.program}"
        self.assert_quiet_log()
        await self.assert_no_survivor()

    async def crash(self) -> None:
        """SIGKILL, as if the machine had run out of memory; its children are ended when the test is."""
        self.program.signal("KILL")
        await self.program.ended()

    def assert_quiet_log(self) -> None:
        """Nothing went wrong unseen."""
        for word in ("Traceback", "Unhandled"):
            assert word not in self.log, f"{word!r} in the log: {self.program}"

    async def assert_no_survivor(self, timeout: float = 5.0) -> None:
        """No descendant of this daemon runs, within ``timeout`` seconds."""

        def look() -> None:
            if not self.survivors():
                looking.stop()

        looking = LoopingCall(look)
        gone = looking.start(0.05)
        try:
            await within(timeout, gone, lambda: f"an end of {self.survivors()}, children of {self.program}")
        finally:
            if looking.running:
                looking.stop()

    def survivors(self) -> list[psutil.Process]:
        """Descendants that run, found by the mark in their environment."""
        return [
            process
            for process in psutil.process_iter(["environ", "status", "pid"])
            if (process.info["environ"] or {}).get(MARK) == self.mark
            and process.pid != self.program.pid
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]

    async def _end(self) -> None:
        """The checked end where the test left it running; no child outlives a failed test either."""
        try:
            if self.program.exit is None:
                await self.stop()
        finally:
            for process in self.survivors():
                process.kill()
