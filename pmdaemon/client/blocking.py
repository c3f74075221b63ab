"""The client for code that blocks: requests on one connection, and each subscription on one of its own.

It is lean to import, for programs that ask one thing and end: no asyncio.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.exceptions import ConnectionClosed

from pmdaemon.client.address import Address, locate
from pmdaemon.client.errors import ConnectionLost, NoDaemon
from pmdaemon.client.messages import Message, decode, encode, result
from pmdaemon.client.resume import Resume
from pmdaemon.client.settings import lost, patience, subscription
from pmdaemon.client.wire import Wire
from pmdaemon.core.commands import (
    Command,
    GetConfig,
    GetCrash,
    GetEvents,
    GetHistory,
    GetInfo,
    GetLogs,
    GetSystem,
    Ping,
    Request,
    Selector,
)
from pmdaemon.core.info import ProcessObject, SystemInfo
from pmdaemon.core.past import Crash
from pmdaemon.errors import PMDaemonError, TimedOut
from pmdaemon.protocol.replies import (
    CommandResult,
    Config,
    CrashReply,
    Events,
    History,
    Logs,
    Pong,
    ProcessInfo,
    SystemReply,
)

__all__ = ["BlockingClient", "BlockingSubscription"]

T = TypeVar("T")


class BlockingClient:
    """A client of one daemon; threads may share it, and then ask one after another.

    It connects when it is first asked something, and anew when the connection has broken since. Where the daemon is,
    `locate` says. Every method raises `NoDaemon`, `ConnectionLost`, and what the daemon answers; ``TimedOut`` where
    no reply comes for ``timeout`` seconds, for a command that many after the time it may take.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        home: str | None = None,
        token: str | None = None,
        address: Address | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.address = address or locate(url, home, token)
        self.timeout = timeout
        self._connection: Wire | None = None
        self._numbers = itertools.count(1)
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; its subscriptions have their own."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # Asking

    def processes(self, selector: Selector | None = None) -> list[ProcessObject]:
        """Return the processes that ``selector`` means, else all, with ``config`` and ``logs``."""
        found: list[ProcessObject] = []
        cursor = None
        while True:
            page = self.request(GetInfo(process=selector, cursor=cursor), ProcessInfo)
            found += page.processes or page.instances or []
            cursor = page.cursor
            if not page.more:
                return found

    def system(self) -> SystemInfo:
        """Return the figures of the machine and of the daemon."""
        return self.request(GetSystem(), SystemReply)

    def logs(self, request: GetLogs) -> Logs:
        """Return one page of lines."""
        return self.request(request, Logs)

    def events(self, request: GetEvents) -> Events:
        """Return one page of events."""
        return self.request(request, Events)

    def history(self, request: GetHistory) -> History:
        """Return figures of one process."""
        return self.request(request, History)

    def crash(self, selector: Selector) -> Crash | None:
        """Return the latest crash of one process, or None where there was none."""
        return self.request(GetCrash(process=selector), CrashReply).crash

    def config(self, selector: Selector, *, secrets: bool = False) -> Config:
        """Return the configuration of one app; with ``secrets`` as it is kept, values of ``env`` included."""
        return self.request(GetConfig(process=selector, secrets=secrets or None), Config)

    def ping(self) -> None:
        """Return when the daemon has answered."""
        self.request(Ping(), Pong)

    def command(self, command: Command) -> CommandResult:
        """Have something done, and return when it is done, or accepted where its ``wait`` is False."""
        return self.request(command, CommandResult)

    def request(self, request: Request, answer: type[T]) -> T:
        """Ask anything, and return the reply's data, which is an ``answer``: the named methods do this."""
        for outcome in self.each([request], answer):
            if isinstance(outcome[1], PMDaemonError):
                raise outcome[1]
            return outcome[1]
        raise AssertionError("each request has an outcome")

    def each(self, requests: Sequence[Request], answer: type[T]) -> Iterator[tuple[int, T | PMDaemonError]]:
        """Ask all of ``requests`` at once, and yield the index and the outcome of each as it comes.

        What breaks the connection is the outcome of all that had none yet.
        """
        with self._turn:
            numbers = {str(next(self._numbers)): index for index, request in enumerate(requests)}
            limit = max((patience(request, self.timeout) for request in requests), default=0.0)
            until = time.monotonic() + limit
            try:
                connection = self._connected()
                for number, index in numbers.items():
                    connection.send(encode(requests[index], number))
                while numbers:
                    message = decode(connection.receive(until - time.monotonic()))
                    answered = numbers.pop(str(message.reply_to), None)
                    if answered is not None:
                        yield answered, _outcome(message, answer)
            except TimeoutError:
                self.close()
                why: PMDaemonError = TimedOut(f"cannot get an answer: none came within {limit:.0f} s")
            except ConnectionClosed as closed:
                self.close()
                why = ConnectionLost(f"cannot tell whether it was done: {lost(closed)}")
            except PMDaemonError as failed:
                self.close()
                why = failed
            else:
                return
            for index in numbers.values():
                yield index, why

    def _connected(self) -> Wire:
        if self._connection is not None and not self._connection.is_open:
            self.close()
        if self._connection is None:
            self._connection = Wire.open(self.address)
        return self._connection

    # Listening

    def subscribe(
        self,
        events: Iterable[str],
        processes: Iterable[Selector] | None = None,
        *,
        patience: float | None = None,
        **options: Any,
    ) -> "BlockingSubscription":
        """Return what iterates over the messages of a subscription; see `BlockingSubscription`.

        ``options`` are those of ``subscribe``: ``interval`` in ms, ``since``, ``tail``, ``level``, ``stream``,
        ``grep``, ``regex``. A daemon that is away for more than ``patience`` seconds is NoDaemon, None for never; one
        that is not there to begin with is so at once.
        """
        return BlockingSubscription(self.address, Resume(subscription(events, processes, options), patience))


