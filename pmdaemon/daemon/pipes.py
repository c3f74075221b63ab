"""The daemon's end of a child's output pipe."""

import os
from collections.abc import Callable
from typing import IO, Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["OutputPipe"]

_CHUNK = 1 << 16  # bytes, what a pipe holds


@implementer(IReadDescriptor)
class OutputPipe:
    """Hands over what comes out of ``file`` as it comes, until its end or until it is closed."""

    def __init__(self, reactor: Any, file: IO[bytes], received: Callable[[bytes], None]) -> None:
        self._reactor = reactor
        self._file = file
        self._received = received
        os.set_blocking(file.fileno(), False)
        reactor.addReader(self)

    def drain(self, limit: int) -> None:
        """Hand over at once what the pipe holds, about ``limit`` bytes at most: somebody may still be writing."""
        while not self._file.closed and limit > 0:
            size = self._read()
            if size is None:
                self.close()
            if not size:
                return
            limit -= size

    def close(self) -> None:
        """Read no more; a writer gets SIGPIPE. Again does nothing."""
        if not self._file.closed:
            self._reactor.removeReader(self)
            self._file.close()

    def fileno(self) -> int:
        """The descriptor the reactor watches; -1 when closed."""
        return -1 if self._file.closed else self._file.fileno()

    def doRead(self) -> Any:  # an exception or None, which is what reactors take; the interface says a Failure
        """Read once; the reactor calls again while there is more, and `connectionLost` at the end."""
        return CONNECTION_DONE if self._read() is None else None

    def connectionLost(self, reason: Failure) -> None:
        """The reactor will not call again."""
        self.close()

    def logPrefix(self) -> str:
        """What the reactor names it by when it logs an error."""
        return type(self).__name__

    def _read(self) -> int | None:
        """The number of bytes handed over, 0 when there are none now, None at the end."""
        try:
            data = os.read(self.fileno(), _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        if not data:
            return None
        self._received(data)
        return len(data)
