"""What systemd is told, read from the other end of its socket."""

import os
import socket
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.systemd import Systemd


class SystemdTests(SynchronousTestCase):
    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="pmd-")  # short: a socket's path may have 107 bytes
        self.addCleanup(place.cleanup)
        self.path = os.path.join(place.name, "notify")
        self.clock = Clock()

    def listen(self, address: str) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listening.close)
        listening.bind(address)
        listening.setblocking(False)
        return listening

    def heard(self, listening: socket.socket) -> list[str]:
        words = []
        while True:
            try:
                words.append(listening.recv(4096).decode())
            except BlockingIOError:
                return words

    def test_ready_alive_stopping(self) -> None:
        listening = self.listen(self.path)
        systemd = Systemd(self.clock, {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "4000000"})
        self.assertEqual(self.heard(listening), [])
        systemd.ready(77)
        self.assertEqual(self.heard(listening), ["READY=1\nMAINPID=77", "WATCHDOG=1"])
        self.clock.advance(2)
        self.assertEqual(self.heard(listening), ["WATCHDOG=1"])
        systemd.stopping(replaced=False)
        self.assertEqual(self.heard(listening), ["STOPPING=1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_a_watchdog(self) -> None:
        listening = self.listen(self.path)
        Systemd(self.clock, {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "x"}).ready(1)
        self.assertEqual(self.heard(listening), ["READY=1\nMAINPID=1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_abstract_socket(self) -> None:
        name = f"pmdaemon-{os.getpid()}"
        listening = self.listen("\0" + name)
        Systemd(self.clock, {"NOTIFY_SOCKET": "@" + name}).stopping(replaced=True)
        self.assertEqual(self.heard(listening), ["RELOADING=1"])

    def test_without_systemd_and_with_one_that_is_gone(self) -> None:
        for environment in ({}, {"NOTIFY_SOCKET": self.path}):
            Systemd(self.clock, environment).ready(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
