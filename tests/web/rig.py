"""A whole daemon in memory: real bus, journal, logs, supervisor and sockets; children, time and wire are fakes."""

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import txaio
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.access import Caller
from pmdaemon.core.events import Event
from pmdaemon.core.lines import Stream
from pmdaemon.core.samples import SystemSample
from pmdaemon.daemon.actions import Actions
from pmdaemon.daemon.audit import Audit
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.crashes import Crashes
from pmdaemon.daemon.describe import Describer
from pmdaemon.daemon.dispatch import Dispatcher
from pmdaemon.daemon.history import History
from pmdaemon.daemon.ids import Sequence
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.log import STREAMS
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.proctable import Usage
from pmdaemon.daemon.questions import Questions
from pmdaemon.daemon.sampler import Sampler
from pmdaemon.daemon.store import Store
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.daemon.trees import Trees
from pmdaemon.protocol.codec import encode
from pmdaemon.web.catchup import Archive
from pmdaemon.web.channels import Channels
from pmdaemon.web.websocket import DaemonSocketFactory
from tests.daemon.fakesource import FakeSource
from tests.fakes import FakeWorld, app

Message = dict[str, Any]

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost:9615\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Wire(StringTransport):
    """A transport whose peer reads at once, or when it is told to while it ``lags``; it buffers as Twisted's do."""

    bufferSize = 64 * 1024
    dataBuffer = b""
    offset = 0

    def __init__(self) -> None:
        super().__init__()
        self.registerProducer(self, True)  # as the HTTP channel has registered itself
        self.lags = False
        self._held: list[bytes] = []
        self._tempDataLen = 0
        self._paused = False

    def unregisterProducer(self) -> None:
        self.producer = self.streaming = None

    def write(self, data: bytes) -> None:
        if not self.lags:
            super().write(data)
            return
        self._held.append(data)
        self._tempDataLen += len(data)
        if self._tempDataLen > self.bufferSize and not self._paused:
            self._paused = True
            self.producer.pauseProducing()

    def take(self, writes: int | None = None) -> None:
        """Have the peer read that many of the writes that wait, all of them by default."""
        taken, self._held = self._held[:writes], self._held[len(self._held[:writes]) :]
        self._tempDataLen -= sum(map(len, taken))
        super().write(b"".join(taken))
        if self._paused and not self._held:
            self._paused = False
            self.producer.resumeProducing()


class Welcome:
    """The visit of the daemon's own user, who may do all and stay for ever."""

    caller = Caller(name="root", kind="user", scope="start")
    within = None
    may_end = False

    def spend(self) -> None:
        pass

    recheck = over = spend


