"""Real children through their lives: whole trees that end, crashes, readiness, memory limits, reloads."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.trial.unittest import TestCase
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

from tests.integration.harness import Client, LiveDaemon, Message
from tests.integration.program import ROOT, free_port

WEB = {"script": sys.executable, "args": [str(ROOT / "examples/apps/web.py")]}
NOTIFY = """
import os, socket, time
path = os.environ["NOTIFY_SOCKET"]
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"STATUS=well\\nREADY=1", path)
time.sleep(1000)
"""
GONE = (ConnectError, ConnectionClosed, RequestTransmissionFailed, ResponseFailed)
"""What a request fails with whose server has ended, before it or in the midst of it."""

READY = {"readiness": {"log_line": "set"}}
EATER = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; fat = bytearray(64 << 20); time.sleep(1000)"])
"""


def sh(script: str, **fields: Any) -> dict[str, Any]:
    return {"script": "/bin/sh", "args": ["-c", script], **fields}


def python(script: str, **fields: Any) -> dict[str, Any]:
    return {"script": sys.executable, "args": ["-c", script], **fields}


Scene = Callable[[LiveDaemon, Client], Awaitable[None]]


class LifeTestCase(TestCase):
    timeout = 60

    async def begin(self, **options: Any) -> tuple[LiveDaemon, Client]:
        daemon = await LiveDaemon.start(self, **options)
        return daemon, await self.listen(daemon)

    async def listen(self, daemon: LiveDaemon) -> Client:
        client = await daemon.connect()
        await client.request("subscribe", {"events": ["process_status", "process_event", "health_update"]})
        return client

    async def side_by_side(self, *scenes: Scene) -> None:
        """Play *scenes* on one daemon at the same time: most of what each takes is waiting."""
        daemon = await LiveDaemon.start(self)

        async def play(scene: Scene) -> None:
            await scene(daemon, await self.listen(daemon))

        for ok, result in await DeferredList([ensureDeferred(play(scene)) for scene in scenes], consumeErrors=True):
            if not ok:
                result.raiseException()

    async def start(self, client: Client, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """Start an app; its first process."""
        return (await client.command("start", name, config=config))["processes"][0]

    async def event(self, client: Client, name: str, event: str, after: int = 0) -> dict[str, Any]:
        """The details of the first event of that name, past or to come."""

        def matches(message: Message) -> bool:
            data = message["data"]
            return message["type"] == "process_event" and (data["process"], data["event"]) == (name, event)

        found = await client.expect(matches, after=after, what=f"{name} {event}")
        return found["data"]["details"]

    async def info(self, client: Client, name: str) -> dict[str, Any]:
        return (await client.request("get_info", {"process": name}))["data"]

    def story(self, client: Client, name: str) -> list[str]:
        """Statuses as they are, events as ``+started``, in the order in which they came."""
        words = []
        for message in client.messages:
            data = message["data"]
            if message["type"] == "process_status" and data["name"] == name:
                words.append(data["status"])
            elif message["type"] == "process_event" and data["process"] == name:
                words.append(f"+{data['event']}")
        return words

    def children_of(self, daemon: LiveDaemon, name: str) -> list[int]:
        """The pids of all that runs for a process, wherever it went."""
        found = []
        for process in daemon.survivors():
            try:
                if process.environ().get("PMDAEMON_PROCESS_NAME") == name:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return sorted(found)


class StopTests(LifeTestCase):
    async def test_whole_trees(self) -> None:
        """Nothing of a process is left when the stop is answered, whatever its members made of themselves."""
        daemon, client = await self.begin()
        apps = {
            "plain": sh("sleep 1000 & sleep 1000"),
            "session": sh("setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & wait"),
            "deaf": sh("trap '' TERM; echo set; while :; do sleep 0.05; done", kill_timeout="200ms", **READY),
            "deaf-child": sh("sh -c \"trap '' TERM; echo set; sleep 1000\" & wait", kill_timeout="200ms", **READY),
            "int": sh("trap 'exit 7' INT; echo set; while :; do sleep 0.01; done", stop_signal="SIGINT", **READY),
        }
        for name, config in apps.items():
            await self.start(client, name, config)
        await client.command("stop", "plain")
        for name in apps:
            await client.command("stop", name)
            self.assertEqual(self.children_of(daemon, name), [], name)
        self.assertEqual((await self.event(client, "deaf", "stopped"))["exit_signal"], "SIGKILL")
        self.assertEqual((await self.event(client, "int", "stopped"))["exit_code"], 7)
        self.assertEqual(self.story(client, "plain")[-3:], ["stopping", "stopped", "+stopped"])

    async def test_daemon_stops(self) -> None:
        """All at once: two that are deaf take no longer than one; `LiveDaemon.stop` sees that none is left."""
        daemon, client = await self.begin()
        deaf = sh("trap '' TERM; setsid sleep 1000 & echo set; while :; do sleep 0.05; done", **READY)
        await self.start(client, "deaf", {**deaf, "kill_timeout": "1s", "instances": 4})
        begun = reactor.seconds()
        await daemon.stop()
        self.assertLess(reactor.seconds() - begun, 3.5)


class RestartTests(LifeTestCase):
    async def test_restarts(self) -> None:
        await self.side_by_side(self.crash, self.ends, self.cannot_be_started, self.memory_limit)

    async def crash(self, daemon: LiveDaemon, client: Client) -> None:
        """[P10]: what is told, in order, with its last words; the restart is at once."""
        config = sh("echo working; echo failing >&2; sleep 1000", readiness={"log_line": "failing"})
        process = await self.start(client, "crasher", config)
        os.kill(process["pid"], signal.SIGKILL)
        restarted = await self.event(client, "crasher", "restarted")
        self.assertEqual((restarted["reason"], restarted["previous_pid"]), ("crash", process["pid"]))
        crashed = await self.event(client, "crasher", "crashed")
        self.assertEqual((crashed["exit_signal"], crashed["last_lines"]), ("SIGKILL", ["working", "failing"]))
        crash = ["restarting", "+crashed", "starting", "online", "+restarted"]
        self.assertEqual(self.story(client, "crasher"), ["+created", "starting", "online", "+started", *crash])
        self.assertEqual((await self.info(client, "crasher"))["restarts"], 1)

    async def ends(self, daemon: LiveDaemon, client: Client) -> None:
        """[P9]: each kind of end, in real children."""
        for name, config in (
            ("one-shot", sh("exit 0", autorestart=False)),
            ("failed", sh("exit 3", autorestart=False)),
            ("done", sh("exit 4", stop_exit_codes=[4])),
            ("hopeless", sh("exit 5", max_restarts=2)),
            ("patient", sh("exit 6", max_restarts=1, restart_delay="100ms")),
            ("unready", sh("exit 0", readiness={"log_line": "never"}, max_restarts=0)),
        ):
            client.send("command", {"action": "start", "process": name, "config": config})
        for name in ("one-shot", "done"):
            await self.event(client, name, "stopped")
        for name in ("hopeless", "patient", "unready"):
            await self.event(client, name, "gave_up")
        self.assertEqual((await self.event(client, "failed", "crashed"))["exit_code"], 3)
        expected = {"one-shot": ("stopped", 0), "failed": ("errored", 3), "done": ("stopped", 4)}
        expected |= {"hopeless": ("errored", 5), "patient": ("errored", 6), "unready": ("errored", 0)}
        for name, facts in expected.items():
            found = await self.info(client, name)
            self.assertEqual((found["status"], found["exit_code"]), facts, name)
        self.assertEqual(self.story(client, "hopeless").count("+restarted"), 2)

    async def cannot_be_started(self, daemon: LiveDaemon, client: Client) -> None:
        """At once, in plain words."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        for name, text in (("plain", "x"), ("broken", "#!/no/such/interpreter\n")):
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)
        os.chmod(f"{folder}/broken", 0o755)
        for number, (config, words) in enumerate(
            (
                ({"script": f"{folder}/missing"}, f"there is no file '{folder}/missing'"),
                ({"script": "no-such-program-at-all"}, "PATH="),
                ({"script": f"{folder}/plain"}, "is not executable"),
                ({"script": f"{folder}/broken"}, "/no/such/interpreter"),
                ({"script": "/bin/sh", "cwd": f"{folder}/nowhere"}, f"'{folder}/nowhere' does not exist"),
                ({"script": "/bin/sh", "env_file": f"{folder}/no.env"}, "No such file"),
            )
        ):
            command = {"action": "start", "process": f"app{number}", "config": config}
            error = (await client.request("command", command))["data"]
            self.assertEqual(error.get("code"), "PROCESS_START_FAILED", error)
            self.assertIn(words, error["message"])
            self.assertEqual((await self.info(client, f"app{number}"))["status"], "errored")

    async def memory_limit(self, daemon: LiveDaemon, client: Client) -> None:
        """[P10]: of the whole tree: the one that was started uses next to nothing itself."""
        process = await self.start(client, "eater", python(EATER, max_memory_restart="48M"))
        exceeded = await self.event(client, "eater", "memory_limit_exceeded")
        self.assertEqual(exceeded["limit"], 48 << 20)
        self.assertGreater(exceeded["memory"], 64 << 20)
        restarted = await self.event(client, "eater", "restarted")
        self.assertEqual((restarted["reason"], restarted["previous_pid"]), ("memory_limit", process["pid"]))


class ReadinessTests(LifeTestCase):
    async def test_readiness(self) -> None:
        await self.side_by_side(self.forms, self.too_late)

    async def forms(self, daemon: LiveDaemon, client: Client) -> None:
        """[P8]: online when it is ready, in every form; [R1]: the answer comes then."""
        port = free_port()
        check = {"check_type": "http", "url": f"http://localhost:{port}/health"}
        slow_start = "sleep 0.3; "
        for name, config, least in (
            ("exec", sh("sleep 1000"), 0),
            ("log-line", sh(f"{slow_start} echo now it is ready; sleep 1000", readiness={"log_line": "is ready"}), 300),
            ("stderr", sh(f"{slow_start} echo ready >&2; sleep 1000", readiness={"log_line": "ready"}), 300),
            ("notify", python(NOTIFY, readiness="notify"), 1),
            ("port", {**WEB, "port": "auto:20000-29999", "readiness": "port"}, 1),
            ("health", {**WEB, "port": port, "health_check": check}, 1),
        ):
            process = await self.start(client, name, config)
            self.assertEqual(process["status"], "online", name)
            details = await self.event(client, name, "started")
            self.assertGreaterEqual(details["startup_time"], least, name)
            self.assertEqual(self.story(client, name), ["+created", "starting", "online", "+started"])
        self.assertEqual((await self.info(client, "health"))["health"], "healthy")

    async def too_late(self, daemon: LiveDaemon, client: Client) -> None:
        config = sh("sleep 1000", readiness={"log_line": "never"}, listen_timeout="200ms", max_restarts=0)
        error = (await client.request("command", {"action": "start", "process": "late", "config": config}))["data"]
        self.assertIn("not ready within its listen_timeout", error["message"])
        self.assertEqual((await self.event(client, "late", "gave_up"))["reason"], "not_ready")


class ReloadTests(LifeTestCase):
    async def test_reloads(self) -> None:
        await self.side_by_side(self.rolling, self.fixed_port, self.failing)

    async def fetch(self, daemon: LiveDaemon, port: int) -> bytes:
        return (await daemon.get("/", host="127.0.0.1", port=port))[2]

    async def rolling(self, daemon: LiveDaemon, client: Client) -> None:
        """[R6]: an app that takes any port is there at every moment: the old one until the new one is."""
        config = {**WEB, "port": "auto:20000-29999", "readiness": "port", "min_uptime": "200ms"}
        old = await self.start(client, "web", config)
        client.send("command", {"action": "reload", "process": "web"}, id="reload")
        answered = 0
        while True:
            try:
                await self.fetch(daemon, old["port"])
                answered += 1
            except GONE:  # or it went just now
                break
        new = await self.info(client, "web")
        self.assertIn(b"Hello", await self.fetch(daemon, new["port"]))
        self.assertGreater(answered, 3)
        reply = await client.expect(lambda message: message.get("reply_to") == "reload", what="the reply")
        self.assertEqual(reply["type"], "command_result", reply)
        (process,) = reply["data"]["processes"]
        self.assertEqual((process["id"], process["pid"], process["restarts"]), (old["id"], new["pid"], 1))
        reloaded = await self.event(client, "web", "reloaded")
        self.assertEqual((reloaded["pid"], reloaded["previous_pid"]), (new["pid"], old["pid"]))
        self.assertEqual(self.children_of(daemon, "web"), [new["pid"]])

    async def fixed_port(self, daemon: LiveDaemon, client: Client) -> None:
        """Only one can have it: the old one stops first, and comes back if the new one fails."""
        port = free_port()
        config = {**WEB, "port": port, "readiness": "port", "min_uptime": "50ms", "kill_timeout": "5s"}
        old = await self.start(client, "fixed", config)
        (new,) = (await client.command("reload", "fixed"))["processes"]
        self.assertNotEqual(new["pid"], old["pid"])
        self.assertIn(b"Hello", await self.fetch(daemon, port))
        bad = {"action": "reload", "process": "fixed", "config": {**config, "args": ["-c", "raise SystemExit(9)"]}}
        error = (await client.request("command", bad))["data"]
        self.assertEqual(error["code"], "PROCESS_START_FAILED", error)
        self.assertIn("exit code 9", error["message"])
        self.assertIn(b"Hello", await self.fetch(daemon, port))
        self.assertEqual((await self.info(client, "fixed"))["config"]["args"], WEB["args"])

    async def failing(self, daemon: LiveDaemon, client: Client) -> None:
        """The old one stays, undisturbed, whatever keeps the new one down; a stop ends both."""
        old = await self.start(client, "steady", sh("sleep 1000"))
        tree = self.children_of(daemon, "steady")
        for config, words in (
            (sh("exit 3", min_uptime="5s"), "exit code 3"),
            (sh("sleep 1000", readiness={"log_line": "never"}, listen_timeout="100ms"), "not ready"),
            ({"script": "/no/such/file"}, "no file"),
        ):
            error = (await client.request("command", {"action": "reload", "process": "steady", "config": config}))[
                "data"
            ]
            self.assertIn(words, error["message"])
            self.assertEqual((await self.info(client, "steady"))["pid"], old["pid"])
        self.assertEqual(self.children_of(daemon, "steady"), tree)
        self.assertEqual(self.story(client, "steady"), ["+created", "starting", "online", "+started"])
        config = sh("sleep 1000", readiness={"log_line": "never"})
        client.send("command", {"action": "reload", "process": "steady", "config": config}, id="reload")
        await client.command("stop", "steady")
        reply = await client.expect(lambda message: message.get("reply_to") == "reload", what="the reply")
        self.assertIn("superseded by stop", reply["data"]["message"])
        self.assertEqual(self.children_of(daemon, "steady"), [])


class DesiredStateTests(LifeTestCase):
    async def test_the_next_daemon(self) -> None:
        """What was started is started again, what was stopped stays so; commands at the end are answered."""
        daemon, client = await self.begin()
        for name in ("web", "idle"):
            await self.start(client, name, sh("sleep 1000"))
        await client.command("stop", "idle")
        slow = sh("trap '' TERM; echo deaf; while :; do sleep 0.05; done", kill_timeout="500ms")
        await self.start(client, "slow", {**slow, "readiness": {"log_line": "deaf"}})
        client.send("command", {"action": "restart", "process": "slow"}, id="restart")
        await client.expect_status("slow", "restarting")
        daemon.program.signal("TERM")
        reply = await client.expect(lambda message: message.get("reply_to") == "restart", what="the reply")
        self.assertEqual(reply["data"]["code"], "OPERATION_FAILED", reply)
        await daemon.program.ended(30)
        await daemon.assert_no_survivor()
        daemon, client = await self.begin(home=daemon.home)
        await client.until_online("web", "slow")
        self.assertEqual((await self.info(client, "idle"))["status"], "stopped")
