"""One connection of the blocking client: websockets' protocol without its I/O, and a socket.

It reads when somebody waits for something, and not before: no thread, nothing read ahead, and less to import than with
the library's own blocking connection; importing is most of what a short command takes.
"""

import socket
import time
from collections import deque
from math import inf
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from pmdaemon.client.address import Address, unix_socket, unreachable
from pmdaemon.client.messages import refusal
from pmdaemon.client.settings import LARGEST, OPENING, headers

__all__ = ["Wire"]

_CHUNK: Final = 65536
_QUIET: Final = 20.0
"""Seconds without a byte after which the daemon is asked whether it is there, and after as many more it is not."""


class Wire:
    """An open connection. ``receive`` and ``send`` are for one thread; another may ``close`` it."""

    def __init__(self, connected: socket.socket, protocol: ClientProtocol) -> None:
        self._socket = connected
        self._protocol = protocol
        self._texts: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._heard = time.monotonic()
        self._asked = False

    @classmethod
    def open(cls, address: Address) -> "Wire":
        """Connect. Raises NoDaemon, or why the daemon refuses it."""
        try:
            connected = _connected(address)
        except OSError as why:
            raise unreachable(str(address), why) from why
        wire = cls(connected, ClientProtocol(parse_uri(address.url), max_size=LARGEST))
        try:
            wire._shake_hands(address)
        except InvalidStatus as why:
            wire._socket.close()
            raise refusal(why.response.status_code, bytes(why.response.body or b""), address) from why
        except (OSError, WebSocketException) as why:
            wire._socket.close()
            raise unreachable(str(address), why) from why
        return wire

    def _shake_hands(self, address: Address) -> None:
        protocol = self._protocol
        request = protocol.connect()
        for name, value in headers(address).items():
            request.headers[name] = value
        protocol.send_request(request)
        self._flush()
        until = time.monotonic() + OPENING
        while protocol.state is State.CONNECTING:
            self._read(max(0.001, until - time.monotonic()))
            if protocol.handshake_exc is not None:
                raise protocol.handshake_exc

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known at this moment."""
        try:
            while self._read(0.0):
                pass
        except OSError:
            pass
        return self._protocol.state is State.OPEN

    def send(self, text: bytes) -> None:
        """Send one text frame. Raises ConnectionClosed."""
        if self._protocol.state is not State.OPEN:
            self._end()
        self._protocol.send_text(text)
        self._flush()

    def receive(self, timeout: float = inf) -> bytes:
        """Return the next text frame. Raises ConnectionClosed, and TimeoutError after *timeout* seconds."""
        until = time.monotonic() + timeout
        while not self._texts:
            if self._protocol.state is State.CLOSED:
                raise self._protocol.close_exc
            now = time.monotonic()
            left = until - now
            if left <= 0:
                raise TimeoutError
            due = self._heard + (2 if self._asked else 1) * _QUIET
            if due <= now:
                self._ask()
            else:
                self._read(min(left, due - now))
        return self._texts.popleft()

    def close(self) -> None:
        """Say good-bye, without waiting long, and close."""
        try:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
                self._flush()
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def _ask(self) -> None:
        """Ask whether the daemon is there; the second time without an answer it is not."""
        if self._asked:
            self._end()
            return
        self._asked = True
        self._protocol.send_ping(b"")
        self._flush()

    def _end(self) -> None:
        """The connection is gone, whatever the other side thinks of it."""
        self._socket.close()
        self._protocol.receive_eof()
        self._take()
        raise self._protocol.close_exc

    def _read(self, timeout: float) -> bool:
        """Read what is there, for at most *timeout* seconds; False where nothing came."""
        if self._protocol.state is State.CLOSED:
            return False
        try:
            self._socket.settimeout(timeout)
            data = self._socket.recv(_CHUNK)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:  # reset by the daemon, or closed by another thread
            data = b""
        self._heard, self._asked = time.monotonic(), False
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()
        self._take()
        return bool(data)

    def _flush(self) -> None:
        """Send what the protocol has to say, such as an answer to a ping."""
        for data in self._protocol.data_to_send():
            try:
                self._socket.settimeout(OPENING)
                if data:
                    self._socket.sendall(data)
                else:
                    self._socket.shutdown(socket.SHUT_WR)
            except OSError:  # the reader finds out what became of it
                return

    def _take(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    self._texts.append(b"".join(self._parts))
                    self._parts = []


def _connected(address: Address) -> socket.socket:
    if address.socket:
        return unix_socket(address.socket, OPENING)
    uri = parse_uri(address.url)
    connected = socket.create_connection((uri.host, uri.port), OPENING)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not uri.secure:
        return connected
    import ssl  # for who needs it

    try:
        return ssl.create_default_context().wrap_socket(connected, server_hostname=uri.host)
    except OSError:
        connected.close()
        raise
