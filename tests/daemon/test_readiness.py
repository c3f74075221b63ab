"""The other ways in which a child is ready [P8]: a port, a message, a line of output."""

import os
import socket
import stat
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pmdaemon.core.lines import Line, LineSplitter
from pmdaemon.daemon.readiness import LogLineReady, NotifyReady, PortReady
from pmdaemon.errors import OperationFailed
from pmdaemon.keeper.identity import Owner
from tests.daemon.recorder import until


class Told:
    """Counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


class Ports(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.told = Told()

    def free_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])

    async def listen(self, port: int, interface: str) -> None:
        listening = reactor.listenTCP(port, Factory.forProtocol(Protocol), interface=interface)
        self.addCleanup(listening.stopListening)

    def watch(self, port: int) -> PortReady:
        ready = PortReady(reactor, port, self.told)
        ready.start()
        self.addCleanup(ready.stop)
        return ready

    async def test_already_open(self) -> None:
        for interface in ("127.0.0.1", "::1"):
            port = self.free_port()
            await self.listen(port, interface)
            before = self.told.times
            self.watch(port)
            await until(lambda before=before: self.told.times > before)
        assert self.told.times == 2

    async def test_opened_later(self) -> None:
        port = self.free_port()
        self.watch(port)
        await deferLater(reactor, 0.12)
        assert self.told.times == 0
        await self.listen(port, "127.0.0.1")
        await until(lambda: self.told.times)

    async def test_stopped_while_it_connects(self) -> None:
        port = self.free_port()
        await self.listen(port, "127.0.0.1")
        self.watch(port).stop()
        await deferLater(reactor, 0.06)
        assert self.told.times == 0

    async def test_stopped_between_tries(self) -> None:
        port = self.free_port()
        ready = self.watch(port)
        await deferLater(reactor, 0.02)
        ready.stop()
        await self.listen(port, "127.0.0.1")
        await deferLater(reactor, 0.06)
        assert self.told.times == 0

    def test_stopped_before_it_started(self) -> None:
        PortReady(reactor, 1, self.told).stop()


class Messages(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.told = Told()
        # Not below the working directory: the system allows a socket about 100 bytes of path.
        self.path = f"/tmp/pmdaemon-test-{os.getpid()}.sock"
        self.ready = NotifyReady(reactor, self.path, self.told)
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        self.ready.stop()
        await deferLater(reactor, 0)

    def send(self, message: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, self.path)

    async def test_ready(self) -> None:
        self.ready.start()
        self.send(b"STATUS=starting\nREADY=10\nXREADY=1")
        self.send(b"STATUS=up\nREADY=1\n")
        self.send(b"READY=1")
        await until(lambda: self.told.times)
        await deferLater(reactor, 0.01)
        assert self.told.times == 1

    async def test_descriptors_that_come_along(self) -> None:
        self.ready.start()
        reading, writing = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self.path)
            socket.send_fds(sender, [b"READY=1\nBARRIER=1"], [writing])
        os.close(writing)
        await until(lambda: self.told.times)
        assert os.read(reading, 1) == b""  # closed by the receiver: nobody waits for us
        os.close(reading)

    async def test_only_our_user_can_send(self) -> None:
        self.ready.start()
        assert stat.S_IMODE(os.stat(self.path).st_mode) == 0o600

    async def test_socket_left_from_before(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
            left.bind(self.path)
        self.ready.start()
        self.send(b"READY=1")
        await until(lambda: self.told.times)

    async def test_stop(self) -> None:
        self.ready.start()
        self.send(b"READY=1")
        await self.stop()
        assert not os.path.exists(self.path)
        assert self.told.times == 0

    def test_path_that_is_too_long(self) -> None:
        ready = NotifyReady(reactor, f"/tmp/{'x' * 200}", self.told)
        error = self.assertRaises(OperationFailed, ready.start)
        assert isinstance(error, OperationFailed)
        assert "AF_UNIX path too long" in error.message

    def test_no_place_that_another_user_gets_to(self) -> None:
        ready = NotifyReady(reactor, "/nowhere/run/ready.sock", self.told, Owner(12_345, 12_345, [12_345]))
        error = self.assertRaises(OperationFailed, ready.start)
        assert isinstance(error, OperationFailed)
        assert error.message.endswith("'/nowhere/run/ready.sock': No such file or directory")
        assert error.hint is not None
        assert "only root" in error.hint
        ready.stop()

    async def test_the_place_for_another_user_goes_with_the_last_socket(self) -> None:
        directory = f"/tmp/pmdaemon-test-{os.getpid()}"
        sockets = [
            NotifyReady(reactor, f"{directory}/{name}.sock", self.told, Owner(os.getuid(), os.getgid(), []))
            for name in "ab"
        ]
        os.mkdir(directory, 0o700)  # left by a daemon that was killed when it had just made it
        for each in sockets:
            each.start()
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o711
        sockets[0].stop()
        assert os.listdir(directory) == ["b.sock"]
        sockets[1].stop()
        await deferLater(reactor, 0)
        assert not os.path.exists(directory)


class LogLines(SynchronousTestCase):
    def setUp(self) -> None:
        self.told = Told()
        self.ready = LogLineReady("listening on é", self.told)

    def see(self, *steps: Any) -> int:
        """Feed bytes; None flushes what is pending, as happens after a while."""
        splitter = LineSplitter(0)
        for step in steps:
            pieces: list[Line | None] = [splitter.flush()] if step is None else [*splitter.feed(step)]
            self.ready.seen([piece for piece in pieces if piece])
        return self.told.times

    def test_within_a_line(self) -> None:
        assert self.see(b"starting\nnow ", "listening on é, port 1\n".encode()) == 1

    def test_once(self) -> None:
        line = "listening on é\n".encode()
        assert self.see(line + line, line) == 1

    def test_not_over_two_lines(self) -> None:
        assert self.see(b"listening\non \xc3\xa9\n") == 0
        assert self.see(b"listening on ", None, b"\n\xc3\xa9\n") == 0

    def test_without_its_newline(self) -> None:
        assert self.see("listening on é".encode(), None) == 1

    def test_cut_between_pieces(self) -> None:
        assert self.see(b"x\nlisten", None, b"ing on \xc3", None, b"\xa9", None) == 1

    def test_stopped(self) -> None:
        self.ready.stop()
        assert self.see("listening on é\n".encode()) == 0
