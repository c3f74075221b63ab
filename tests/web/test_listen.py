"""Binding the daemon's port; 127.0.0.2 stands for a second address, which every Linux has."""

import errno
import socket
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.listen import LOOPBACKS, ListenError, bind

TWO = ("127.0.0.1", "127.0.0.2")


class NoIPv6(socket.socket):
    """What a kernel without IPv6 gives."""

    def __init__(self, family: int = -1, *rest: object, **more: object) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest, **more)


class BindTests(SynchronousTestCase):
    def bind(self, hosts: tuple[str, ...], port: int = 0) -> tuple[list[tuple[str, int]], list[str]]:
        sockets, missing = bind(hosts, port)
        for each in sockets:
            self.addCleanup(each.close)
            self.assertEqual(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 1)
            self.assertFalse(each.getblocking())
            self.assertFalse(each.get_inheritable())
        return [each.getsockname()[:2] for each in sockets], missing

    def take(self, host: str) -> int:
        taken = socket.create_server((host, 0))
        self.addCleanup(taken.close)
        return int(taken.getsockname()[1])

    def test_one_port_of_every_host(self) -> None:
        names, missing = self.bind(TWO)
        self.assertEqual([host for host, _ in names], list(TWO))
        self.assertEqual(len({port for _, port in names}), 1)
        self.assertEqual(missing, [])

    def test_an_ipv6_socket_takes_nothing_of_ipv4(self) -> None:
        if self.bind(LOOPBACKS)[1]:
            return  # no IPv6 here
        (first, second), _ = self.bind(LOOPBACKS)
        self.assertEqual((first[0], second[0], first[1]), ("127.0.0.1", "::1", second[1]))

    def test_without_ipv6_the_other_is_enough(self) -> None:
        with patch("socket.socket", NoIPv6):
            names, missing = self.bind(LOOPBACKS)
        self.assertEqual([host for host, _ in names], ["127.0.0.1"])
        self.assertEqual(missing, ["::1"])

    def test_an_address_this_machine_lacks(self) -> None:
        self.assertEqual(self.bind(("127.0.0.1", "2001:db8::1"))[1], ["2001:db8::1"])
        for alone in ("2001:db8::1", "192.0.2.1"):
            with self.assertRaises(ListenError):
                bind([alone], 0)
        with self.assertRaises(ListenError):
            bind(("127.0.0.1", "192.0.2.1"), 0)

    def test_a_port_taken_on_the_second_frees_the_first(self) -> None:
        port = self.take("127.0.0.2")
        with self.assertRaises(ListenError) as caught:
            bind(TWO, port)
        self.assertEqual(
            str(caught.exception),
            f"cannot listen on 127.0.0.2:{port}: the port is taken; stop who has it or give another with --port",
        )
        self.bind(("127.0.0.1",), port)

    def test_port_0_tries_another_where_the_second_is_taken(self) -> None:
        taken = [self.take("127.0.0.2"), self.take("127.0.0.2")]
        listen = socket.socket.bind

        def bind_first_to_a_taken_one(self: socket.socket, address: tuple[str, int]) -> None:
            if address == ("127.0.0.1", 0) and taken:
                address = ("127.0.0.1", taken.pop())
            listen(self, address)

        with patch.object(socket.socket, "bind", bind_first_to_a_taken_one, create=True):
            names, _ = self.bind(TWO)
        self.assertEqual(taken, [])
        self.assertEqual(len({port for _, port in names}), 1)

    def test_what_is_no_host_name(self) -> None:
        for host in ("x" * 64, "", "::1%nowhere"):
            with self.assertRaises(ListenError):
                bind([host], 0)
