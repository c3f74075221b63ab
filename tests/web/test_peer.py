"""Who is at the other end of a loopback connection, asked of real sockets in each of the ways there are."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from unittest import skipUnless

from twisted.internet import endpoints, protocol, reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pmdaemon.web.peer import MEANS, Connection, Means, Peers, SockDiag, in_own_processes, in_proc_net, socket_uid

OWN = os.geteuid()
STRANGER = 12345
CONNECTS = r"""
import os, socket, sys
user, kind, path, port = sys.argv[1:]
os.setuid(int(user))
s = socket.socket(getattr(socket, kind))
s.connect((path, int(port)) if int(port) else path.replace("@", "\0"))
print("connected", flush=True)
sys.stdin.read()
"""


def connected(test: SynchronousTestCase, server: socket.socket, address: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection to ``server`` at ``address``, the client's first."""
    client = socket.create_connection((address, server.getsockname()[1]))
    test.addCleanup(client.close)
    accepted, _ = server.accept()
    test.addCleanup(accepted.close)
    return client, accepted


def as_accepted(accepted: socket.socket) -> Connection:
    """The connection as the server sees it."""
    connection = Connection.of(accepted.getpeername()[:2], accepted.getsockname()[:2])
    assert connection is not None
    return connection


class Telling:
    """What every way must tell."""

    make: Callable[[], Means]

    def setUp(self) -> None:
        self.means = type(self).make()
        self.server = self.listen(("127.0.0.1", 0))

    def listen(self, address: tuple[str, int], **rest: Any) -> socket.socket:
        server = socket.create_server(address, **rest)
        self.addCleanup(server.close)
        return server

    def test_own_user(self) -> None:
        _, accepted = connected(self, self.server, "127.0.0.1")
        self.assertEqual(self.means(as_accepted(accepted)), OWN)

    def test_own_user_by_ipv6(self) -> None:
        _, accepted = connected(self, self.listen(("::1", 0), family=socket.AF_INET6), "::1")
        self.assertEqual(self.means(as_accepted(accepted)), OWN)

    def test_own_user_by_ipv4_to_a_socket_for_both(self) -> None:
        server = self.listen(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        _, accepted = connected(self, server, "127.0.0.1")
        self.assertEqual(accepted.getpeername()[0], "::ffff:127.0.0.1")
        self.assertEqual(self.means(as_accepted(accepted)), OWN)

    def test_own_user_by_ipv4_written_as_ipv6(self) -> None:
        _, accepted = connected(self, self.server, "::ffff:127.0.0.1")
        self.assertEqual(self.means(as_accepted(accepted)), OWN)

    def test_own_user_from_another_loopback_address(self) -> None:
        client = socket.create_connection(self.server.getsockname(), source_address=("127.0.0.2", 0))
        self.addCleanup(client.close)
        accepted, _ = self.server.accept()
        self.addCleanup(accepted.close)
        self.assertEqual(accepted.getpeername()[0], "127.0.0.2")
        self.assertEqual(self.means(as_accepted(accepted)), OWN)

    def test_nobody(self) -> None:
        port = self.server.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            connection = Connection(ip_address(address), 1, ip_address(address), port)
            self.assertIsNone(self.means(connection))

    def test_a_client_that_sent_and_left(self) -> None:
        """What it leaves behind says uid 0: here that is our own, so only None is right."""
        for _ in range(self.rounds):
            client = socket.create_connection(self.server.getsockname())
            accepted, _ = self.server.accept()
            connection = as_accepted(accepted)
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            client.close()
            self.assertIsNone(self.means(connection))
            accepted.close()

    rounds = 50

    def test_a_client_that_will_send_no_more(self) -> None:
        client, accepted = connected(self, self.server, "127.0.0.1")
        client.shutdown(socket.SHUT_WR)
        self.assertIsNone(self.means(as_accepted(accepted)))

    def test_a_listener_on_the_port_of_a_client_that_left(self) -> None:
        alone = "127.0.0.77"  # where no other program takes the port meanwhile
        client = socket.create_connection(self.server.getsockname(), source_address=(alone, 0))
        accepted, _ = self.server.accept()
        connection = as_accepted(accepted)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        accepted.close()
        self.listen((alone, connection.client_port))
        self.assertIsNone(self.means(connection))

    def test_a_socket_that_no_program_holds(self) -> None:
        """Until it is accepted it is connected, and says uid 0 like one that was closed."""
        client = socket.create_connection(self.server.getsockname())
        self.addCleanup(client.close)
        connection = Connection.of(client.getpeername(), client.getsockname())
        assert connection is not None
        self.assertIsNone(self.means(connection))

    @skipUnless(OWN == 0, "only root can be another user")
    def test_another_user(self) -> None:
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            server = self.listen((address, 0), family=family)
            self.addCleanup(stranger(family.name, address, server.getsockname()[1]))
            accepted, _ = server.accept()
            self.addCleanup(accepted.close)
            self.assertEqual(self.means(as_accepted(accepted)), self.strange)

    strange: int | None = STRANGER


def stranger(family: str, path: str, port: int) -> Callable[[], Any]:
    """Connect as another user; returns how to end that."""
    program = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CONNECTS, str(STRANGER), family, path, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline(), "it could not connect"
    return program.communicate


@skipUnless(sys.platform == "linux", "Linux only")
class SockDiagTests(Telling, SynchronousTestCase):
    """By netlink."""

    make = SockDiag
    rounds = 1000

    def test_an_answer_that_was_not_taken_is_not_taken_for_the_next(self) -> None:
        _, accepted = connected(self, self.server, "127.0.0.1")
        ours = as_accepted(accepted)
        assert isinstance(self.means, SockDiag)
        self.means._kernel.send(self.means._request(ours))
        self.assertIsNone(self.means(ours._replace(client_port=1)))
        self.assertEqual(self.means(ours), OWN)

    def test_it_does_not_wait(self) -> None:
        """A kernel that does not answer must not stop the reactor."""
        assert isinstance(self.means, SockDiag)
        self.assertRaises(BlockingIOError, self.means._answer)

    def test_children_do_not_get_it(self) -> None:
        assert isinstance(self.means, SockDiag)
        self.assertFalse(self.means._kernel.get_inheritable())


@skipUnless(sys.platform == "linux", "Linux only")
class ProcNetTests(Telling, SynchronousTestCase):
    """By the tables as text."""

    make = staticmethod(lambda: in_proc_net)


class OwnProcessesTests(Telling, SynchronousTestCase):
    """By psutil, which knows own processes only."""

    make = staticmethod(lambda: in_own_processes)
    rounds = 3
    strange = None


class ConnectionTests(SynchronousTestCase):
    """Which connections are within this machine."""

    def test_only_between_loopbacks(self) -> None:
        for client, server in (
            ("192.0.2.1", "127.0.0.1"),
            ("127.0.0.1", "192.0.2.1"),
            ("2001:db8::1", "::1"),
            ("::ffff:192.0.2.1", "127.0.0.1"),
            ("fe80::1%lo", "fe80::1%lo"),
            ("", "127.0.0.1"),
        ):
            self.assertIsNone(Connection.of((client, 40000), (server, 9615)), client)

    def test_one_spelling(self) -> None:
        plain = Connection.of(("127.0.0.1", 40000), ("127.0.0.1", 9615))
        assert plain is not None
        self.assertEqual(Connection.of(("::ffff:127.0.0.1", 40000), ("::ffff:7f00:1", 9615)), plain)


class Transport:
    """A connection that is only told of."""

    def __init__(self, peer: Any, host: Any) -> None:
        self.getPeer = lambda: peer
        self.getHost = lambda: host


LOCAL = Transport(IPv4Address("TCP", "127.0.0.1", 40000), IPv4Address("TCP", "127.0.0.1", 9615))


class PeersTests(SynchronousTestCase):
    """Which way is taken."""

    def denied(self) -> Means:
        raise PermissionError("no netlink here")

    def test_the_first_that_works(self) -> None:
        asked: list[Connection] = []

        def works(connection: Connection) -> int:
            asked.append(connection)
            return 7

        peers = Peers([self.denied, lambda: lambda connection: None, lambda: works, self.fail])
        peer = peers.of(LOCAL)
        self.assertEqual((peer.uid, peer.address, peer.unix), (7, "127.0.0.1", False))
        self.assertEqual(asked[1:], [Connection(ip_address("127.0.0.1"), 40000, ip_address("127.0.0.1"), 9615)])
        self.assertEqual(self.flushWarnings(), [])

    def test_none_works(self) -> None:
        self.assertIsNone(Peers([self.denied]).of(LOCAL).uid)

    def test_it_fails_later(self) -> None:
        answers = iter([OWN])

        def fails(connection: Connection) -> int:
            for answer in answers:
                return answer
            raise OSError("no buffer space")

        self.assertIsNone(Peers([lambda: fails]).of(LOCAL).uid)

    def test_not_within_this_machine(self) -> None:
        remote = Transport(IPv4Address("TCP", "192.0.2.1", 40000), IPv4Address("TCP", "127.0.0.1", 9615))
        peer = Peers([lambda: lambda connection: OWN]).of(remote)
        self.assertEqual((peer.uid, peer.address), (None, "192.0.2.1"))

    @skipUnless(sys.platform == "linux", "Linux only")
    def test_here(self) -> None:
        self.assertIsInstance(Peers(MEANS)._means, SockDiag)


class UnixTests(SynchronousTestCase):
    """Unix sockets tell by themselves."""

    def setUp(self) -> None:
        self.path = os.path.relpath(self.mktemp())
        self.server = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.server.close)
        self.server.bind(self.path)
        self.server.listen()

    def accept(self) -> socket.socket:
        accepted, _ = self.server.accept()
        self.addCleanup(accepted.close)
        return accepted

    def test_own_user(self) -> None:
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(self.path)
        self.assertEqual(socket_uid(self.accept()), OWN)

    @skipUnless(OWN == 0, "only root can be another user")
    def test_another_user(self) -> None:
        name = f"pmdaemon-test-{os.getpid()}"  # in the kernel's own name space, where no directory is in the way
        self.server = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.server.close)
        self.server.bind("\0" + name)
        self.server.listen()
        self.addCleanup(stranger("AF_UNIX", "@" + name, 0))
        self.assertEqual(socket_uid(self.accept()), STRANGER)

    def test_not_a_unix_socket(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.assertNotEqual(socket_uid(server), OWN)


class TransportTests(TestCase):
    """With Twisted's own transports."""

    async def accepted(self, server: str, client: str) -> Any:
        accepting: Deferred[Any] = Deferred()

        class Accepted(protocol.Protocol):
            def connectionMade(self) -> None:
                accepting.callback(self.transport)

        port = await endpoints.serverFromString(reactor, server).listen(protocol.Factory.forProtocol(Accepted))
        self.addCleanup(port.stopListening)
        where = client.format(port=getattr(port.getHost(), "port", ""))
        made = await endpoints.connectProtocol(endpoints.clientFromString(reactor, where), protocol.Protocol())
        transport = await accepting
        self.addCleanup(transport.loseConnection)
        self.addCleanup(made.transport.loseConnection)
        return transport

    async def test_tcp(self) -> None:
        transport = await self.accepted("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:{port}")
        peer = Peers().of(transport)
        self.assertEqual((peer.uid, peer.address, peer.unix), (OWN, "127.0.0.1", False))

    async def test_unix(self) -> None:
        path = os.path.relpath(self.mktemp())
        peer = Peers().of(await self.accepted(f"unix:{path}", f"unix:{path}"))
        self.assertEqual((peer.uid, peer.address, peer.unix), (OWN, "", True))
