"""A client of a live daemon that comes back misses nothing and is told nothing twice [S7], [S3], [S9], [P13]."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from pmdaemon.core.lines import LIMIT
from tests.integration.harness import Client, LiveDaemon, Message
from tests.integration.program import within

KINDS = ["process_status", "process_event", "log_message"]

PRINTER = """
apps:
  - name: printer
    script: sh
    args: [-c, 'exec 3<>in; while read -r name <&3; do case $name in *.err) cat $name >&2;; *) cat $name;; esac; done']
    cwd: {cwd}
    kill_timeout: 200
"""


class ResumeCase(TestCase):
    """Has a daemon whose one process prints what the test says, byte by byte."""

    async def begin(self) -> LiveDaemon:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        os.mkfifo(self.place / "in")
        self._printed = 0
        self.config = PRINTER.format(cwd=self.place)
        daemon = await LiveDaemon.start(self, config=self.config)
        await (await daemon.connect()).until_online("printer")
        return daemon

    async def next_daemon(self, daemon: LiveDaemon) -> LiveDaemon:
        """Another daemon, on the home of one that has ended."""
        after = await LiveDaemon.start(self, home=daemon.home)
        await (await after.connect()).until_online("printer")
        return after

    async def say(self, daemon: LiveDaemon, data: bytes, *, error: bool = False) -> None:
        """Have it printed, and wait until it is in the log."""
        self._printed += 1
        name = f"{self._printed}.{'err' if error else 'out'}"
        (self.place / name).write_bytes(data)
        log = Path(daemon.home, "logs", f"printer-{name.partition('.')[2]}.log")
        goal = (log.stat().st_size if log.exists() else 0) + len(data)
        with open(self.place / "in", "w") as pipe:
            pipe.write(f"{name}\n")
        await self.until(lambda: log.exists() and log.stat().st_size >= goal, f"{log} with {goal} bytes")

    def until(self, condition: Callable[[], object], what: str) -> "Deferred[None]":
        """Wait until *condition* holds, which nothing tells of."""
        done: Deferred[None] = Deferred(lambda _: None)

        def look() -> None:
            if not done.called:
                if condition():
                    done.callback(None)
                else:
                    reactor.callLater(0.01, look)

        look()
        return within(20, done, lambda: what)

    async def follow(self, daemon: LiveDaemon, *kinds: str, **more: object) -> Client:
        """A client that has subscribed; its messages begin with what came after the acknowledgement."""
        client = await daemon.connect()
        reply = await client.request("subscribe", {"events": list(kinds or KINDS), **more})
        assert reply["type"] == "subscribed", reply
        del client.messages[: client.messages.index(reply) + 1]
        return client

    def line(self, client: Client, text: str) -> "Deferred[Message]":
        """The message of a line."""
        return client.expect(lambda message: message["data"].get("message") == text, what=f"line {text!r}")

    async def settle(self, client: Client) -> list[Message]:
        """All messages, less replies, of a client that has been told all there is."""
        await client.request("ping")
        return [message for message in client.messages if "reply_to" not in message]


def texts(messages: list[Message]) -> list[str]:
    return [each["data"]["message"] for each in messages if each["type"] == "log_message"]


class ReplayTests(ResumeCase):
    async def test_over_disconnects(self) -> None:
        daemon = await self.begin()
        witness = await self.follow(daemon)
        client = await self.follow(daemon)
        told: list[Message] = []
        for number in range(4):
            await self.say(daemon, b"line %d\npart" % number)
            await client.expect(lambda message: message["data"].get("partial"), what="an unfinished line")
            told += await self.settle(client)
            await client.close()
            await self.say(daemon, b"ial %d\n" % number, error=number % 2 == 1)
            await witness.command("restart", "printer")
            client = await self.follow(daemon, since=told[-1]["id"])
        told += await self.settle(client)
        self.assertEqual(told, await self.settle(witness))
        self.assertEqual([each["id"] for each in told], sorted({each["id"] for each in told}))

    async def test_lines_nobody_followed(self) -> None:
        daemon = await self.begin()
        client = await self.follow(daemon)
        await self.say(daemon, b"heard\n")
        await self.line(client, "heard")
        await client.close()
        since = client.messages[-1]["id"]
        await self.say(daemon, b"unheard 1\nunheard 2\n")
        other = await self.follow(daemon)
        await self.say(daemon, b"heard by another\n")
        await self.line(other, "heard by another")
        await other.close()
        await self.say(daemon, b"unheard 3\n")
        again = await self.follow(daemon, since=since)
        await self.line(again, "unheard 3")
        lines = texts(await self.settle(again))
        self.assertEqual(sorted(lines), ["heard by another", "unheard 1", "unheard 2", "unheard 3"])
        offsets = [message["data"]["offset"] for message in again.messages if message["type"] == "log_message"]
        self.assertEqual(len(set(offsets)), 4)

    async def test_over_restarts_of_the_daemon(self) -> None:
        """Stopped in good order, then killed: its process goes on meanwhile."""
        daemon = await self.begin()
        client = await self.follow(daemon)
        await self.say(daemon, b"one\n")
        await self.line(client, "one")
        told = await self.settle(client)
        await daemon.stop()
        daemon = await self.next_daemon(daemon)
        await self.say(daemon, b"two\n")
        client = await self.follow(daemon, since=told[-1]["id"])
        await self.line(client, "two")
        told += await self.settle(client)
        await daemon.crash()
        await self.say(daemon, b"three\n")
        daemon = await self.next_daemon(daemon)
        await self.say(daemon, b"four\n")
        client = await self.follow(daemon, since=told[-1]["id"])
        await self.line(client, "four")
        told += await self.settle(client)
        self.assertEqual(texts(told), ["one", "two", "three", "four"])
        self.assertEqual([each["id"] for each in told], sorted({each["id"] for each in told}))
        everything = await self.settle(await self.follow(daemon, since="0" * 16))
        self.assertEqual([each for each in everything if each["id"] >= told[0]["id"]], told)


class ContentTests(ResumeCase):
    async def test_ten_thousand_lines_in_one_burst(self) -> None:
        daemon = await self.begin()
        since = (await (await daemon.connect()).request("ping"))["id"]
        client = await self.follow(daemon, "log_message")
        await self.say(daemon, b"".join(b"line %d\n" % number for number in range(10_000)))
        await self.line(client, "line 9999")
        live = await self.settle(client)
        self.assertEqual(texts(live), [f"line {number}" for number in range(10_000)])
        again = await self.follow(daemon, "log_message", since=since)
        await self.line(again, "line 9999")
        self.assertEqual(await self.settle(again), live)

    async def test_whatever_bytes(self) -> None:
        """[P13]: the file has them as they were; live and told again they are the same messages."""
        daemon = await self.begin()
        since = (await (await daemon.connect()).request("ping"))["id"]
        client = await self.follow(daemon, "log_message")
        data = (
            b"plain\nwindows\r\n\xff\xfeinvalid\nnul\0nul\n\n\r\r\n\x1b[31mWARN red\x1b[0m\n\xe2\x98\x83 snow\n"
            + b"x" * LIMIT
            + b"\n"
            + b"y" * (LIMIT + 1)
            + b"\n"
            + b"\x01" * LIMIT
            + b"\n\xf0\x9f no final newline"
        )
        await self.say(daemon, data)
        await self.line(client, "\ufffd no final newline")
        live = await self.settle(client)
        self.assertEqual(Path(daemon.home, "logs/printer-out.log").read_bytes(), data)
        self.assertEqual(
            texts(live),
            [
                *("plain", "windows", "\ufffd\ufffdinvalid", "nul\0nul", "", "\r", "\x1b[31mWARN red\x1b[0m", "☃ snow"),
                *("x" * LIMIT, "y" * LIMIT, "\x01" * LIMIT, "\ufffd no final newline"),
            ],
        )
        self.assertEqual([each["data"]["truncated"] for each in live].count(True), 1)
        self.assertEqual([each["data"]["partial"] for each in live], [False] * 11 + [True])
        await self.say(daemon, b", but here\n")
        rest = await self.line(client, ", but here")
        self.assertEqual((rest["data"]["offset"], rest["data"]["partial"]), (live[-1]["data"]["offset"], False))
        again = await self.follow(daemon, "log_message", since=since)
        await self.line(again, ", but here")
        self.assertEqual(await self.settle(again), [*live, rest])

    async def test_the_last_lines_and_filters(self) -> None:
        """[S9]"""
        daemon = await self.begin()
        await self.say(
            daemon, b"".join(b"%s %d\n" % (word, number) for number in range(5) for word in (b"info", b"WARN"))
        )
        await self.say(daemon, b"bad\n", error=True)
        for wanted, expected in (
            ({"tail": 3}, ["info 4", "WARN 4", "bad"]),
            ({"tail": 2, "level": "warn"}, ["WARN 4", "bad"]),
            ({"tail": 2, "stream": "stdout", "grep": "info"}, ["info 3", "info 4"]),
            ({"tail": 9, "grep": "^WARN [13]$", "regex": True}, ["WARN 1", "WARN 3"]),
            ({"tail": 9, "processes": ["other"]}, []),
        ):
            client = await self.follow(daemon, "log_message", **wanted)
            self.assertEqual(texts(await self.settle(client)), expected, wanted)
        client = await self.follow(daemon, "log_message", level="warn", grep="1", stream="stdout")
        await self.say(daemon, b"WARN 1\nWARN 2\n1\nerror: 1\n")
        await self.line(client, "error: 1")
        self.assertEqual(texts(await self.settle(client)), ["WARN 1", "error: 1"])


class SnapshotTests(TestCase):
    async def test_no_gap_and_no_overlap_while_everything_changes(self) -> None:
        """[S3]: whenever one subscribes, what is told first of a process goes on from the snapshot."""
        names = [f"app{number}" for number in range(6)]
        apps = [
            {"name": name, "script": "sh", "args": ["-c", "while :; do sleep 60; done"], "kill_timeout": 200}
            for name in names
        ]
        daemon = await LiveDaemon.start(self, config=json.dumps({"apps": apps}))
        await (await daemon.connect()).until_online(*names)
        busy = [await daemon.connect() for _ in range(4)]
        watching: list[tuple[Client, Message]] = []

        async def change(client: Client, dice: random.Random) -> None:
            for _ in range(30):
                action = dice.choice(["start", "stop", "restart"])
                await client.request("command", {"action": action, "process": dice.choice(names)})

        async def watch() -> None:
            for _ in range(25):
                client = await daemon.connect()
                reply = await client.request("subscribe", {"events": ["process_status"]})
                watching.append((client, reply))

        changes = [Deferred.fromCoroutine(change(client, random.Random(n))) for n, client in enumerate(busy)]
        await gatherResults([*changes, Deferred.fromCoroutine(watch())])
        final = (await busy[0].request("get_info"))["data"]["processes"]
        for client, reply in watching:
            await client.request("ping")
            known = {each["id"]: each["status"] for each in reply["data"]["snapshot"]}
            for data in client.of_type("process_status"):
                self.assertEqual(data["previous_status"], known[data["id"]])
                known[data["id"]] = data["status"]
            self.assertEqual(known, {each["id"]: each["status"] for each in final})
