"""What is outside of a token's processes does not exist for it: no answer, no event and no error has its name."""

import json
import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.harness import Client, LiveDaemon
from tests.integration.program import free_port
from tests.integration.test_access import AccessCase

HIDDEN = "zebra"
ACTIONS = ("start", "stop", "restart", "reload", "delete", "scale", "signal", "reset", "flush")
QUESTIONS = ("get_info", "get_logs", "get_events", "get_crash", "get_history", "get_config")
EVENTS = ["process_status", "process_event", "process_metrics", "health_update", "log_message"]


class DiscretionTests(AccessCase):
    """One daemon, all that can be asked."""

    timeout = 120

    async def set_up(self) -> LiveDaemon:
        """A hidden app that has a port, logs, a crash and a namespace of its own, and some that are not hidden."""
        self.port = free_port()
        place = Path(self.home, "place")
        place.mkdir()
        self.log = str(place / "taken.log")
        hidden: dict[str, Any] = {
            "name": HIDDEN,
            "namespace": f"{HIDDEN}-space",
            "script": "sh",
            "args": ["-c", f"echo {HIDDEN} says so; sleep 1000"],
            "port": self.port,
            "out_file": self.log,
        }
        apps = [
            hidden,
            {**hidden, "name": f"{HIDDEN}s", "instances": 2, "port": "auto:42000-42100", "out_file": f"{self.log}2"},
            {"name": "web", "script": "sh", "args": ["-c", "echo here; exec sleep 1000"], "autostart": False},
            {"name": "web-port", "script": "sleep 1000", "port": self.port, "autostart": False},
        ]
        self.file = Path(self.home, "apps.json")
        self.file.write_text(json.dumps({"apps": apps}))
        headers = self.token("part", "start", "web*")
        daemon = await LiveDaemon.start(self, "--config", str(self.file), home=self.home)
        self.whole, self.part = await daemon.connect(), await daemon.connect(headers=headers)
        await self.whole.until_online(HIDDEN)
        return daemon

    async def ask(self, client: Client, type_: str, **data: Any) -> None:
        """Ask, and look at the answer; what was asked with may be in it."""
        answer = await client.request(type_, data)
        while answer["type"] == "error" and answer["data"]["code"] == "RATE_LIMITED":
            waiting: Deferred[None] = Deferred()
            reactor.callLater(answer["data"]["details"]["retry_ms"] / 1000, waiting.callback, None)
            await waiting
            answer = await client.request(type_, data)
        asked, said = json.dumps(data), json.dumps(answer)
        for known in sorted(re.findall(r'"([^"]*)"', asked), key=len, reverse=True):
            said = said.replace(known, "") if HIDDEN in known else said
        self.assertNotIn(HIDDEN, said, asked)

    async def test_no_answer_has_the_name(self) -> None:
        await self.set_up()
        await self.ask(self.part, "subscribe", events=EVENTS, processes=[HIDDEN, "*", f"ns:{HIDDEN}-space"])
        await self.ask(self.part, "subscribe", events=EVENTS)
        near = (HIDDEN[:-1], f"{HIDDEN}x", "zeb*", f"{HIDDEN}s-0", HIDDEN, "ns:*", "all", 1, 2, 3, "*")
        for type_ in QUESTIONS:
            for process in near:
                more = {"metric": "cpu"} if type_ == "get_history" else {}
                await self.ask(self.part, type_, process=process, **more)
        await self.ask(self.part, "get_events")
        await self.ask(self.part, "get_system")
        config = {"script": "sleep 1000"}
        for process, fields in (
            ("web-new", {"config": {**config, "out_file": self.log}}),
            ("web-new", {"config": {**config, "error_file": self.log}}),
            ("web-new", {"config": {**config, "port": self.port}}),
            ("web-other", {"config": {**config, "port": self.port, "instances": 1}, "replace": True}),
            (HIDDEN, {"config": config}),
            (f"{HIDDEN}s", {"config": config, "replace": True}),
            ("web-port", {}),
            ("web*", {}),
        ):
            await self.ask(self.part, "command", action="start", process=process, **fields)
        self.file.write_text(json.dumps({"apps": [{"name": HIDDEN, "script": "x", HIDDEN: HIDDEN}]}))
        await self.ask(self.part, "command", action="reload", process="web")
        for action in ACTIONS:
            for process in (*near[:6], "web", "all"):
                if (action, process) != ("delete", "all"):
                    more = {"scale": {"instances": 2}, "signal": {"signal": "HUP"}}.get(action, {})
                    await self.ask(self.part, "command", action=action, process=process, timeout=5000, **more)
        await self.whole.command("restart", HIDDEN)
        await self.whole.command("delete", HIDDEN)
        await self.ask(self.part, "get_events", process="*")
        told = json.dumps([each for each in self.part.messages if "reply_to" not in each])
        self.assertNotIn(HIDDEN, told)
        self.assertIn("web-port", told, "there was something to be told")
        self.assertIn("another app", told)

    async def test_who_may_see_it_is_told(self) -> None:
        await self.set_up()
        reply = await self.whole.request("command", {"action": "start", "process": "web-port"})
        self.assertEqual(reply["data"]["details"]["owner"], HIDDEN)
        self.assertIn(f"taken by '{HIDDEN}'", reply["data"]["message"])
        config = {"script": "sleep 1000", "out_file": self.log}
        reply = await self.whole.request("command", {"action": "start", "process": "web-new", "config": config})
        self.assertIn(f"already the log of '{HIDDEN}'", reply["data"]["message"])

    async def test_after_a_gap(self) -> None:
        """Of what was missed while away, too."""
        daemon = await self.set_up()
        headers = self.token("later", "read", "web*")
        first = await daemon.connect(headers=headers)
        reply = await first.request("subscribe", {"events": EVENTS})
        await first.close()
        await self.whole.command("restart", HIDDEN)
        await self.whole.command("start", "web")
        for since in (reply["id"], "0000000000000000", "00000100ffffffff"):
            again = await daemon.connect(headers=headers)
            await self.ask(again, "subscribe", events=EVENTS, since=since)
            await again.request("ping")
            self.assertNotIn(HIDDEN, json.dumps(again.messages), since)
            await again.close()
