"""Where the client looks for the daemon."""

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.client.address import Address, locate, unix_socket
from pmdaemon.client.errors import NoDaemon
from pmdaemon.errors import InvalidMessage


class LocateTests(SynchronousTestCase):
    def test_what_is_given_comes_first(self) -> None:
        env = {"PMDAEMON_URL": "ws://env:1", "PMDAEMON_HOME": "/env", "PMDAEMON_TOKEN": "secret"}
        self.assertEqual(locate(environ=env), Address(url="ws://env:1/ws", token="secret"))
        self.assertEqual(locate(home="/h", environ=env), Address(url="ws://localhost/ws", socket="/h/api.sock"))
        self.assertEqual(locate(url="wss://x/y", token="t", environ=env), Address(url="wss://x/y", token="t"))
        del env["PMDAEMON_URL"]
        self.assertEqual(str(locate(environ=env)), "/env/api.sock")
        self.assertEqual(str(locate(environ={})), os.path.expanduser("~/.pmdaemon/api.sock"))

    def test_urls_of_other_kinds(self) -> None:
        self.assertEqual(locate("https://host:1/", environ={}).url, "wss://host:1/ws")
        self.assertEqual(locate("http://[::1]:9615", environ={}).url, "ws://[::1]:9615/ws")
        for wrong in ("localhost:9615", "ftp://x", "ws://", ""):
            self.assertRaises(InvalidMessage, locate, wrong, environ={})


class UnixSocketTests(SynchronousTestCase):
    def test_a_path_that_is_too_long_for_the_system(self) -> None:
        home = Path(self.mktemp()).absolute() / ("x" * 120)
        home.mkdir(parents=True)
        descriptor = os.open(home, os.O_PATH)
        self.addCleanup(os.close, descriptor)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{descriptor}/api.sock")
            listening.listen()
            unix_socket(str(home / "api.sock"), 5).close()
        with self.assertRaises(NoDaemon) as caught:
            unix_socket(str(home / "api.sock"), 5)
        self.assertIn("there is none", caught.exception.message)

    def test_nobody_there(self) -> None:
        self.assertRaises(NoDaemon, unix_socket, "/nowhere/api.sock", 5)
