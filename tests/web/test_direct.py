"""Sending on the socket beneath a transport."""

import socket
from typing import Any

from twisted.internet import reactor, tcp
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pmdaemon.web.direct import UNSENT, is_clear, sender, tune, waiting


class Case(SynchronousTestCase):
    """A Twisted transport on a real socket, outside of the reactor."""

    def setUp(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listener.getsockname())
        self.client.settimeout(5)
        served, _ = listener.accept()
        for sock in (listener, self.client, served):
            self.addCleanup(sock.close)
        verifyObject(IReactorFDSet, reactor)
        self.transport: Any = tcp.Connection(served, Protocol(), reactor)  # type: ignore[arg-type]
        self.transport.connected = 1
        self.addCleanup(self.transport.stopWriting)


class SenderTests(Case):
    """What may be sent past the transport, and when."""

    def send(self, data: bytes) -> int:
        send = sender(self.transport)
        assert send is not None
        return send(data)

    def test_sends_at_once(self) -> None:
        self.assertTrue(is_clear(self.transport))
        self.assertEqual(self.send(b"hello"), 5)
        self.assertEqual(self.client.recv(10), b"hello")
        self.assertTrue(is_clear(self.transport))

    def test_takes_part_of_it_where_the_kernel_is_full(self) -> None:
        sent = self.send(bytes(50_000_000))
        self.assertTrue(0 < sent < 50_000_000)
        self.assertRaises(BlockingIOError, self.send, b"more")

    def test_not_past_what_waits(self) -> None:
        self.transport.write(b"first")
        self.assertFalse(is_clear(self.transport))
        self.transport.doWrite()
        self.assertTrue(is_clear(self.transport))
        self.assertEqual(self.send(b"second"), 6)
        self.assertEqual(self.client.recv(20), b"firstsecond")

    def test_not_on_a_closing_connection(self) -> None:
        self.transport.loseConnection()
        self.assertFalse(is_clear(self.transport))

    def test_not_beneath_tls(self) -> None:
        self.transport.TLS = True
        self.assertIsNone(sender(self.transport))

    def test_not_beneath_a_wrapper(self) -> None:
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = self.transport
        self.assertIs(wrapper.socket, self.transport.socket)
        self.assertIsNone(sender(wrapper))

    def test_a_lost_peer_is_an_error_of_the_system(self) -> None:
        send: Any = sender(self.transport)
        self.transport.socket.close()
        self.assertRaises(OSError, send, b"x")
        del self.transport.socket
        self.assertIsNone(sender(self.transport))

    def test_twisted_has_changed(self) -> None:
        for name in ("_tempDataLen", "dataBuffer", "disconnecting"):
            self.assertFalse(is_clear(Changed(name, self.transport)), name)
        self.assertIsNone(sender(Changed("TLS", self.transport)))

    def test_other_transports(self) -> None:
        self.assertIsNone(sender(StringTransport()))
        self.assertFalse(is_clear(StringTransport()))


class Changed(tcp.Connection):
    """A transport that lacks an attribute."""

    def __init__(self, lacks: str, real: Any) -> None:
        self._lacks = lacks
        self.__dict__.update(real.__dict__)

    def __getattribute__(self, name: str) -> Any:
        if name != "_lacks" and name == self._lacks:
            raise AttributeError(name)
        return super().__getattribute__(name)


class WaitingTests(Case):
    """How much was written and not taken."""

    def test_counts_both_of_twisted_s_buffers(self) -> None:
        self.assertEqual(waiting(self.transport), 0)
        self.transport.write(bytes(20_000_000))
        self.assertEqual(waiting(self.transport), 20_000_000)
        self.transport.doWrite()
        self.transport.write(b"123")
        taken = 20_000_003 - (waiting(self.transport) or 0)
        self.assertTrue(0 < taken <= self.transport.SEND_LIMIT, taken)

    def test_unknown(self) -> None:
        self.assertIsNone(waiting(StringTransport()))
        self.assertIsNone(waiting(Changed("_tempDataLen", self.transport)))


class TuneTests(Case):
    """The socket's options."""

    def test_tcp(self) -> None:
        tune(self.transport)
        sock = self.transport.socket
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT), UNSENT)

    def test_others_are_left_alone(self) -> None:
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        self.transport.socket = left
        tune(self.transport)
        tune(StringTransport())
