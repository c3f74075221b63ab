"""The API document's own messages, sent to a live daemon, get what the document shows, key by key.

Extra keys are safe in all of its clients, so they may be there; a key that is missing or of another type may not.
"""

import socket
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.integration.harness import Client, LiveDaemon, Message
from tests.integration.program import require
from tests.integration.test_examples import free_port

STATUSES = ("starting", "online", "stopping", "stopped", "errored", "restarting")
EVENTS = ("started", "stopped", "crashed", "restarted", "health_check_failed", "memory_limit_exceeded")

PROCESS_METRICS = {"id": int, "name": str, "cpu": float, "memory": int, "uptime": int, "restarts": int}

SHAPES: dict[str, Any] = {
    "process_status": {
        "id": int,
        "name": str,
        "status": STATUSES,
        "pid": int | None,
        "port": int | None,
        "previous_status": (*STATUSES, None),
    },
    "process_metrics": {"processes": [PROCESS_METRICS]},
    "system_metrics": {
        "cpu": {"usage": float, "cores": int},
        "memory": {"total": int, "used": int, "available": int, "usage_percent": float},
        "load": {"one": float, "five": float, "fifteen": float},
    },
    "health_update": {
        "process": str,
        "status": ("healthy", "unhealthy", "unknown"),
        "previous_status": ("healthy", "unhealthy", "unknown"),
        "check_type": "http",
        "details": {"url": str | None, "response_time": int | None, "status_code": int | None},
    },
    "process_event": {"event": str, "process": str, "details": dict},
    "log_message": {
        "process": str,
        "instance": int,
        "level": str,
        "message": str,
        "stream": ("stdout", "stderr"),
    },
}
"""What the document shows of the data of each message that the daemon pushes."""

SUBSCRIBE = {"events": ["process_status", "process_metrics"], "processes": ["web-api", "worker"], "interval": 1000}
UNSUBSCRIBE = {"events": ["system_metrics"]}
START = {
    "action": "start",
    "process": "new-service",
    "config": {"script": "node", "args": ["server.js"], "port": "3002"},
}

SERVER_JS = """
const port = process.env.PORT;
require('http').createServer((_, answer) => answer.end('hello')).listen(port, () =>
  console.log('Server started on port ' + port));
"""

WEB_API = """
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("sick") else 200)
        self.end_headers()
    def log_message(self, *args): pass
port = int(os.environ["PORT"])
server = http.server.HTTPServer(("127.0.0.1", port), Page)
print("Server started on port", port, flush=True)
server.serve_forever()
"""

APPS = """
apps:
  - name: web-api
    script: {python}
    args: [web-api.py]
    cwd: {cwd}
    port: {port}
    autostart: false
    health_check:
      {{check_type: http, url: "http://localhost:{port}/health", interval: 50ms, retries: 2, restart: false}}
  - name: worker
    script: sh
    args: [-c, "test -e bad && exit 3; while :; do sleep 60; done"]
    cwd: {cwd}
  - name: eater
    script: {python}
    args: [-c, "import time; hoard = bytearray(60 << 20); time.sleep(60)"]
    autostart: false
    max_memory_restart: 30M
"""


