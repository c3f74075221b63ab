"""What the tests of the screen are made of: processes, messages, and a client without a daemon."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from pmdaemon.client import (
    Command,
    CommandResult,
    Events,
    GetEvents,
    LogMessage,
    Message,
    PMDaemonError,
    ProcessObject,
    Subscribed,
    SystemInfo,
)
from pmdaemon.core.events import CpuUsage, LoadAverage, MemoryUsage
from pmdaemon.core.info import DaemonInfo

SYSTEM = SystemInfo(
    cpu=CpuUsage(usage=25.0, cores=4),
    memory=MemoryUsage(total=8 << 30, used=2 << 30, available=6 << 30, usage_percent=25.0),
    load=LoadAverage(one=0.5, five=0.25, fifteen=0.125),
    hostname="machine",
    platform="linux",
    uptime=1000,
    daemon=DaemonInfo(version="1.2.3", pid=7, uptime=1000, memory=1 << 20, clients=2, loop_lag=0.4, trouble=None),
)


def process(id_: int, name: str, status: str = "online", **facts: Any) -> ProcessObject:
    """A process, which runs if it is online."""
    told = {"cpu": 1.5, "memory": 3 << 20, "uptime": 65_000, "restarts": 0, "health": "unknown", "port": None}
    told |= {"app": name, "instance": 0, "namespace": "default", "pid": 1000 + id_ if status == "online" else None}
    told |= {"exit_code": None, "exit_signal": None, "created_at": "2026-01-31T12:00:00Z", "started_at": None}
    return ProcessObject(id=id_, name=name, status=status, **(told | facts))


def message(data: Any, number: int = 1) -> Message:
    """A message of the daemon."""
    return Message(type=data.type, data=data, timestamp="2026-01-31T12:00:00.500Z", id=f"{number:016}")


def begun(*processes: ProcessObject) -> Message:
    """The beginning of a subscription."""
    return message(Subscribed(events={}, snapshot=list(processes)))


def line(text: str, id_: int = 0, **facts: Any) -> LogMessage:
    """A line of a process."""
    told = {"app": "a", "instance": 0, "namespace": "default", "level": "info", "stream": "stdout", "offset": 0}
    return LogMessage(process="a", id=id_, message=text, **(told | facts))


class Messages(AsyncIterator[Message]):
    """A subscription that says what it is given."""

    retry_in: float | None = None

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()

    def say(self, *messages: Message) -> None:
        """Have these messages come."""
        for each in messages:
            self.queue.put_nowait(each)

    async def __aenter__(self) -> "Messages":
        return self

    async def __aexit__(self, *ended: object) -> None:
        pass

    async def __anext__(self) -> Message:
        return await self.queue.get()


class NoClient:
    """A client of no daemon: remembers commands, and answers each with a result or with ``refusal``."""

    def __init__(self) -> None:
        self.told = Messages()
        self.logs: dict[int, Messages] = {}
        self.commands: list[Command] = []
        self.refusal: PMDaemonError | None = None

    def subscribe(self, events: Iterable[str], processes: Iterable[int] | None = None, **options: Any) -> Messages:
        """The one subscription of everything, or one of a process's lines."""
        if processes is None:
            return self.told
        (id_,) = processes
        self.logs[id_] = Messages()
        return self.logs[id_]

    async def system(self) -> SystemInfo:
        """The machine."""
        return SYSTEM

    async def events(self, request: GetEvents) -> Events:
        """No events."""
        return Events(process=None, events=[])

    async def command(self, command: Command) -> CommandResult:
        """What came of a command."""
        self.commands.append(command)
        if self.refusal is not None:
            raise self.refusal
        return CommandResult(action=command.action, process=command.process, processes=[])

    async def close(self) -> None:
        """Nothing to close."""