class BlockingSubscription:
    """Iterates over the messages of one subscription, and connects anew when that is needed.

    Nothing is read ahead but what the connection holds, which is bounded: who is slow is told by the daemon, as
    `LogGap`. It is for one thread; another may close it. What cannot be mended by waiting, such as a token that was
    taken back, is raised, and ends it.
    """

    def __init__(self, address: Address, resume: Resume) -> None:
        self._address = address
        self._resume = resume
        self._connection: Wire | None = None
        self._ready: deque[Message] = deque()
        self._closed = threading.Event()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self.receive()
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message, or None when it is closed. Raises TimeoutError after ``timeout`` seconds."""
        until = inf if timeout is None else time.monotonic() + timeout
        while not self._ready and not self._closed.is_set():
            try:
                self._advance(until)
            except ConnectionClosed as why:
                self._connection = None
                self._ready.extend(self._resume.broken(lost(why), time.monotonic()))
            except PMDaemonError:
                self.close()
                raise
        return None if self._closed.is_set() else self._ready.popleft()

    def _advance(self, until: float) -> None:
        """Take one frame, or one step towards a connection."""
        if self._connection is None:
            self._connect(until)
            return
        self._ready.extend(self._resume.take(self._connection.receive(until - time.monotonic())))
        if not self._resume.answered:
            self._connection.send(self._resume.opening())

    def _connect(self, until: float) -> None:
        now = time.monotonic()
        if self._closed.wait(max(0.0, min(self._resume.next_attempt, until) - now)):
            return
        if self._resume.next_attempt > until:
            raise TimeoutError
        try:
            self._connection = Wire.open(self._address)
        except NoDaemon:
            if not self._resume.absent(time.monotonic()):
                raise
            return
        self._connection.send(self._resume.opening())


def _outcome(message: Message, answer: type[T]) -> T | PMDaemonError:
    try:
        return result(message, answer)
    except PMDaemonError as why:
        return why
