"""The client for asyncio: requests share one connection, and each subscription has one of its own."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from pmdaemon.client.address import Address, locate, unix_socket, unreachable
from pmdaemon.client.errors import ConnectionLost, NoDaemon
from pmdaemon.client.messages import Message, decode, encode, refusal, result
from pmdaemon.client.resume import Resume
from pmdaemon.client.settings import OPENING, lost, patience, settings, subscription
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

__all__ = ["Client", "Subscription"]

T = TypeVar("T")


class Client:
    """A client of one daemon; any number of tasks of one event loop may ask it at the same time.

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
        self._connection: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._subscriptions: set[Subscription] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and all subscriptions."""
        for each in list(self._subscriptions):
            await each.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        if self._reading is not None:
            await self._reading

    # Asking

    async def processes(self, selector: Selector | None = None) -> list[ProcessObject]:
        """Return the processes that ``selector`` means, else all, with ``config`` and ``logs``."""
        found: list[ProcessObject] = []
        cursor = None
        while True:
            page = await self.request(GetInfo(process=selector, cursor=cursor), ProcessInfo)
            found += page.processes or page.instances or []
            cursor = page.cursor
            if not page.more:
                return found

    async def system(self) -> SystemInfo:
        """Return the figures of the machine and of the daemon."""
        return await self.request(GetSystem(), SystemReply)

    async def logs(self, request: GetLogs) -> Logs:
        """Return one page of lines."""
        return await self.request(request, Logs)

    async def events(self, request: GetEvents) -> Events:
        """Return one page of events."""
        return await self.request(request, Events)

    async def history(self, request: GetHistory) -> History:
        """Return figures of one process."""
        return await self.request(request, History)

    async def crash(self, selector: Selector) -> Crash | None:
        """Return the latest crash of one process, or None where there was none."""
        return (await self.request(GetCrash(process=selector), CrashReply)).crash

    async def config(self, selector: Selector, *, secrets: bool = False) -> Config:
        """Return the configuration of one app; with ``secrets`` as it is kept, values of ``env`` included."""
        return await self.request(GetConfig(process=selector, secrets=secrets or None), Config)

    async def ping(self) -> None:
        """Return when the daemon has answered."""
        await self.request(Ping(), Pong)

    async def command(self, command: Command) -> CommandResult:
        """Have something done, and return when it is done, or accepted where its ``wait`` is False."""
        return await self.request(command, CommandResult)

    async def request(self, request: Request, answer: type[T]) -> T:
        """Ask anything, and return the reply's data, which is an ``answer``: the named methods do this."""
        limit = patience(request, self.timeout)
        number = str(next(self._numbers))
        reply = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(limit):
                connection = await self._connected()
                await connection.send(encode(request, number), text=True)
                return result(await reply, answer)
        except TimeoutError as why:
            raise TimedOut(f"cannot get an answer: none came within {limit:.0f} s") from why
        except ConnectionClosed as why:
            raise ConnectionLost(f"cannot tell whether it was done: {lost(why)}") from why
        finally:
            del self._waiting[number]

    async def _connected(self) -> ClientConnection:
        async with self._opening:
            if self._connection is None:
                self._connection = await _connect(self.address)
                self._reading = asyncio.create_task(self._read(self._connection))
            return self._connection

    async def _read(self, connection: ClientConnection) -> None:
        """Give the replies to those who wait for them, until the connection ends."""
        why: Exception
        try:
            while True:
                message = decode(await connection.recv(decode=False))
                reply = self._waiting.get(str(message.reply_to))
                if reply is not None and not reply.done():
                    reply.set_result(message)
        except (ConnectionClosed, PMDaemonError) as ended:
            why = ended
        if self._connection is connection:
            self._connection = None
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(why)
        await connection.close()

    # Listening

    def subscribe(
        self,
        events: Iterable[str],
        processes: Iterable[Selector] | None = None,
        *,
        patience: float | None = None,
        **options: Any,
    ) -> "Subscription":
        """Return what iterates over the messages of a subscription; see `Subscription`.

        ``options`` are those of ``subscribe``: ``interval`` in ms, ``since``, ``tail``, ``level``, ``stream``,
        ``grep``, ``regex``. A daemon that is away for more than ``patience`` seconds is NoDaemon, None for never; one
        that is not there to begin with is so at once.
        """
        made = Subscription(self.address, Resume(subscription(events, processes, options), patience))
        made.closing = self._subscriptions.discard
        self._subscriptions.add(made)
        return made


class Subscription(AsyncIterator[Message]):
    """Iterates over the messages of one subscription, and connects anew when that is needed.

    Nothing is read ahead but what the connection holds, which is bounded: who is slow is told by the daemon, as
    `LogGap`. What cannot be mended by waiting, such as a token that was taken back, is raised, and ends it. A task
    may be cancelled while it waits here; nothing is lost by that. Close it, or the client, when it is not needed any
    more: ``async with client.subscribe(...) as messages`` does.
    """

    def __init__(self, address: Address, resume: Resume) -> None:
        self._address = address
        self._resume = resume
        self._connection: ClientConnection | None = None
        self._ready: deque[Message] = deque()
        self._closed = False
        self.closing: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def retry_in(self) -> float | None:
        """Seconds until the next attempt to connect, 0 while one is made; None while there is a connection."""
        return None if self._connection is not None else max(0.0, self._resume.next_attempt - _now())

    async def close(self) -> None:
        """End the iteration."""
        self._closed = True
        if self.closing is not None:
            self.closing(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def __anext__(self) -> Message:
        while not self._ready and not self._closed:
            try:
                await self._advance()
            except ConnectionClosed as why:
                self._connection = None
                self._ready.extend(self._resume.broken(lost(why), _now()))
            except PMDaemonError:
                await self.close()
                raise
        if self._closed:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def _advance(self) -> None:
        """Take one frame, or one step towards a connection."""
        if self._connection is None:
            await self._connect()
            return
        connection = self._connection
        self._ready.extend(self._resume.take(await connection.recv(decode=False)))
        if not self._resume.answered:
            await connection.send(self._resume.opening(), text=True)

    async def _connect(self) -> None:
        await asyncio.sleep(max(0.0, self._resume.next_attempt - _now()))
        try:
            connection = await _connect(self._address)
        except NoDaemon:
            if not self._resume.absent(_now()):
                raise
            return
        if self._closed:
            await connection.close()
            return
        self._connection = connection
        await connection.send(self._resume.opening(), text=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _connect(address: Address) -> ClientConnection:
    """Return an open connection. Raises NoDaemon, or why the daemon refuses it."""
    options = settings(address)
    if address.socket:
        options["sock"] = unix_socket(address.socket, OPENING)
    try:
        return await connect(address.url, **options)
    except InvalidStatus as why:
        raise refusal(why.response.status_code, bytes(why.response.body or b""), address) from why
    except (OSError, WebSocketException) as why:
        raise unreachable(str(address), why) from why
