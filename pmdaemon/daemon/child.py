"""One OS process, once: the ProcessProtocol that both a fresh and an adopted child report to.

It knows no policy: output, exit and end go to the Process that owns it.
"""

from contextlib import suppress
from typing import Protocol

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Child", "Owner", "exit_of"]

_STREAMS = {1: "stdout", 2: "stderr"}


class Owner(Protocol):
    """Who is told of a child's life."""

    def child_wrote(self, child: "Child", stream: str, data: bytes) -> None:
        """Take output as it came."""

    def child_ended(self, child: "Child", exit_code: int | None, exit_signal: int | None) -> None:
        """Take the end of the child and its whole tree; both None where nothing is known."""


class Child(ProcessProtocol):
    """A child of *owner*; ``started_at`` is in unix seconds."""

    transport: IProcessTransport | None

    def __init__(self, owner: Owner, started_at: float) -> None:
        self.owner = owner
        self.started_at = started_at
        self.alive = True
        self.pid: int | None = None

    def connectionMade(self) -> None:
        """Twisted's word for: it runs."""
        if self.transport is not None:
            self.pid = self.transport.pid

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
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(what)

    def relay(self, number: int) -> None:
        """Send a signal that is not meant to end it."""
        if self.transport is not None:
            with suppress(ProcessExitedAlready):
                getattr(self.transport, "relay_signal", self.transport.signalProcess)(number)


def exit_of(reason: Failure) -> tuple[int | None, int | None]:
    """Return exit code and signal number, each None where it does not apply or is not known."""
    if isinstance(reason.value, ProcessTerminated):
        return reason.value.exitCode, reason.value.signal
    return 0, None
