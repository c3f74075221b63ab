"""Both clients against a daemon that runs: what they ask, what they hear, and how they come back."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pmdaemon.client import (
    BlockingClient,
    Client,
    ConnectionLost,
    Disconnected,
    GetEvents,
    GetHistory,
    GetLogs,
    LogMessage,
    NoDaemon,
    PMDaemonError,
    ProcessEvent,
    ProcessStatus,
    Restart,
    Scale,
    Start,
    Stop,
    Subscribed,
)
from pmdaemon.errors import ProcessNotFound, TimedOut, Unauthorized
from tests.integration.harness import LiveDaemon
from tests.integration.program import within

CONFIG = """
apps:
  - name: ticker
    script: sh
    args: [-c, 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done']
    kill_timeout: 200
  - name: sleeper
    script: sleep 1000
    instances: 2
  - name: failing
    script: sh
    args: [-c, 'echo broken >&2; sleep 0.05; exit 3']
    max_restarts: 1
    restart_delay: 0
"""


def aio(work: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
    """Run it in an event loop of its own, beside the reactor."""
    return within(60, deferToThread(asyncio.run, work), lambda: "the end of the client's work")


def numbers(messages: list[Any]) -> list[int]:
    return [int(each.data.message.split()[1]) for each in messages if isinstance(each.data, LogMessage)]


def hears(heard: list[Any], life: int) -> None:
    """Return when a line was heard after the daemon's *life*-th beginning."""
    while [type(each.data) for each in heard].count(Subscribed) < life or not isinstance(heard[-1].data, LogMessage):
        threading.Event().wait(0.01)


class RequestTests(TestCase):
    async def test_asyncio(self) -> None:
        daemon = await LiveDaemon.start(self, config=CONFIG)
        await (await daemon.connect()).until_online("ticker", "sleeper-0")

        async def work() -> None:
            async with Client(home=daemon.home) as client:
                async for message in client.subscribe(["process_status"], ["failing"], since="0" * 16):
                    if isinstance(message.data, ProcessStatus) and message.data.status == "errored":
                        break
                names = {each.name for each in await client.processes()}
                self.assertEqual(names, {"ticker", "sleeper-0", "sleeper-1", "failing"})
                self.assertEqual([each.name for each in await client.processes("ticker")], ["ticker"])
                system, *_ = await asyncio.gather(client.system(), *(client.ping() for _ in range(100)))
                self.assertEqual(system.daemon.pid, daemon.program.pid)
                scaled = await client.command(Scale(process="sleeper", instances=3))
                self.assertEqual((scaled.action, len(scaled.processes)), ("scale", 3))
                lines = await client.logs(GetLogs(process="failing", lines=1))
                self.assertEqual(lines.lines[0].message, "broken")
                found = await client.events(GetEvents(process="sleeper", limit=3))
                self.assertEqual((len(found.events), found.more), (3, True))
                crash = await client.crash("failing")
                assert crash is not None
                self.assertEqual((crash.exit_code, crash.lines[-1].message), (3, "broken"))
                self.assertIsNone(await client.crash("ticker"))
                history = await client.history(GetHistory(process="ticker", metric="cpu"))
                self.assertEqual(history.process, "ticker")
                self.assertEqual((await client.config("sleeper", secrets=True)).config["script"], "sleep 1000")
                with self.assertRaises(ProcessNotFound) as caught:
                    await client.command(Stop(process="tickr"))
                self.assertEqual(caught.exception.details["matches"], ["ticker"])

        await aio(work())

    async def test_blocking(self) -> None:
        daemon = await LiveDaemon.start(self, config=CONFIG)
        await (await daemon.connect()).until_online("ticker", "sleeper-0")

        def work() -> None:
            with BlockingClient(daemon.http) as client:
                self.assertEqual(len(client.processes("sleeper")), 2)
                client.ping()
                asked = [Restart(process="sleeper-0"), Stop(process="nobody"), Stop(process="sleeper-1")]
                outcomes = dict(client.each(asked, object))
                self.assertEqual(outcomes.keys(), {0, 1, 2})
                self.assertIsInstance(outcomes[1], ProcessNotFound)
                self.assertEqual([each.status for each in client.processes("sleeper")], ["online", "stopped"])
                slow = Start(process="slow", config={"script": "sleep 9", "stdout": "x"})
                self.assertRaises(PMDaemonError, client.command, slow)

        await within(60, deferToThread(work), lambda: "the end of the client's work")

    async def test_nobody_there_and_not_let_in(self) -> None:
        daemon = await LiveDaemon.start(self)
        (Path(daemon.home) / "none").mkdir()

        async def work() -> None:
            async with Client(home=f"{daemon.home}/none") as client:
                with self.assertRaises(NoDaemon) as caught:
                    await client.ping()
                self.assertIn("api.sock", caught.exception.message)
                with self.assertRaises(NoDaemon):
                    await anext(client.subscribe(["process_status"]))
            async with Client(daemon.url, token="pmd_0_wrong") as client:
                with self.assertRaises(Unauthorized):
                    await client.ping()
                with self.assertRaises(Unauthorized):
                    await anext(client.subscribe(["process_status"]))

        await aio(work())
        with BlockingClient(daemon.url, token="pmd_0_wrong") as client:
            await self.assertFailure(deferToThread(client.ping), Unauthorized)

    async def test_a_daemon_that_does_not_answer(self) -> None:
        daemon = await LiveDaemon.start(self)
        client = BlockingClient(home=daemon.home, timeout=0.2)
        other = Client(home=daemon.home, timeout=0.2)
        await deferToThread(client.ping)
        os.kill(daemon.program.pid, signal.SIGSTOP)

        async def ask() -> None:
            async with other:
                await other.ping()

        try:
            await self.assertFailure(within(20, deferToThread(client.ping), str), TimedOut)
            await self.assertFailure(aio(ask()), TimedOut)
        finally:
            os.kill(daemon.program.pid, signal.SIGCONT)
        await deferToThread(client.close)

    async def test_killed_while_a_reply_is_awaited(self) -> None:
        daemon = await LiveDaemon.start(self)
        client = BlockingClient(home=daemon.home)
        await deferToThread(client.ping)
        os.kill(daemon.program.pid, signal.SIGSTOP)
        waiting = deferToThread(client.ping)
        await daemon.crash()
        await self.assertFailure(within(20, waiting, str), ConnectionLost)
        await self.assertFailure(deferToThread(client.ping), NoDaemon)


class SubscriptionTests(TestCase):
    """The daemon is killed in the middle, twice: nothing is missed and nothing comes twice."""

    async def lives(self, listen: Callable[[str, list[Any], threading.Event], "Deferred[Any]"]) -> list[Any]:
        daemon = await LiveDaemon.start(self, config=CONFIG)
        await (await daemon.connect()).until_online("ticker")
        heard: list[Any] = []
        enough = threading.Event()
        listening = listen(daemon.home, heard, enough)
        for life in (1, 2):
            await within(30, deferToThread(hears, heard, life), lambda: f"a line in {heard[-3:]}")
            await daemon.crash()
            daemon = await LiveDaemon.start(self, home=daemon.home)
        await within(30, deferToThread(hears, heard, 3), lambda: f"a line in {heard[-3:]}")
        enough.set()
        await listening
        return heard

    def check(self, heard: list[Any]) -> None:
        lines = numbers(heard)
        self.assertEqual(lines, list(range(lines[0], lines[-1] + 1)))
        kinds = [type(each.data) for each in heard if isinstance(each.data, Subscribed | Disconnected)]
        self.assertEqual(kinds, [Subscribed, Disconnected, Subscribed, Disconnected, Subscribed])
        ids = [each.id for each in heard if not isinstance(each.data, Disconnected)]
        self.assertEqual(ids, sorted(set(ids)))

    async def test_asyncio(self) -> None:
        async def listen(home: str, heard: list[Any], enough: threading.Event) -> None:
            async with Client(home=home) as client:
                async for message in client.subscribe(["log_message", "process_status"], ["ticker"]):
                    heard.append(message)
                    if enough.is_set() and isinstance(message.data, LogMessage):
                        return

        self.check(await self.lives(lambda home, heard, enough: aio(listen(home, heard, enough))))

    async def test_blocking(self) -> None:
        def listen(home: str, heard: list[Any], enough: threading.Event) -> None:
            with BlockingClient(home=home).subscribe(["log_message", "process_status"], ["ticker"]) as messages:
                for message in messages:
                    heard.append(message)
                    if enough.is_set() and isinstance(message.data, LogMessage):
                        return

        self.check(await self.lives(lambda *told: within(60, deferToThread(listen, *told), lambda: "the end")))

    async def test_patience(self) -> None:
        daemon = await LiveDaemon.start(self)

        def listen() -> None:
            messages = BlockingClient(home=daemon.home).subscribe(["process_status"], patience=0.3)
            self.assertIsInstance(next(messages).data, Subscribed)
            self.assertRaises(TimeoutError, messages.receive, 0.01)
            begun.set()
            self.assertIsInstance(next(messages).data, Disconnected)
            self.assertRaises(NoDaemon, messages.receive)
            self.assertIsNone(messages.receive())

        begun = threading.Event()
        listening = deferToThread(listen)
        await deferToThread(begun.wait, 20)
        await daemon.crash()
        await within(20, listening, lambda: "the end of patience")

    async def test_closed_by_another_thread(self) -> None:
        daemon = await LiveDaemon.start(self)
        messages = BlockingClient(home=daemon.home).subscribe(["process_status"])
        await deferToThread(messages.receive)
        waiting = deferToThread(messages.receive)
        await deferToThread(messages.close)
        self.assertIsNone(await within(20, waiting, lambda: "the end of the iteration"))

    async def test_cause_and_effect(self) -> None:
        daemon = await LiveDaemon.start(self)

        async def work() -> None:
            async with Client(home=daemon.home) as client:
                messages = client.subscribe(["process_status", "process_event"])
                await anext(messages)
                await client.command(Start(process="one", config={"script": "sleep 1000"}))
                told: list[str] = []
                while told[-1:] != ["started"]:
                    data = (await anext(messages)).data
                    assert isinstance(data, ProcessStatus | ProcessEvent)
                    told.append(data.status if isinstance(data, ProcessStatus) else data.event)
                self.assertEqual(told[-3:], ["starting", "online", "started"])

        await aio(work())