class DocumentCase(TestCase):
    async def begin(self) -> Client:
        """A client of a daemon that runs in a directory with the document's ``server.js``."""
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        (self.place / "server.js").write_text(SERVER_JS)
        (self.place / "web-api.py").write_text(WEB_API)
        self.port = free_port()
        config = APPS.format(python=sys.executable, cwd=self.place, port=self.port)
        daemon = await LiveDaemon.start(self, config=config, cwd=str(self.place))
        client = await daemon.connect()
        await client.until_online("worker")
        return client

    def check_envelope(self, message: Message) -> None:
        """[E1]"""
        self.assertEqual(set(message) - {"reply_to"}, {"type", "data", "timestamp", "id"})
        self.assertRegex(message["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertIsInstance(message["id"], str)

    def check(self, shape: Any, value: Any, where: str) -> None:
        """*value* is what *shape* says: a type, one of several values, a list of such, or an object with such."""
        if isinstance(shape, dict):
            self.assertIsInstance(value, dict, where)
            self.assertEqual(shape.keys() - value.keys(), set(), where)
            for key, inner in shape.items():
                self.check(inner, value[key], f"{where}.{key}")
        elif isinstance(shape, list):
            self.assertTrue(value, f"{where} is empty")
            for number, each in enumerate(value):
                self.check(shape[0], each, f"{where}[{number}]")
        elif isinstance(shape, tuple):
            self.assertIn(value, shape, where)
        elif isinstance(shape, str):
            self.assertEqual(value, shape, where)
        else:
            self.assertIsInstance(value, int | float if shape is float else shape, where)
            self.assertFalse(isinstance(value, bool), where)

    def check_pushed(self, client: Client) -> set[str]:
        """All that was pushed is as the document shows it; the types that were."""
        pushed = [message for message in client.messages if "reply_to" not in message]
        for message in pushed:
            self.check_envelope(message)
            self.check(SHAPES[message["type"]], message["data"], message["type"])
        return {message["type"] for message in pushed}

    async def event(self, client: Client, process: str, event: str, after: int = 0) -> Message:
        """The details of a ``process_event``."""

        def told(message: Message) -> bool:
            data = message["data"]
            return message["type"] == "process_event" and (data["process"], data["event"]) == (process, event)

        return (await client.expect(told, after=after, timeout=20, what=f"{process} {event}"))["data"]["details"]


class RequestTests(DocumentCase):
    async def test_subscribe_and_unsubscribe(self) -> None:
        client = await self.begin()
        await client.request("unsubscribe")
        client.messages.clear()
        ack = await client.request("subscribe", SUBSCRIBE)
        self.check_envelope(ack)
        self.assertEqual(ack["type"], "subscribed")
        chosen = sorted(SUBSCRIBE["processes"])
        self.assertEqual(ack["data"]["events"]["process_metrics"], {"processes": chosen, "interval": 1000})
        self.assertEqual(ack["data"]["events"]["process_status"]["processes"], chosen)
        first = await client.expect("process_metrics")
        self.assertEqual([each["name"] for each in first["data"]["processes"]], ["web-api", "worker"])
        self.assertEqual([each["status"] for each in first["data"]["processes"]], ["stopped", "online"])
        ack = await client.request("unsubscribe", UNSUBSCRIBE)
        self.assertEqual((ack["type"], set(ack["data"]["events"])), ("unsubscribed", set(SUBSCRIBE["events"])))
        self.assertEqual(self.check_pushed(client), {"process_metrics"})

    async def test_the_five_actions(self) -> None:
        require(self, "node")
        client = await self.begin()
        await client.request("subscribe", {"events": ["process_status", "process_event", "log_message"]})
        client.messages.clear()
        config = {**START["config"], "port": "3002" if _is_free(3002) else str(free_port())}
        started = await client.command(**{**START, "config": config})
        (service,) = started["processes"]
        self.assertEqual((started["action"], started["process"], started["success"]), ("start", "new-service", True))
        self.assertEqual((service["status"], service["port"]), ("online", int(config["port"])))
        details = await self.event(client, "new-service", "started")
        self.check({"pid": int, "port": int, "startup_time": int}, details, "started")
        self.assertEqual((details["pid"], details["port"]), (service["pid"], service["port"]))
        line = await client.expect("log_message")
        self.assertEqual(
            {key: line["data"][key] for key in SHAPES["log_message"]},
            {
                "process": "new-service",
                "instance": 0,
                "level": "info",
                "message": f"Server started on port {service['port']}",
                "stream": "stdout",
            },
        )
        for action, told, status in (
            ("restart", "restarted", "online"),
            ("reload", "reloaded", "online"),
            ("stop", "stopped", "stopped"),
            ("delete", "deleted", "stopped"),
        ):
            after = len(client.messages)
            result = await client.command(action, "new-service")
            self.assertEqual((result["action"], result["processes"][0]["status"]), (action, status))
            self.assertIsInstance(await self.event(client, "new-service", told, after), dict)
            last = client.messages[-1]
            self.assertEqual((last["type"], last["data"]["action"]), ("command_result", action), "[P11]")
        self.assertEqual(self.check_pushed(client), {"process_status", "process_event", "log_message"})
        statuses = [each["status"] for each in client.of_type("process_status")]
        self.assertEqual(statuses[:5], ["starting", "online", "restarting", "starting", "online"])
        self.assertEqual(statuses[-2:], ["stopping", "stopped"])
        previous = [each["previous_status"] for each in client.of_type("process_status")]
        self.assertEqual(previous, [None, *statuses[:-1]], "[P7]")

    async def test_information(self) -> None:
        client = await self.begin()
        info = await client.request("get_info", {"process": "web-api"})
        self.check_envelope(info)
        self.assertEqual(info["type"], "process_info")
        shape = {**PROCESS_METRICS, "status": STATUSES, "config": dict, "logs": dict, "created_at": str}
        self.check(shape, info["data"], "process_info")
        self.assertEqual(info["data"]["config"]["port"], self.port)
        system = await client.request("get_system", {})
        self.check_envelope(system)
        self.assertEqual(system["type"], "system_info")
        daemon = {"version": str, "pid": int, "uptime": int, "memory": int, "clients": int, "loop_lag": float}
        shape = {**SHAPES["system_metrics"], "hostname": str, "platform": str, "uptime": int, "daemon": daemon}
        self.check(shape, system["data"], "system_info")
        self.assertEqual(system["data"]["daemon"]["clients"], 1)


class PushTests(DocumentCase):
    async def test_figures(self) -> None:
        client = await self.begin()
        client.messages.clear()
        await client.request("subscribe", {"events": ["process_metrics", "system_metrics"], "interval": 100})
        for type_ in ("process_metrics", "system_metrics"):
            for _ in range(3):
                after = len(client.messages)
                await client.expect(type_, after=after)
        self.assertEqual(self.check_pushed(client), {"process_metrics", "system_metrics"})
        worker = next(each for each in client.of_type("process_metrics")[-1]["processes"] if each["name"] == "worker")
        self.assertGreater(worker["memory"], 100_000)
        self.assertGreater(worker["uptime"], 0)
        memory = client.of_type("system_metrics")[-1]["memory"]
        self.assertEqual(memory["used"], memory["total"] - memory["available"])

    async def test_a_life_with_health(self) -> None:
        client = await self.begin()
        events = ["process_status", "process_event", "health_update", "log_message"]
        await client.request("subscribe", {"events": events})
        client.messages.clear()
        await client.command("start", "web-api")
        await self._health("healthy", client, 200)
        after = len(client.messages)
        (self.place / "sick").touch()
        await self._health("unhealthy", client, 503)
        details = await self.event(client, "web-api", "health_check_failed", after)
        self.check({"check_type": "http", "failures": int, "error": str}, details, "health_check_failed")
        after = len(client.messages)
        (self.place / "sick").unlink()
        await self._health("healthy", client, 200, after)
        self.assertEqual(self.check_pushed(client), set(events))

    async def _health(self, status: str, client: Client, code: int, after: int = 0) -> None:
        update = await client.expect(
            lambda message: message["type"] == "health_update" and message["data"]["status"] == status, after=after
        )
        details = update["data"]["details"]
        self.assertEqual((update["data"]["process"], details["status_code"]), ("web-api", code))
        self.assertEqual(details["url"], f"http://localhost:{self.port}/health")
        self.check({"response_time": int}, details, "details")

    async def test_every_kind_of_event(self) -> None:
        client = await self.begin()
        await client.request("subscribe", {"events": ["process_event"]})
        client.messages.clear()
        await client.command("start", "eater")
        (self.place / "bad").touch()
        await client.command("restart", "worker", wait=False)
        crashed = await self.event(client, "worker", "crashed")
        self.assertEqual((crashed["exit_code"], crashed["exit_signal"]), (3, None))
        self.check({"uptime": int, "attempt": int, "last_lines": list}, crashed, "crashed")
        (self.place / "bad").unlink()
        await self.event(client, "worker", "restarted")
        await client.command("stop", "worker")
        stopped = await self.event(client, "worker", "stopped")
        self.assertEqual(stopped["reason"], "command")
        eaten = await self.event(client, "eater", "memory_limit_exceeded")
        self.assertEqual(eaten["limit"], 30 << 20)
        self.assertGreater(eaten["memory"], 60 << 20)
        self.check_pushed(client)
        kinds = {each["event"] for each in client.of_type("process_event")}
        self.assertEqual(set(EVENTS) - kinds, {"health_check_failed"})


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
