"""The daemon's door: a socket on which orders come in and answers and events go out, a line each.

What is done about an order is ``orders``'s.
"""

import socket
from collections.abc import Callable
from functools import partial

from pmdaemon.keeper.connection import Connection
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.segments import SegmentedLog
from pmdaemon.keeper.wire import Message, agree

__all__ = ["Reply", "Server"]

Reply = Callable[[Message], None]
"""Takes the answer to an order, without the number of the order: ``ok`` or ``error`` and what belongs to it."""

_RETRY = 0.1  # seconds
_GROWTH = 0.005  # seconds from one word on how far the logs go to the next
_BEHIND = 64 * 1024  # bytes that may wait for a slow daemon; with more, it is not told of logs for the while


class Server:
    """Serves whoever said hello last; ``execute`` gets each order and where its answer goes.

    All that comes up in one turn of the loop leaves in one write at its end.
    """

    def __init__(self, loop: Loop, listening: socket.socket, execute: Callable[[Message, Reply], None]) -> None:
        self._listening = listening
        self._loop = loop
        self._execute = execute
        self._connections: set[Connection] = set()
        self._daemon: Connection | None = None
        self._grown: set[SegmentedLog] = set()
        self._growth_due = False
        listening.setblocking(False)
        self._listen()

    @property
    def alone(self) -> bool:
        """Whether no daemon is there."""
        return self._daemon is None

    def tell(self, event: Message) -> None:
        """Send an event to the daemon, if there is one."""
        if self._daemon is not None:
            self._daemon.send(event)

    def grown(self, log: SegmentedLog) -> None:
        """Tell the daemon how far the log goes, as soon as it can take it."""
        if self._daemon is not None:
            self._grown.add(log)

    def flush(self) -> None:
        """Send what has come up."""
        if self._grown and not self._growth_due:
            self._tell_growth()
        for connection in list(self._connections):
            connection.flush()

    def _tell_growth(self) -> None:
        """Tell of all logs that have grown; what they grow next is told together a little later."""
        self._growth_due = False
        if self._grown and self._daemon is not None and self._daemon.behind < _BEHIND:
            for log in self._grown:
                self.tell({"ev": "log", "path": log.path, "base": log.base, "end": log.end})
            self._grown.clear()
            self._growth_due = True
            self._loop.later(_GROWTH, self._tell_growth)

    def close(self) -> None:
        """Send what is due, as far as it goes at once, and hang up."""
        self._tell_growth()
        self.flush()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._daemon = None

    def _listen(self) -> None:
        self._loop.watch(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except OSError:  # it has gone again, or too many files are open: then it would be tried for ever
            self._loop.forget(self._listening.fileno())
            self._loop.later(_RETRY, self._listen)
            return
        self._connections.add(Connection(self._loop, sock, self._received, self._lost))

    def _received(self, connection: Connection, order: Message) -> None:
        reply = partial(_reply, connection, order.get("n"))
        hello = order.get("op") == "hello"
        if hello and agree(order.get("version")) is not None:
            self._welcome(connection)
        if hello or connection is self._daemon:
            self._execute(order, reply)
        else:
            reply({"error": "hello first"})

    def _welcome(self, connection: Connection) -> None:
        before, self._daemon = self._daemon, connection
        if before is not None and before is not connection:
            self._grown.clear()
            before.close()
            self._connections.discard(before)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection is self._daemon:
            self._daemon = None
            self._grown.clear()


def _reply(connection: Connection, number: object, answer: Message) -> None:
    if number is not None:
        connection.send({"re": number, **answer})
