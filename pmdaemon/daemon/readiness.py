"""How a child shows that it is ready, other than by running or by its health check [P8].

Each calls ``on_ready`` once, and never after `stop`. How long it may take is not known here.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError, ConnectingCancelledError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pmdaemon.core.lines import Line
from pmdaemon.daemon.touch import touch
from pmdaemon.errors import OperationFailed
from pmdaemon.keeper.identity import Owner

__all__ = ["LogLineReady", "NotifyReady", "PortReady"]

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 0.25  # seconds between tries to connect; doubled each time


class PortReady:
    """Ready when somebody listens on ``port`` of the loopback interface, IPv4 or IPv6."""

    _log = Logger()

    def __init__(self, reactor: Any, port: int, on_ready: Callable[[], None]) -> None:
        self._reactor = reactor
        self._endpoints = (
            TCP4ClientEndpoint(reactor, "127.0.0.1", port),
            TCP6ClientEndpoint(reactor, "::1", port),
        )
        self._on_ready = on_ready
        self._stopped = False
        self._trying: Deferred[None] | None = None

    def start(self) -> None:
        """Try now, and from time to time until it is ready."""
        self._trying = Deferred.fromCoroutine(self._try()).addErrback(self._failed)

    def stop(self) -> None:
        """Try no more."""
        self._stopped = True
        if self._trying is not None:
            self._trying.cancel()

    async def _try(self) -> None:
        wait = _FIRST_WAIT
        while not await self._somebody_listens():
            if self._stopped:
                return
            await deferLater(self._reactor, wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        if not self._stopped:
            self._on_ready()

    async def _somebody_listens(self) -> bool:
        for endpoint in self._endpoints:
            with suppress(ConnectError, ConnectingCancelledError):
                await touch(self._reactor, endpoint)
                return True
        return False

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("cannot watch a port", failure)


class NotifyReady:
    """Ready when the child sends ``READY=1`` to the socket at ``path``, its NOTIFY_SOCKET; see sd_notify(3).

    Only our own user can send to it, or *owner*, for whom the directory is made where there is none.
    """

    def __init__(self, reactor: Any, path: str, on_ready: Callable[[], None], owner: Owner | None = None) -> None:
        self._reactor = reactor
        self._path = path
        self._owner = owner
        self._on_ready: Callable[[], None] | None = on_ready
        self._port: Any = None

    def start(self) -> None:
        """Listen from now on, so before the child starts; raises OperationFailed."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)  # left by a daemon that was killed
        try:
            if self._owner is not None:
                _make_public(os.path.dirname(self._path))
            self._port = self._reactor.listenUNIXDatagram(self._path, _Notified(self._received), mode=0o600)
            if self._owner is not None:
                os.chown(self._path, self._owner.uid, self._owner.gid)
        except CannotListenError as problem:
            hint = "choose a shorter home directory if its path is long"
            raise self._cannot_listen(problem.socketError, hint) from problem
        except OSError as problem:
            hint = "an app of another user has to get to it: only root can see to that"
            raise self._cannot_listen(problem.strerror, hint) from problem

    def _cannot_listen(self, reason: object, hint: str) -> OperationFailed:
        return OperationFailed(f"cannot listen for readiness on {self._path!r}: {reason}", hint=hint)

    def stop(self) -> None:
        """Remove the socket."""
        self._on_ready = None
        if self._port is not None:
            self._port.stopListening()
            self._port = None
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        if self._owner is not None:
            with suppress(OSError):  # others are in it, or it could not be made
                os.rmdir(os.path.dirname(self._path))

    def _received(self, message: bytes) -> None:
        if self._on_ready is not None and b"READY=1" in message.split(b"\n"):
            on_ready, self._on_ready = self._on_ready, None
            on_ready()


def _make_public(directory: str) -> None:
    """Make a directory whose files everybody gets to who may and knows their names."""
    with suppress(FileExistsError):
        os.mkdir(directory)
    os.chmod(directory, 0o711)  # whatever the umask is


class _Notified(DatagramProtocol):
    noisy = False

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received(datagram)


class LogLineReady:
    """Ready when a line of output holds ``text``; the lines are given to it."""

    def __init__(self, text: str, on_ready: Callable[[], None]) -> None:
        self._text = text.encode()
        self._on_ready: Callable[[], None] | None = on_ready
        self._begun = b""  # of a line of which only pieces have come
        self._offset = 0

    def stop(self) -> None:
        """Look at no more lines."""
        self._on_ready = None

    def seen(self, lines: list[Line]) -> None:
        """Look at lines and pieces of lines; a text that is cut between pieces is found."""
        for line in lines:
            if self._on_ready is not None and self._text in self._whole(line):
                on_ready, self._on_ready = self._on_ready, None
                on_ready()

    def _whole(self, line: Line) -> bytes:
        follows = (line.offset, line.sent) == (self._offset, len(self._begun))
        data = self._begun + line.data if follows else line.data
        self._begun, self._offset = (data if line.partial else b""), line.offset
        return data
