"""One connection to the keeper: bytes in become orders, messages become bytes out, without waiting for either."""

import socket
from collections.abc import Callable

from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.wire import Malformed, Message, decode, encode

__all__ = ["Connection"]

_CHUNK = 1 << 20
_ENOUGH = 8 * 1024  # bytes, some dozens of ends
_LONGEST = 64 << 20  # bytes of a line


class Connection:
    """``received(connection, order)`` is called for each order, ``lost(connection)`` once, unless `close` was."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[["Connection", Message], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._received = received
        self._lost = lost
        self._in = bytearray()
        self._out = bytearray()
        self._full = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), self._ready)

    @property
    def behind(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._out)

    @property
    def open(self) -> bool:
        """Whether it can still be spoken to."""
        return self._sock.fileno() >= 0

    def send(self, message: Message) -> None:
        """Have it sent with the next `flush`, or now with what waits already if that has become much."""
        if self.open:
            self._out += encode(message)
            if len(self._out) >= _ENOUGH:
                self.flush()  # so that the daemon works on it while there is more to come in this turn

    def flush(self) -> None:
        """Send as much as it takes now."""
        if self._full or not self._out or not self.open:
            return
        try:
            del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        self._watch(full=bool(self._out))

    def close(self) -> None:
        """Hang up."""
        if self.open:
            self._loop.forget(self._sock.fileno())
            self._sock.close()

    def _watch(self, *, full: bool) -> None:
        if full is not self._full:
            self._full = full
            self._loop.watch(self._sock.fileno(), self._ready, writing=full)

    def _ready(self) -> None:
        """It can be read or, after it could not, be written to: trying tells which."""
        if self._full:
            self._full = False
            self.flush()
            if not self._out and self.open:
                self._loop.watch(self._sock.fileno(), self._ready)
        if self.open:
            self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._in) + len(data) > _LONGEST:
            self._end()
            return
        self._in += data
        if b"\n" in data:
            *lines, rest = bytes(self._in).split(b"\n")
            self._in = bytearray(rest)
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            orders = decode(line)
        except Malformed as problem:
            self.send({"error": f"malformed: {problem}"})
            return
        for order in orders:
            self._received(self, order)

    def _end(self) -> None:
        self.close()
        self._lost(self)
