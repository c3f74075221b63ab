"""A daemon whose keeper holds its children, for tests in which either of the two is killed or replaced."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from tests.integration.harness import Client, LiveDaemon, Message
from tests.integration.program import within

WRITER = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.01; done"
ENDER = 'while [ ! -e "end-$PMDAEMON_PROCESS_NAME" ]; do sleep 0.02; done; rm "end-$PMDAEMON_PROCESS_NAME"; '
SLOW = "trap 'sleep 1; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


def sh(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "script": "sh", "args": ["-c", script], "cwd": "PLACE", "restart_delay": 0, **fields}


class KeeperCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()

    async def start(self, *apps: dict[str, Any], **more: Any) -> LiveDaemon:
        """A daemon with *apps*, or with what its home knows."""
        config = json.dumps({"apps": apps}).replace("PLACE", str(self.place)) if apps else None
        return await LiveDaemon.start(self, home=self.home, config=config, **more)

    async def follow(self, daemon: LiveDaemon, *kinds: str, **more: object) -> Client:
        """A client that has subscribed."""
        client = await daemon.connect()
        events = list(kinds or ("process_status", "process_event"))
        reply = await client.request("subscribe", {"events": events, **more})
        assert reply["type"] == "subscribed", reply
        return client

    async def processes(self, client: Client) -> dict[str, Message]:
        reply = await client.request("get_info", {})
        return {each["name"]: each for each in reply["data"]["processes"]}

    async def event(self, client: Client, name: str, event: str) -> Message:
        """The first event of that name of a process, past or to come."""

        def matches(message: Message) -> bool:
            data = message["data"]
            return message["type"] == "process_event" and (data["process"], data["event"]) == (name, event)

        return await client.expect(matches, what=f"{name} {event}", timeout=20)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until *condition* holds, which nothing tells of."""

        def look() -> None:
            if condition():
                looking.stop()

        looking = LoopingCall(look)
        looked = looking.start(0.01)
        try:
            await within(20, looked, lambda: what)
        finally:
            if looking.running:
                looking.stop()

    async def ended(self, pid: int) -> None:
        """Wait until a process has ended, whoever reaps it."""
        await self.until(lambda: not alive(pid), f"the end of {pid}")

    async def end(self, name: str, pid: int) -> None:
        """Have an `ENDER` end, once."""
        (self.place / f"end-{name}").touch()
        await self.ended(pid)

    def keeper(self) -> int:
        """The pid of the keeper."""
        return int(Path(self.home, "keeper.lock").read_text())

    async def kill_keeper(self) -> None:
        pid = self.keeper()
        os.kill(pid, signal.SIGKILL)
        await self.ended(pid)

    def lines(self, name: str) -> list[str]:
        return Path(self.home, "logs", f"{name}-out.log").read_text().splitlines()

    def assert_in_order(self, name: str) -> None:
        """A `WRITER`'s lines are all there."""
        lines = self.lines(name)
        self.assertEqual(lines, [f"line {number}" for number in range(1, len(lines) + 1)])


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
