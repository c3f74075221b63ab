"""What is asked of the past, of a daemon that runs: logs, events, crashes, figures, and logs that are emptied [R11]."""

import json
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.integration.harness import Client, LiveDaemon

PRINTS = """
import sys, time
print("".join(f"info line {number}\\n" for number in range(20000)), end="", flush=True)
print("ready", flush=True)
time.sleep(1000)
"""
CRASHES = "import sys; print('before the end'); sys.exit('it broke')"


def python(script: str, **fields: Any) -> dict[str, Any]:
    return {"script": sys.executable, "args": ["-u", "-c", script], **fields}


class InsightTests(TestCase):
    timeout = 60

    async def ask(self, client: Client, request: str, **data: Any) -> dict[str, Any]:
        reply = await client.request(request, data)
        self.assertEqual(reply["type"], request.removeprefix("get_"), reply)
        return reply["data"]

    async def test_with_a_keeper(self) -> None:
        """Over a restart of the daemon, too, that is killed meanwhile."""
        daemon = await LiveDaemon.start(self)
        client = await daemon.connect()
        await client.command("start", "web", config=python(PRINTS, readiness={"log_line": "ready"}))
        await self.look_at_logs(client)
        await self.look_at_crash(client)
        told = (await self.ask(client, "get_events", process="broken"))["events"]
        await daemon.crash()
        again = await LiveDaemon.start(self, home=daemon.home)
        client = await again.connect()
        events = (await self.ask(client, "get_events", process="broken"))["events"]
        self.assertEqual(events[: len(told)], told)
        self.assertEqual((await self.ask(client, "get_crash", process="broken"))["crash"]["exit_code"], 1)
        offset = (await self.ask(client, "get_logs", process="web", lines=1))["lines"][0]["offset"]
        await self.look_at_an_adopted_one(client)
        await self.flush(client)
        await client.command("restart", "web")
        found = await self.ask(client, "get_logs", process="web", since=0, lines=1)
        self.assertGreater(found["lines"][0]["offset"], offset, "the offsets go on")

    async def test_without_one(self) -> None:
        daemon = await LiveDaemon.start(self, "--no-keeper")
        client = await daemon.connect()
        await client.command("start", "web", config=python(PRINTS, readiness={"log_line": "ready"}))
        await self.look_at_logs(client)
        await self.look_at_crash(client)
        await self.flush(client)
        await client.command("restart", "web")
        await self.look_at_logs(client)

    async def look_at_logs(self, client: Client) -> None:
        last = await self.ask(client, "get_logs", process="web", lines=3)
        self.assertEqual([line["message"] for line in last["lines"]], ["info line 19998", "info line 19999", "ready"])
        self.assertIsNotNone(last["lines"][0]["at"])
        (one,) = (await self.ask(client, "get_logs", process="web", grep=r"line 7{4}$", regex=True))["lines"]
        self.assertEqual(one["message"], "info line 7777")
        seen, cursor = [], None
        while not seen or cursor is not None:
            page = await self.ask(client, "get_logs", process="web", since=0, lines=10_000, cursor=cursor)
            seen += [line["message"] for line in page["lines"]]
            cursor = page["cursor"]
        self.assertEqual(seen, [f"info line {number}" for number in range(20_000)] + ["ready"])

    async def look_at_crash(self, client: Client) -> None:
        await client.request("subscribe", {"events": ["process_event"]})
        await client.request(
            "command", {"action": "start", "process": "broken", "config": python(CRASHES, max_restarts=0)}
        )
        await client.expect(lambda message: message["data"].get("event") == "gave_up", what="gave_up")
        crash = (await self.ask(client, "get_crash", process="broken"))["crash"]
        self.assertEqual([line["message"] for line in crash["lines"]], ["before the end", "it broke"])
        self.assertIsInstance(crash["pid"], int)
        events = (await self.ask(client, "get_events", process="broken", limit=3))["events"]
        self.assertEqual([each["data"].get("event") for each in events], [None, "crashed", "gave_up"])

    async def look_at_an_adopted_one(self, client: Client) -> None:
        """Its crash shows what it printed under the daemon before."""
        await client.request("subscribe", {"events": ["process_event"]})
        await client.command("signal", "web", signal="SIGKILL")
        await client.expect(lambda message: message["data"].get("event") == "restarted", what="restarted")
        crash = (await self.ask(client, "get_crash", process="web"))["crash"]
        self.assertEqual((crash["exit_signal"], crash["lines"][-1]["message"]), ("SIGKILL", "ready"))
        self.assertEqual(len(crash["lines"]), 200)

    async def flush(self, client: Client) -> None:
        await client.command("flush", "web")
        self.assertEqual((await self.ask(client, "get_logs", process="web"))["lines"], [])

    async def test_figures_and_configuration(self) -> None:
        daemon = await LiveDaemon.start(self)
        client = await daemon.connect()
        await client.command("start", "web", config=python("import time; time.sleep(1000)", env={"KEY": "s3cret"}))
        await client.request("subscribe", {"events": ["process_metrics"], "interval": 100})
        while True:
            history = await self.ask(client, "get_history", process="web", metric="memory")
            if history["points"]:
                break
            await client.expect("process_metrics", after=len(client.messages))
        self.assertEqual(history["resolution"], 1)
        self.assertGreater(history["points"][0][1], 1 << 20)
        config = (await self.ask(client, "get_config", process="web", secrets=True))["config"]
        self.assertEqual(config["env"], {"KEY": "s3cret"})
        audit = next(Path(daemon.home).glob("audit*")).read_text().splitlines()
        self.assertEqual(json.loads(audit[-1])["action"], "get_config")
        self.assertNotIn("s3cret", daemon.log)
