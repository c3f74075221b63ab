"""The connection to the keeper: orders out in batches, answers and facts in, over its Unix socket.

What the keeper does is told in its own package; what a fact means to a process is ``kept``'s. A connection that is
lost is made again, with a new keeper where the old one has died, and what was not answered is sent again: every order
may be given twice.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

__all__ = ["VERSION", "KeeperError", "KeeperLink"]

VERSION = 1
"""The newest version of the keeper's protocol that is spoken here."""

_LONGEST_LINE = 64 * 1024 * 1024
_PATIENCE = 10.0
_RETRY = 0.05

Fact = Mapping[str, Any]


class KeeperError(Exception):
    """The keeper cannot be had, or refused an order; ``answer`` is what it said."""

    def __init__(self, message: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = dict(answer or {})


class _Order:
    def __init__(self, fields: dict[str, Any], done: "Deferred[Fact] | None") -> None:
        self.fields = fields
        self.done = done


class _Wire(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = _LONGEST_LINE

    def __init__(self, link: "KeeperLink") -> None:
        self._link = link

    def lineReceived(self, line: bytes) -> None:
        self._link.heard(msgspec.json.decode(line))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._link.lost()


class KeeperLink:
    """Talks to the keeper of one home.

    *launch* starts a keeper process and returns at once; *fact* is called with each event of the keeper; *again* is
    called with the keeper's state after a connection was made anew, before anything is sent again.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: str,
        *,
        launch: Callable[[], None],
        fact: Callable[[Fact], None],
        again: Callable[[Fact], None],
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._path = path
        self._launch = launch
        self._fact = fact
        self._again = again
        self._wire: _Wire | None = None
        self._number = 0
        self._unanswered: dict[int, _Order] = {}
        self._outgoing: list[dict[str, Any]] = []
        self._due = False
        self._leaving = False

    async def connect(self) -> Fact:
        """Connect, launching a keeper where none answers, and return its state. Raises KeeperError after 10 s."""
        until = self._clock.seconds() + _PATIENCE
        launched = False
        while True:
            try:
                self._wire = await connectProtocol(UNIXClientEndpoint(self._reactor, self._path), _Wire(self))
                break
            except Exception as why:  # whatever kept it from answering
                if not launched:
                    launched = True
                    self._launch()
                if self._clock.seconds() > until:
                    raise KeeperError(f"cannot reach the keeper at {self._path}: {why}") from why
                await self._pause(_RETRY)
        hello = await self._ask({"op": "hello", "version": VERSION})
        if "error" in hello:
            raise KeeperError(f"cannot talk to the keeper: {hello['error']}", hello)
        return (await self._ask({"op": "state"}))["ok"]  # type: ignore[no-any-return]  # the keeper's word

    def order(self, op: str, **fields: Any) -> "Deferred[Fact]":
        """Give an order at the end of this turn; fires with the answer, fails with KeeperError where it is an error."""
        done: Deferred[Fact] = Deferred()
        self._give(_Order({"op": op, **fields}, done))
        return done

    def post(self, op: str, **fields: Any) -> None:
        """Give an order nobody waits for."""
        self._give(_Order({"op": op, **fields}, None))

    def flush(self) -> None:
        """Send the orders given so far in one write."""
        self._due = False
        if self._wire is None or not self._outgoing:
            return
        orders, self._outgoing = self._outgoing, []
        self._send({"orders": orders})

    def leave(self) -> None:
        """Let go: the keeper and all it keeps go on."""
        self.flush()
        self._leaving = True
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.loseConnection()

    def _give(self, order: _Order) -> None:
        self._number += 1
        order.fields["n"] = self._number
        self._unanswered[self._number] = order
        self._outgoing.append(order.fields)
        if not self._due:
            self._due = True
            self._clock.callLater(0, self.flush)

    def _ask(self, fields: dict[str, Any]) -> "Deferred[Fact]":
        """Ask outside of the queue, as only a new connection does."""
        self._number += 1
        done: Deferred[Fact] = Deferred()
        self._unanswered[self._number] = _Order(fields, done)
        self._send({**fields, "n": self._number})
        return done

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._wire is not None and self._wire.transport is not None:
            self._wire.transport.write(msgspec.json.encode(message) + b"\n")

    def heard(self, message: Fact) -> None:
        """Take one line of the keeper."""
        if "re" not in message:
            self._fact(message)
            return
        order = self._unanswered.pop(message["re"], None)
        if order is None or order.done is None:
            return
        if "error" in message and order.fields["op"] != "hello":
            order.done.errback(KeeperError(f"the keeper refused {order.fields['op']}", message))
        else:
            order.done.callback(message)

    def lost(self) -> None:
        """The connection broke; unless it was we who left, make it again."""
        self._wire = None
        if not self._leaving:
            self._log.warn("the keeper is gone, starting another one")
            Deferred.fromCoroutine(self._reconnect()).addErrback(self._hopeless)

    async def _reconnect(self) -> None:
        unanswered, self._unanswered, self._outgoing = self._unanswered, {}, []
        state = await self.connect()
        self._again(state)
        self._unanswered.update(unanswered)
        self._outgoing = [order.fields for order in unanswered.values()]
        self.flush()

    def _hopeless(self, failure: Failure) -> None:
        self._log.critical("{why}", why=str(failure.value))

    def _pause(self, seconds: float) -> "Deferred[None]":
        over: Deferred[None] = Deferred()
        self._clock.callLater(seconds, over.callback, None)
        return over
