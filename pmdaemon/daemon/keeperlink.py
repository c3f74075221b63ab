"""The connection to the keeper: orders out in batches, answers and facts in, over its Unix socket.

What the keeper does is told in its own package; what a fact means to a process is ``kept``'s. A connection that is
lost is made again, with a new keeper where the old one has died, and what was not answered is sent again: every order
may be given twice.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Unanswered
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

__all__ = ["VERSION", "Fact", "KeeperError", "KeeperLink", "Launched"]

VERSION = 1
"""The newest version of the keeper's protocol that is spoken here."""

_LONGEST_LINE = 64 * 1024 * 1024
_PATIENCE = 10.0
_RETRY = 0.05
_LATER = 5.0

Fact = Mapping[str, Any]


class KeeperError(Exception):
    """The keeper cannot be had, or refused an order; ``answer`` is what it said."""

    def __init__(self, message: str, answer: Fact | None = None) -> None:
        super().__init__(message)
        self.answer = dict(answer or {})


class Launched(Protocol):
    """A keeper that was started."""

    def failure(self) -> str | None:
        """Return why it has ended again, None while it runs or where another one has the home."""


class _Order:
    def __init__(self, fields: dict[str, Any], done: "Deferred[Fact] | None") -> None:
        self.fields = fields
        self.done = done


class _Wire(LineOnlyReceiver):
    """One connection. Its ``questions`` are those of the greeting, which are no orders and are not asked again."""

    delimiter = b"\n"
    MAX_LENGTH = _LONGEST_LINE

    def __init__(self, link: "KeeperLink") -> None:
        self._link = link
        self.questions: dict[int, Deferred[Fact]] = {}

    def ask(self, number: int, op: str, **fields: Any) -> "Deferred[Fact]":
        """Send a question of the greeting; fires with its answer."""
        answered = self.questions[number] = Deferred()
        self.send({"op": op, "n": number, **fields})
        return answered

    def send(self, message: Fact) -> None:
        """Send one line, now as far as the socket takes it: clients are told only of what was ordered before."""
        if self.transport is not None:
            self.transport.write(_line(message))
            self.transport.doWrite()  # type: ignore[attr-defined]  # a socket has it

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        self._link.heard(self, line)

    def connectionLost(self, reason: Failure | None = None) -> None:
        questions, self.questions = self.questions, {}
        for question in questions.values():
            question.errback(ConnectionError("it hung up"))
        self._link.lost(self)


