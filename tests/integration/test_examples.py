"""The example apps and the example clients for Node.js, asyncio and Twisted, each run against a live daemon."""

import os
import shutil

from twisted.trial.unittest import TestCase

from tests.integration.harness import Client, LiveDaemon
from tests.integration.program import ROOT, Program, free_port, node, python

NAMES = ("web", "worker-0", "worker-1", "flaky")
STEADY = {"PACE": "0.05", "CRASH_AFTER": "900"}


async def example_daemon(test: TestCase, *options: str, **more: object) -> tuple[LiveDaemon, Client]:
    """A daemon with the apps of examples/ecosystem.yaml, all online, web on a port of its own; and a client."""
    text = (ROOT / "examples/ecosystem.yaml").read_text().replace("8100", str(free_port()))
    config = text.replace("apps/", f"{ROOT}/examples/apps/")
    daemon = await LiveDaemon.start(test, *options, config=config, **{"env": STEADY, **more})
    client = await daemon.connect()
    await client.until_online(*NAMES)
    return daemon, client


class AppsTests(TestCase):
    """examples/ecosystem.yaml and examples/apps."""

    async def test_web_answers_and_is_healthy(self) -> None:
        daemon, client = await example_daemon(self)
        web = (await client.request("get_info", {"process": "web"}))["data"]
        self.assertEqual(web["health"], "healthy")
        self.assertIsInstance(web["port"], int)
        status, _, body = await daemon.get("/", port=web["port"])
        self.assertEqual((status, body), (200, b"Hello from a child of PMDaemon.\n"))

    async def test_worker_logs_in_every_way(self) -> None:
        _, client = await example_daemon(self)
        await client.request("subscribe", {"events": ["log_message"], "processes": ["worker"], "tail": 100})
        for level, stream, part in (
            ("info", "stdout", "primes in"),
            ("debug", "stdout", "queue looked at"),
            ("warn", "stdout", "slower than promised"),
            ("error", "stderr", "not there"),
        ):
            line = await client.expect(lambda message, part=part: part in message["data"].get("message", ""), what=part)
            self.assertEqual((line["data"]["level"], line["data"]["stream"]), (level, stream), line)

    async def test_flaky_comes_back_after_its_crash(self) -> None:
        _, client = await example_daemon(self, env={**STEADY, "CRASH_AFTER": "2"})
        after = len(client.messages)
        await client.request("subscribe", {"events": ["process_event", "process_status"], "processes": ["flaky"]})
        crashed = await client.expect(lambda message: message["data"].get("event") == "crashed", timeout=20)
        self.assertEqual(crashed["data"]["details"]["exit_code"], 1)
        self.assertIn("lost the weather service", str(crashed["data"]["details"]["last_lines"]))
        await client.expect_status("flaky", "restarting", after=after)
        await client.expect_status("flaky", "online", after=client.messages.index(crashed))


class ClientTests(TestCase):
    """Each client says what it is told, ends by itself after --seconds, and says why it cannot connect."""

    async def check(self, argv: list[str], env: dict[str, str] | None = None) -> None:
        daemon, client = await example_daemon(self)
        watcher = Program.start(self, [*argv, daemon.url], env=env)
        await watcher.line(r"^watching .*\bweb\b.*\bworker-1\b")
        await watcher.line(r"^process  worker-0: online, CPU [\d.]+%, memory [\d.]+ MB$")
        await watcher.line(r"^system   CPU [\d.]+% of \d+ cores, memory [\d.]+%, load [\d.]+$")
        await client.command("stop", "worker-1")
        await watcher.line(r"^status   worker-1: online -> stopping$")
        await watcher.line(r"^status   worker-1: stopping -> stopped$")
        await watcher.line(r"^process  worker-1: stopped, CPU 0")
        await watcher.kill()

        short = Program.start(self, [*argv, daemon.url, "--seconds", "0.3"], env=env)
        self.assertEqual(await short.ended(), 0, str(short))
        self.assertRegex(short.output, r"\nclosed")

        lost = Program.start(self, [*argv, f"ws://localhost:{free_port()}/ws"], env=env)
        self.assertEqual(await lost.ended(), 1, str(lost))
        self.assertRegex(lost.output, r"\Acannot watch: .*refused|\Acannot watch: .*(ECONNREFUSED|Connect call failed)")

    async def test_node(self) -> None:
        program, env = node(self)
        await self.check([program, "examples/node-client.js"], env)

    async def test_asyncio(self) -> None:
        await self.check(python("examples/python_client.py"))

    async def test_twisted(self) -> None:
        await self.check(python("examples/twisted_client.py"))


class DocumentTests(TestCase):
    """What the API document's own clients read from a message is there, with the type that they need."""

    async def test_metrics_and_status(self) -> None:
        _, client = await example_daemon(self)
        events = ["process_status", "process_metrics", "system_metrics"]
        await client.request("subscribe", {"events": events, "processes": None, "interval": 1000})
        processes = (await client.expect("process_metrics"))["data"]["processes"]
        self.assertEqual(sorted(process["name"] for process in processes), sorted(NAMES))
        for process in processes:
            for figure in ("id", "cpu", "memory", "uptime", "restarts"):
                self.assertIsInstance(process[figure], (int, float), process)  # [P4]: never null
            self.assertEqual(process["status"], "online")  # [P4]: the document's page colours by it
        system = (await client.expect("system_metrics"))["data"]
        for group, figure in (("cpu", "usage"), ("memory", "usage_percent"), ("load", "one")):
            self.assertIsInstance(system[group][figure], (int, float), system)

    async def test_start_and_stop_as_the_document_sends_them(self) -> None:
        """Commands without ids, a port as text, a script found in the daemon's directory: [E2], [P6], [R5]."""
        folder = self.mktemp()
        os.mkdir(folder)
        shutil.copy(ROOT / "examples/apps/web.py", os.path.join(folder, "server.py"))
        daemon = await LiveDaemon.start(self, cwd=os.path.abspath(folder))
        client = await daemon.connect()
        await client.request("subscribe", {"events": ["process_status"], "processes": None})
        port = free_port()
        config = {"script": "python3", "args": ["server.py"], "port": str(port)}
        client.send("command", {"action": "start", "process": "new-service", "config": config})
        online = await client.expect_status("new-service", "online")
        self.assertEqual(online["data"]["port"], port)
        client.send("command", {"action": "stop", "process": "new-service"})
        await client.expect_status("new-service", "stopped")
        self.assertNotIn("error", [message["type"] for message in client.messages])
