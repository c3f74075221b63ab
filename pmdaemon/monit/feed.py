"""What comes from the daemon: messages into the model, and the selected process's lines into its log."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pmdaemon.client import (
    Client,
    Gap,
    GetEvents,
    LogGap,
    LogMessage,
    NoDaemon,
    PMDaemonError,
    Subscribed,
    Subscription,
)
from pmdaemon.monit.lines import Log
from pmdaemon.monit.model import Model

__all__ = ["Feed"]

_EVENTS: Final = ("process_status", "process_event", "health_update", "process_metrics", "system_metrics")
_INTERVAL: Final = 1000
_ASKED: Final = 5.0
_AGAIN: Final = 0.5
"""Seconds between two questions about the daemon itself, and before a log is asked for again."""
_BREATH: Final = 50
"""Messages after which others of the event loop have their turn."""
_TAIL: Final = 200
_EARLIER: Final = 200


class Feed:
    """Keeps a model up to date for as long as it runs, through any number of connections."""

    def __init__(self, client: Client, model: Model) -> None:
        self._client = client
        self._model = model
        self._messages: Subscription | None = None
        self._fresh = asyncio.Event()

    @property
    def retry_in(self) -> float | None:
        """Seconds until it is tried again to connect; None where that is not to be done."""
        return None if self._messages is None else self._messages.retry_in

    async def run(self) -> None:
        """Take messages until cancelled, or until the daemon refuses: then the model knows why."""
        try:
            async with self._client.subscribe(_EVENTS, interval=_INTERVAL) as messages:
                self._messages = messages
                count = 0
                async for message in messages:
                    self._model.take(message)
                    if isinstance(message.data, Subscribed):
                        self._fresh.set()
                    count += 1
                    if count % _BREATH == 0:
                        await asyncio.sleep(0)
        except PMDaemonError as why:
            self._model.live = False
            self._model.refused = why
            self._model.changed = True

    async def ask(self) -> None:
        """Ask from time to time what is not told: about the daemon itself, and once for earlier events."""
        earlier = False
        while True:
            try:
                self._model.info = info = await self._client.system()
                if self._model.system is None:
                    self._model.measured(info)
                if not earlier:
                    self._model.told((await self._client.events(GetEvents(limit=_EARLIER))).events)
                    earlier = True
                self._model.changed = True
            except PMDaemonError:  # the subscription tells of it
                pass
            self._fresh.clear()
            try:
                async with asyncio.timeout(_ASKED):
                    await self._fresh.wait()
            except TimeoutError:
                pass

    async def read(self, process: int, log: Log, failed: Callable[[PMDaemonError], Any]) -> None:
        """Take the lines of one process until cancelled."""
        while True:
            try:
                await self._read(process, log)
                return
            except NoDaemon:
                await asyncio.sleep(_AGAIN)
            except PMDaemonError as why:
                failed(why)
                return

    async def _read(self, process: int, log: Log) -> None:
        async with self._client.subscribe(["log_message"], [process], tail=_TAIL) as messages:
            lost = False
            count = 0
            async for message in messages:
                match message.data:
                    case LogMessage():
                        log.take(message.data, message.timestamp)
                    case LogGap(dropped=dropped):
                        log.note(f"-- {dropped} lines skipped: they came faster than they were read --")
                    case Gap():
                        log.note("-- lines are missing here: they are not kept any more --")
                    case Subscribed() if lost:
                        lost = False
                        log.note("-- connected again --")
                    case _ if message.type == "disconnected":
                        lost = True
                        log.note(f"-- {message.data.reason} --")
                count += 1
                if count % _BREATH == 0:
                    await asyncio.sleep(0)