class Peer:
    """A client on a `Wire`; what it was sent is in ``messages``, ``pings`` and ``closed`` (code and reason)."""

    def __init__(self, world: "World", headers: bytes = b"") -> None:
        self._world = world
        self.wire = Wire()
        self.protocol: Any = world.factory.buildProtocol(None)
        self.wire.protocol = self.protocol
        self.protocol.visit = Welcome()
        self.protocol.makeConnection(self.wire)
        self.protocol.dataReceived(HANDSHAKE % headers)
        self.answer, _, rest = self.wire.value().partition(b"\r\n\r\n")
        self.wire.clear()
        self.wire.write(rest)
        self._seen: list[Message] = []
        self.pings = 0
        self._closed: tuple[int, str] | None = None
        self._next = 0

    def frame(self, opcode: int, payload: bytes) -> None:
        """Send one frame, masked with zeros."""
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        self.protocol.dataReceived(head + bytes(4) + payload)

    def send(self, type_: str, data: object = None, **rest: object) -> None:
        self.frame(TEXT, json.dumps({"type": type_, "data": data, **rest}).encode())

    def ask(self, type_: str, data: object = None) -> Message:
        """Send a request, let happen what needs no time, and return its reply."""
        self._next += 1
        self.send(type_, data, id=self._next)
        self._world.pass_time()
        (reply,) = (each for each in self.messages if each.get("reply_to") == self._next and each["type"] != "snapshot")
        return reply

    @property
    def messages(self) -> list[Message]:
        """Every message so far, in order."""
        self._read()
        return self._seen

    @property
    def closed(self) -> tuple[int, str] | None:
        """The close frame's code and reason, None where none came."""
        self._read()
        return self._closed

    def take(self, *types: str) -> list[Message]:
        """The messages since the last ``take``, of those types where any are given."""
        seen = list(self.messages)
        self._seen.clear()
        return [each for each in seen if not types or each["type"] in types]

    def data(self, *types: str) -> list[Message]:
        """As `take`, without the envelopes."""
        return [each["data"] for each in self.take(*types)]

    def _read(self) -> None:
        raw = self.wire.value()
        while raw:
            (first, size), raw = raw[:2], raw[2:]
            if size >= 126:
                width = 2 if size == 126 else 8
                size, raw = int.from_bytes(raw[:width], "big"), raw[width:]
            payload, raw = raw[:size], raw[size:]
            assert len(payload) == size and first & 0x80, "half a frame"
            self._frame(first & 0xF, payload)
        self.wire.clear()

    def _frame(self, opcode: int, payload: bytes) -> None:
        assert self._closed is None, f"something behind a close frame: {payload!r}"
        if opcode == TEXT:
            assert len(payload) <= 512 * 1024, len(payload)
            self._seen.append(json.loads(payload))
        elif opcode == CLOSE:
            self._closed = int.from_bytes(payload[:2], "big"), payload[2:].decode()
        else:
            assert opcode == PING, opcode
            self.pings += 1

    def lose(self) -> None:
        """End the connection as if the network had."""
        self.protocol.connectionLost(Failure(ConnectionError()))