class KeeperLink:
    """Talks to the keeper of one home.

    *launch* starts a keeper process and returns at once, or raises OSError; *ahead* is called before orders leave, to
    make last what they follow from. *fact* is called with each event of the keeper; *again* with its state after a
    connection was made anew, before anything is sent again.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        path: str,
        *,
        launch: Callable[[], Launched],
        ahead: Callable[[], None],
        fact: Callable[[Fact], None],
        again: Callable[[Fact], None],
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._path = path
        self._launch = launch
        self._ahead = ahead
        self._fact = fact
        self._again = again
        self._wire: _Wire | None = None
        self._launched: Launched | None = None
        self._number = 0
        self._unanswered: dict[int, _Order] = {}
        self._outgoing: list[dict[str, Any]] = []
        self._due = False
        self._leaving = False

    async def connect(self) -> Fact:
        """Connect, launching a keeper where none answers, and return its state. Raises KeeperError after 10 s."""
        until = self._clock.seconds() + _PATIENCE
        launched: Launched | None = None
        while True:
            try:
                return await self._greet(max(_RETRY, until - self._clock.seconds()))
            except KeeperError:
                raise
            except Exception as why:  # whatever kept it from answering: those of endpoints are of several families
                problem = f"cannot reach the keeper at {self._path}: {why or 'it does not answer'}"
            if launched is None:
                launched = self._begin()
            elif (ended := launched.failure()) is not None:
                raise KeeperError(f"cannot start the keeper: {ended}")
            if self._clock.seconds() >= until or self._leaving:
                raise KeeperError(problem)
            await self._pause(_RETRY)

    def _begin(self) -> Launched:
        if self._launched is not None:
            self._launched.failure()  # so that the system may forget it
        try:
            self._launched = self._launch()
        except OSError as why:
            raise KeeperError(f"cannot start the keeper: {why.strerror or why}: {why.filename}") from why
        return self._launched

    async def _greet(self, patience: float) -> Fact:
        """Connect and agree on a version; the connection is in use when its state has come."""
        factory = Factory.forProtocol(partial(_Wire, self))
        factory.noisy = False
        endpoint = UNIXClientEndpoint(self._reactor, self._path)
        wire: _Wire = await endpoint.connect(factory).addTimeout(patience, self._clock)
        try:
            hello = await wire.ask(self._next(), "hello", version=VERSION).addTimeout(patience, self._clock)
            if "error" in hello:
                raise KeeperError(_strange(hello), hello)
            state = await wire.ask(self._next(), "state").addTimeout(patience, self._clock)
        except BaseException:
            wire.close()
            raise
        self._wire = wire
        return state["ok"]  # type: ignore[no-any-return]  # the keeper's word

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
        self._ahead()
        orders, self._outgoing = self._outgoing, []
        self._wire.send({"orders": orders})

    def leave(self) -> None:
        """Let go: the keeper and all it keeps go on."""
        self.flush()
        self._leaving = True
        if self._wire is not None:
            self._wire.close()

    async def quit(self) -> None:
        """Have the keeper end, as nothing is left for it to keep, and let go of it."""
        if self._wire is not None:
            with suppress(KeeperError, Unanswered):
                await self.order("quit").addTimeout(_PATIENCE, self._clock)
        self.leave()

    def _give(self, order: _Order) -> None:
        number = order.fields["n"] = self._next()
        self._unanswered[number] = order
        self._outgoing.append(order.fields)
        if not self._due:
            self._due = True
            self._clock.callLater(0, self.flush)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def heard(self, wire: _Wire, line: bytes) -> None:
        """Take one line of the keeper; one that makes no sense is told and left alone."""
        try:
            message = _message(line)
        except ValueError:
            self._log.error("the keeper says what is no message: {line!r}", line=line[:200])
            return
        question = wire.questions.pop(message.get("re", 0), None)
        if question is not None:
            question.callback(message)
        elif wire is self._wire:  # until then, the state tells all that has happened
            self._take(message)

    def _take(self, message: Fact) -> None:
        if "re" in message:
            self._answered(message)
        elif "ev" in message:
            try:
                self._fact(message)
            except Exception:  # one fact that cannot be dealt with does not keep the others from being heard
                self._log.failure("cannot deal with what the keeper tells: {fact}", fact=message)
        else:
            self._log.error("the keeper does not understand: {message}", message=message)

    def _answered(self, message: Fact) -> None:
        order = self._unanswered.pop(message["re"], None)
        if order is None or order.done is None:
            return
        if "error" in message:
            order.done.errback(KeeperError(f"the keeper refused {order.fields['op']}: {message['error']}", message))
        else:
            order.done.callback(message)

    def lost(self, wire: _Wire) -> None:
        """The connection broke; unless it was we who left, make it again."""
        if wire is not self._wire:
            return
        self._wire = None
        if not self._leaving:
            self._log.warn("the connection to the keeper is lost, making it again")
            Deferred.fromCoroutine(self._reconnect()).addErrback(
                lambda why: self._log.failure("cannot go on with the keeper", why)
            )

    async def _reconnect(self) -> None:
        state = await self._insist()
        if state is None:
            return
        self._again(state)
        self._outgoing = [order.fields for order in self._unanswered.values()]
        self.flush()

    async def _insist(self) -> Fact | None:
        """Connect, however long that takes; None where the daemon leaves meanwhile."""
        while not self._leaving:
            try:
                return await self.connect()
            except KeeperError as why:
                self._log.critical("{why}; the processes go on, but none can be started or stopped", why=str(why))
                await self._pause(_LATER)
        return None

    def _pause(self, seconds: float) -> "Deferred[None]":
        over: Deferred[None] = Deferred()
        self._clock.callLater(seconds, over.callback, None)
        return over


def _line(message: Fact) -> bytes:
    """Return the line of a message: what is no text, in a path or a variable, is in it as the lone surrogates it is."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError:
        return json.dumps(message).encode() + b"\n"


def _message(line: bytes) -> dict[str, Any]:
    """Return the message of a line. Raises ValueError."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("not an object") from None
        return message


def _strange(hello: Fact) -> str:
    """Word that a keeper speaks nothing that is understood here."""
    keeper = hello.get("keeper") or {}
    versions = "-".join(str(number) for number in keeper.get("versions", ["?"]))
    return (
        f"cannot talk to the keeper with pid {keeper.get('pid')}: it speaks version {versions} of the protocol, "
        f"this daemon {VERSION}; start the daemon's version that started it, and stop that in order"
    )
