"""Those who are sent the same, over real sockets: what is written to whom, and in how many system calls."""

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor, tcp
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.lane import Lane
from pmdaemon.web.outbox import Frame, Kind, Outbox, Pool

LINE = Frame(Kind.LOG, "web", b"line ".ljust(250, b"x"), 1)


class Client:
    """An outbox on a real connection, and the other end of it; ``calls`` counts what its socket was asked to send."""

    def __init__(self, case: SynchronousTestCase, clock: Clock, pool: Pool, calls: Counter[str]) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.far = socket.create_connection(listener.getsockname())
        self.far.setblocking(False)
        near, _ = listener.accept()
        near.setblocking(False)
        listener.close()
        self.transport: Any = tcp.Connection(Counted(near, calls), Protocol(), reactor)  # type: ignore[arg-type]
        self.transport.connected = 1
        self.closed: list[int] = []
        self.outbox = Outbox(
            self.transport,
            clock,
            pool,
            encode_gap=lambda process, dropped, seq: b"<gap %d>" % dropped,
            close=lambda code, reason: self.closed.append(code),
        )
        for end in (self.far, near):
            case.addCleanup(end.close)
        case.addCleanup(self.outbox.stop)
        case.addCleanup(self.transport.stopWriting)

    def read(self) -> bytes:
        got = bytearray()
        try:
            while data := self.far.recv(1 << 20):
                got += data
        except BlockingIOError:
            return bytes(got)
        return bytes(got)


class Counted:
    """A socket that counts the system calls that send."""

    def __init__(self, sock: socket.socket, calls: Counter[str]) -> None:
        self._sock = sock
        self._calls = calls
        self.family = sock.family

    def send(self, data: bytes) -> int:
        self._calls["send"] += 1
        return self._sock.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class LaneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.pool = Clock(), Pool()
        self.calls: Counter[str] = Counter()
        self.lane = Lane()
        self.clients = [self.client() for _ in range(5)]

    def client(self) -> Client:
        made = Client(self, self.clock, self.pool, self.calls)
        self.lane.add(made.outbox)
        return made

    def counted(self, act: Callable[[], object]) -> int:
        self.calls.clear()
        act()
        return self.calls["send"]

    def stall(self, client: Client) -> None:
        """Have *client* fall behind, alone."""
        while not client.outbox.congested:
            client.outbox.write(bytes(100_000))

    def test_one_call_for_each_and_nothing_else(self) -> None:
        """Whatever number of frames there is in a turn, from the first turn on."""
        for count in (1, 1, 10, 100):
            self.assertEqual(self.counted(lambda count=count: self.lane.send([LINE] * count)), 5)
            self.assertEqual([each.read() for each in self.clients], [LINE.data * count] * 5)
        self.assertEqual((self.pool.total, self.clock.getDelayedCalls()), (0, []))

    def test_large_turns_go_out_64_kib_at_a_time(self) -> None:
        self.assertEqual(self.counted(lambda: self.lane.send([LINE] * 400)), 5 * 2)
        self.assertEqual([len(each.read()) for each in self.clients], [100_000] * 5)

    def test_one_who_is_behind_costs_the_others_nothing(self) -> None:
        slow, *others = self.clients
        self.lane.send([LINE])
        self.stall(slow)
        for each in self.clients:
            each.read()
        for _ in range(3):
            self.assertEqual(self.counted(lambda: self.lane.send([LINE])), 4)
            self.assertEqual([each.read() for each in others], [LINE.data] * 4)

    def test_one_who_has_caught_up_is_one_of_them_again(self) -> None:
        slow, *_ = self.clients
        self.lane.send([LINE])
        self.stall(slow)
        self.lane.send([LINE])
        got = b""
        while slow.outbox.congested or slow.outbox.size:
            got += slow.read()
            self.transport_writes(slow)
        got += slow.read()
        self.assertEqual((got.count(LINE.data), got[-250:]), (2, LINE.data))
        self.assertEqual(self.counted(lambda: self.lane.send([LINE])), 5)
        self.assertEqual(self.counted(lambda: self.lane.send([LINE])), 5)
        self.assertEqual(slow.read(), LINE.data * 2)

    def transport_writes(self, client: Client) -> None:
        """Do what the reactor does of a socket that takes more."""
        client.transport.doWrite()

    def test_what_the_kernel_takes_half_of_stays_whole(self) -> None:
        slow, *_ = self.clients
        sent = 0
        while slow.outbox.size == 0:
            self.lane.send([LINE] * 200)
            sent += 200
            for each in self.clients[1:]:
                each.read()
        got = b""
        while slow.outbox.size or slow.outbox.congested:
            got += slow.read()
            self.transport_writes(slow)
        self.assertEqual(got + slow.read(), LINE.data * sent)

    def test_what_else_is_written_keeps_its_place(self) -> None:
        """A reply that the kernel does not take at once is not overtaken."""
        slow, *_ = self.clients
        self.lane.send([LINE])
        reply = b"r" * 5_000_000
        slow.outbox._limit = 10_000_000
        slow.outbox.write(reply)
        self.assertFalse(slow.outbox.ready)
        self.lane.send([LINE])
        got = b""
        while slow.outbox.size or slow.outbox.congested:
            got += slow.read()
            self.transport_writes(slow)
        self.assertEqual(got + slow.read(), LINE.data + reply + LINE.data)

    def test_who_has_gone_is_sent_nothing(self) -> None:
        gone, *others = self.clients
        self.lane.send([LINE])
        self.lane.discard(gone.outbox)
        self.lane.discard(gone.outbox)
        for each in self.clients:
            each.read()
        self.assertEqual(self.counted(lambda: self.lane.send([LINE])), 4)
        self.assertEqual((gone.read(), [each.read() for each in others]), (b"", [LINE.data] * 4))
        for each in others:
            self.assertTrue(self.lane)
            self.lane.discard(each.outbox)
        self.assertFalse(self.lane)

    def test_a_lost_connection_is_its_transport_s_to_find(self) -> None:
        lost, *others = self.clients
        self.lane.send([LINE])
        lost.transport.socket.shutdown(socket.SHUT_RDWR)
        self.lane.send([LINE])
        self.assertEqual((lost.outbox.ready, lost.outbox.size), (False, 250))
        lost.outbox.stop()
        self.lane.send([LINE])
        self.assertEqual([each.read() for each in others], [LINE.data * 3] * 4)

    def test_who_is_stopped_meanwhile_gets_nothing_behind_that(self) -> None:
        stopped, *_ = self.clients
        self.lane.send([LINE])
        stopped.outbox.stop()
        self.lane.send([LINE])
        stopped.outbox.rest(b"half", 1)
        self.assertEqual((stopped.read(), stopped.outbox.size), (LINE.data, 0))