class World(FakeWorld):
    """One daemon with its home at *home*."""

    def __init__(self, home: str, *, at: float = 0.0) -> None:
        super().__init__()
        self.clock.advance(at)
        now = self.clock.seconds
        self.cpu: dict[int, float] = {}
        self.source = FakeSource(self._living)
        self.begun: dict[int, dict[Stream, int]] = {}
        self.store = Store(Path(home, "state.db"))
        self.journal = Journal(self.store)
        self.bus = EventBus(
            self.clock,
            now=now,
            sequence=Sequence(self.store.epoch),
            journal=self.journal,
            commit=self.store.commit,
            encode=_encode,
        )
        self.store.written = self.bus.soon
        self.logs = Logs(self.clock, self.bus, self.journal, Path(home, "logs"), now)
        self.supervisor = Supervisor(self.store, self.logs, cores=2, now=now)
        self.sampler = Sampler(self.clock, self.supervisor.roots, trees=Trees(self.source), system=self._system)
        self.supervisor.means = self.means()
        self.describer = Describer(
            self.supervisor, self.logs, self.sampler, now=now, clients=lambda: len(self.factory.connections)
        )
        actions = Actions(self.supervisor, Operations(self.supervisor, self.clock), base=home)
        self.channels = Channels(
            stamp=self.bus.stamp,
            settle=self.bus.flush,
            sampler=self.sampler,
            measure=self.describer.metrics,
            follow_logs=self.logs.follow,
        )
        self.logs.wants = self.channels.wants_log
        self.bus.add(self.channels)
        self.history = History(self.clock, self.sampler, now=now, uptimes=self.supervisor.uptimes)
        crashes = Crashes(
            self.store,
            self.logs,
            self.history,
            find=self.supervisor.processes.get,
            begun=lambda process: self.begun[process.id],
        )
        self.sampler.watched = self.history.watched
        for sink in (self.history, crashes):
            self.bus.add(sink)
        questions = Questions(
            self.clock, self.supervisor, self.bus, self.journal, self.logs, crashes=crashes, history=self.history
        )
        audit = Audit(Path(home, "audit.jsonl"), now)
        self.dispatcher = Dispatcher(self.supervisor, actions, self.describer, audit, self.clock, questions.answers)
        self.factory = DaemonSocketFactory(
            self.clock,
            bus=self.bus,
            dispatcher=self.dispatcher,
            describer=self.describer,
            channels=self.channels,
            archive=Archive(self.supervisor, self.logs, self.journal, self.bus),
        )

    def means(self) -> Any:
        means = super().means()
        means.bus, means.changed = self.bus, self.supervisor.save
        means.spawn, means.wrote, means.gone = self._spawn_logged, self.logs.write, self.logs.close
        return means

    def _spawn_logged(self, process: Process, child: Child) -> None:
        if self.refusal is None:
            self.logs.open(process)
            self.begun[process.id] = {stream: self.logs.file(process, stream).end() for stream in STREAMS}
        self._spawn(process, child)

    def _living(self) -> list[Usage]:
        """Every living child, with ``cpu`` seconds by pid and 1 MiB."""
        pids = (child.pid for child in self.children.alive if child.pid is not None)
        return [Usage(pid, 1, pid, 0.0, self.cpu.get(pid, 0.0), 0.0, 1 << 20) for pid in pids]

    def _system(self) -> SystemSample:
        return SystemSample(
            busy=10.0, total=40.0, cores=2, memory_total=1000, memory_available=750, load=(0.5, 0.25, 0.125)
        )

    def declare(self, name: str = "web", **config: Any) -> list[Process]:
        """Declare a new app, and return its processes, which do not run."""
        return list(self.supervisor.declare(app(name, **config), None).processes.values())

    def start(self, name: str = "web", **config: Any) -> Process:
        """Start a new app, and return its first process."""
        processes = self.declare(name, **config)
        for process in processes:
            process.wanted = True
            process.start()
        self.pass_time()
        return processes[0]

    def say(self, process: Process, data: bytes | str, stream: int = 1) -> None:
        """Have the process's child print something, and let it be read."""
        (child,) = self.children.of(process)
        child.protocol.childDataReceived(stream, data.encode() if isinstance(data, str) else data)
        self.pass_time()

    def connect(self, headers: bytes = b"") -> Peer:
        return Peer(self, headers)

    def end(self, *, killed: bool = False) -> None:
        """End the daemon: in good order, or as if the machine had stopped."""
        if not killed:
            self.supervisor.stop()
            self.pass_time(60)
            self.bus.flush()
        self.logs.shut()
        if killed and self.store.db.in_transaction:
            self.store.db.execute("ROLLBACK")
        self.store.close()


def _encode(event: Event, id_: str, at: float) -> bytes:
    return encode(event.type, event, id=id_, at=at)


class WorldCase(SynchronousTestCase):
    """Has a daemon in ``self.world`` and the means to restart it."""

    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp())))
        self.world = self._begin(0.0)
        self.addCleanup(lambda: self.world.end(killed=True))

    def _begin(self, at: float) -> World:
        world = World(self.home, at=at)
        self.patch(txaio.config, "loop", world.clock)
        return world

    def anew(self) -> World:
        """Let go of this daemon, and have another one with a home of its own."""
        self.world.end(killed=True)
        self.home = tempfile.mkdtemp(dir=os.path.dirname(self.home))
        self.world = self._begin(0.0)
        return self.world

    def restart(self, *, killed: bool = False) -> World:
        """End this daemon, and have another go on from its home a second later."""
        at = self.world.clock.seconds() - 1_700_000_000
        self.world.end(killed=killed)
        self.world = self._begin(at + 1)
        self.world.supervisor.load()
        self.world.supervisor.start()
        self.world.pass_time()
        return self.world

    def assert_keys(self, data: Mapping[str, Any], *keys: str) -> None:
        self.assertEqual(set(data), set(keys))
