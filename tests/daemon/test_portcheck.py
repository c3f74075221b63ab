"""Whether a port is free."""

import socket

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.portcheck import is_free


class IsFreeTests(SynchronousTestCase):
    def listen(self, host: str) -> int:
        listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.addCleanup(listening.close)
        return int(listening.getsockname()[1])

    def test_taken_on_one_address_is_taken(self) -> None:
        for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0"):
            self.assertFalse(is_free(self.listen(host)), host)

    def test_taken_on_ipv6_alone(self) -> None:
        for host in ("::1", "::"):
            try:
                port = self.listen(host)
            except OSError:
                return  # no IPv6 here
            self.assertFalse(is_free(port), host)

    def test_free_again_and_nothing_is_held(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.close()
        self.assertTrue(is_free(port))
        self.assertTrue(is_free(port))
        socket.create_server(("127.0.0.1", port)).close()

    def test_a_connection_that_fades_away_does_not_matter(self) -> None:
        """A server that closes first leaves its port in TIME_WAIT for a minute."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = server.accept()
                accepted.close()
                self.assertEqual(client.recv(1), b"")
        self.assertTrue(is_free(port))
