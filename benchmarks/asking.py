"""A client of the daemon that is measured: gives a command and waits until it is done, or counts the lines it gets."""

import json
import re
import time
from socket import SHUT_RDWR, create_connection
from threading import Thread

from websockets.client import ClientProtocol
from websockets.sync.client import connect
from websockets.uri import parse_uri

from benchmarks.daemon import Daemon

__all__ = ["Listener", "done"]

_LINE, _GAP = b'"type":"log_message"', re.compile(rb'"dropped":(\d+)')
_MESSAGE = b'{"type":'


def done(daemon: Daemon, action: str) -> float:
    """Have *action* carried out on all processes; return how many seconds that took, to the reply."""
    request = {"type": "command", "id": action, "data": {"action": action, "process": "all"}}
    with connect(f"ws://localhost:{daemon.port()}/ws", max_size=None) as socket:
        begun = time.monotonic()
        socket.send(json.dumps(request))
        while (reply := json.loads(socket.recv(60))).get("reply_to") != action:
            pass
        taken = time.monotonic() - begun
    if reply["type"] != "command_result":
        raise RuntimeError(f"cannot {action}: {reply}")
    return taken


class Listener:
    """Follows all logs and counts the lines that come and those that it is told it has missed.

    It takes no message apart, so that it costs little beside the daemon. What is logged must not look like a message.
    """

    def __init__(self, daemon: Daemon) -> None:
        port = daemon.port()
        self._socket = create_connection(("127.0.0.1", port), 60)
        self._lines = self._dropped = 0
        self._rest = b""
        protocol = ClientProtocol(parse_uri(f"ws://localhost:{port}/ws"))
        protocol.send_request(protocol.connect())
        self._socket.sendall(b"".join(protocol.data_to_send()))
        protocol.receive_data(self._socket.recv(4096))
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        protocol.send_text(json.dumps({"type": "subscribe", "data": {"events": ["log_message"]}}).encode())
        self._socket.sendall(b"".join(protocol.data_to_send()))
        while b'"subscribed"' not in self._socket.recv(1 << 16):
            pass
        self._thread = Thread(target=self._read)
        self._thread.start()

    @property
    def told(self) -> tuple[int, int]:
        """How many lines have come, and how many it was told are missing."""
        lines, dropped = _counted(self._rest)
        return self._lines + lines, self._dropped + dropped

    def close(self) -> None:
        """Read no more."""
        self._socket.shutdown(SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while data := self._socket.recv(1 << 18):
            data = self._rest + data
            # The last message may not be whole.
            cut = max(0, data.rfind(_MESSAGE))
            lines, dropped = _counted(data[:cut])
            self._rest = data[cut:]
            self._lines += lines
            self._dropped += dropped


def _counted(data: bytes) -> tuple[int, int]:
    return data.count(_LINE), sum(map(int, _GAP.findall(data)))
