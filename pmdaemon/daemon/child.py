"""One OS process, once: the ProcessProtocol that both a fresh and an adopted child report to.

It knows no policy: output, exit and end go to the Process that owns it.
"""

from contextlib import suppress
from signal import Signals
from typing import Protocol

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Child", "Owner", "exit_of", "signal_name"]

_STREAMS = {1: "stdout", 2: "stderr"}


class Owner(Protocol):
    """Who is told of a child's life."""

    def child_started(self, child: "Child") -> None:
        """Take it that the program runs: exec has succeeded, or it was running when the daemon came."""

    def child_wrote(self, child: "Child", stream: str, data: bytes) -> None:
        """Take output as it came."""

    def child_ended(self, child: "Child", exit_code: int | None, exit_signal: int | None) -> None:
        """Take the end of the child and its whole tree; both None where nothing is known."""


class Child(ProcessProtocol):
    """A child of *owner*; ``started_at`` and ``ended_at`` are unix seconds, the latter where its transport knows it.

    An *adopted* one was started by an earlier daemon.
    """

    _log = Logger()
    transport: IProcessTransport | None

    def __init__(self, owner: Owner, started_at: float, *, adopted: bool = False) -> None:
        self.owner = owner
        self.started_at = started_at
        self.ended_at: float | None = None
        self.adopted = adopted
        self.alive = True
        self.pid: int | None = None

    def connectionMade(self) -> None:
        """Twisted's word for: it runs."""
        if self.transport is not None:
            self.pid = self.transport.pid
        self.owner.child_started(self)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Pass output on."""
        self.owner.child_wrote(self, _STREAMS[childFD], data)

    def processEnded(self, reason: Failure) -> None:
        """Pass the end on; the transport calls this when nothing of the tree is left."""
        self.alive = False
        code, signal = exit_of(reason)
        self.owner.child_ended(self, code, signal)

    def signal(self, what: str | int) -> None:
        """Ask it to end; a child that is gone in the meantime is none of the caller's trouble."""
        if self.transport is None:
            return
        try:
            self.transport.signalProcess(what)
        except ProcessExitedAlready:
            return
        except PermissionError:
            self._log.warn("cannot signal process {pid}: it became another user's", pid=self.pid)

    def relay(self, number: int) -> None:
        """Send a signal that is not meant to end it. Raises PermissionError where it became another user's."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                getattr(self.transport, "relay_signal", self.transport.signalProcess)(number)


def signal_name(number: int) -> str:
    """Return the name of a signal, as far as it has one."""
    try:
        return Signals(number).name
    except ValueError:
        return f"SIG{number}"


def exit_of(reason: Failure) -> tuple[int | None, int | None]:
    """Return exit code and signal number, each None where it does not apply or is not known."""
    if isinstance(reason.value, ProcessTerminated):
        return reason.value.exitCode, reason.value.signal
    return 0, None
