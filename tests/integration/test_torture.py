"""Eight clients at once command whatever comes to their minds, children are killed meanwhile; then everything is right.

PMDAEMON_TORTURE_ROUNDS is how many commands each gives (60), PMDAEMON_TORTURE_SEED makes a run like an earlier one.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
from twisted.internet import reactor
from twisted.internet.defer import FirstError, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.harness import Client, LiveDaemon, Message

CLIENTS = 8
ROUNDS = int(os.environ.get("PMDAEMON_TORTURE_ROUNDS", "60"))
SEED = int(os.environ.get("PMDAEMON_TORTURE_SEED", random.randrange(1 << 32)))

NAMES = ("a", "b", "c", "d", "e", "f")
SELECTORS = (*NAMES, *NAMES, *NAMES, "a-0", "b-1", "c-0", "[abc]*", "ns:odd", "all")
RESTLESS = ("echo up; sleep 0.2; exit 1", "sleep 0.1", "exit 1")
SCRIPTS = (
    "sleep 1000",
    "sleep 1000 & setsid sleep 1000 & wait",
    "trap '' TERM HUP; while :; do sleep 0.05; done",
    *RESTLESS,
)
EXPECTED = {
    "PROCESS_NOT_FOUND",
    "PROCESS_ALREADY_EXISTS",
    "PROCESS_ALREADY_RUNNING",
    "PROCESS_START_FAILED",
    "INVALID_CONFIGURATION",
    "INVALID_MESSAGE",
    "PORT_IN_USE",
    "OPERATION_FAILED",
}
SETTLED = {"online", "stopped", "errored"}


class Tormentor:
    """One client and its whims."""

    def __init__(self, daemon: LiveDaemon, client: Client, seed: int) -> None:
        self.daemon = daemon
        self.client = client
        self.random = random.Random(seed)

    def config(self) -> dict[str, Any]:
        pick = self.random.choice
        config = {
            "script": "/bin/sh",
            "args": ["-c", pick(SCRIPTS)],
            "instances": pick((1, 1, 2, 3)),
            "namespace": pick(("odd", "even")),
            "autorestart": pick((True, True, False)),
            "port": pick((None, None, "auto:21000-21063", "21100-21105")),
            "readiness": pick((None, None, {"log_line": "up"})),
            "restart_delay": pick((0, 0, 20)),
            "max_restarts": 3,
            "min_uptime": 30,
            "kill_timeout": pick((50, 200)),
            "listen_timeout": 300,
        }
        if self.random.random() < 0.05:
            config["script"] = "/no/such/script"
        return config

    def command(self) -> dict[str, Any]:
        pick = self.random.choice
        actions = ("start", "start", "new", "new", "stop", "restart", "delete", "reload", "renew", "scale", "signal")
        action = pick((*actions, "reset"))
        process = pick(NAMES if action in ("new", "renew", "scale") else SELECTORS)
        if action == "new":
            return {"action": "start", "process": process, "config": self.config(), "replace": pick((True, False))}
        if action == "renew":
            return {"action": "reload", "process": process, "config": self.config()}
        further = {"scale": {"instances": pick((1, 2, 3))}, "signal": {"signal": pick(("HUP", "USR1", "CONT"))}}
        return {"action": action, "process": process, **further.get(action, {})}

    async def torment(self) -> None:
        for _ in range(ROUNDS):
            if self.random.random() < 0.1:
                self.kill_somebody()
            command = self.command() | ({"wait": False} if self.random.random() < 0.2 else {})
            reply = await self.client.request("command", command, timeout=60.0)
            error = reply["data"].get("code")
            assert error is None or error in EXPECTED, (command, reply)

    def kill_somebody(self) -> None:
        """As the kernel does when it is out of memory."""
        victims = [process["pid"] for process in self.client.of_type("process_status")[-20:] if process["pid"]]
        if victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(victims), signal.SIGKILL)


def _has_just_ended(pid: int | None) -> bool:
    """Whether it was killed, and the daemon is about to hear of it."""
    try:
        return pid is not None and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class TortureTests(TestCase):
    timeout = 3600

    async def test_torture(self) -> None:
        daemon = await LiveDaemon.start(self)
        watcher = await daemon.connect()
        await watcher.request("subscribe", {"events": ["process_status"]})
        tormentors = []
        for number in range(CLIENTS):
            client = await daemon.connect()
            await client.request("subscribe", {"events": ["process_status", "process_event"]})
            tormentors.append(Tormentor(daemon, client, SEED + number))
        begun = time.monotonic()
        with self.seed_told():
            await gatherResults([ensureDeferred(each.torment()) for each in tormentors], consumeErrors=True)
        taken = time.monotonic() - begun
        processes = await self.settled(watcher)
        self.check_processes(daemon, processes)
        self.check_told(watcher, processes)
        told = len(watcher.of_type("process_status"))
        if "PMDAEMON_TORTURE_ROUNDS" in os.environ:
            figures = (
                f"{CLIENTS * ROUNDS} commands in {taken:.1f} s, {told} changes of status, {len(processes)} processes"
            )
            print(f"\nseed {SEED}: {figures} left")
        await daemon.stop()

    @contextlib.contextmanager
    def seed_told(self) -> Iterator[None]:
        try:
            yield
        except FirstError as first:
            raise AssertionError(f"PMDAEMON_TORTURE_SEED={SEED}: {first.subFailure.value}") from first.subFailure.value

    async def settled(self, client: Client) -> list[Message]:
        """Stop who would go on ending by himself for ever; the processes when nothing is under way with any of them."""
        deadline = time.monotonic() + 30.0
        while True:
            processes = (await client.request("get_info"))["data"].get("processes", [])
            restless = [each for each in processes if each["pid"] and each["config"]["args"][-1] in RESTLESS]
            for process in restless:
                await client.command("stop", process["id"])
            underway = [each for each in processes if each["status"] not in SETTLED or _has_just_ended(each["pid"])]
            if not restless and not underway:
                return processes
            self.assertLess(time.monotonic(), deadline, (SEED, underway))
            await deferLater(reactor, 0.05)

    def check_processes(self, daemon: LiveDaemon, processes: list[Message]) -> None:
        """What is said to run runs, what runs is said to, each once; nobody is left over, nobody a zombie."""
        leaders = {process["pid"]: process["id"] for process in processes if process["status"] == "online"}
        self.assertNotIn(None, leaders)
        self.assertEqual({each["pid"] for each in processes if each["status"] != "online"} - {None}, set())
        for child in daemon.survivors():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # a shell's, that comes and goes
                self.check_child(child, leaders)
        for pid in leaders:
            self.assertTrue(psutil.pid_exists(pid), (pid, SEED))
        parents = {daemon.program.pid, *(psutil.Process(pid).ppid() for pid in leaders)}
        zombies = [each for each in psutil.process_iter(["ppid", "status"]) if each.info["ppid"] in parents]
        self.assertEqual([each for each in zombies if each.info["status"] == psutil.STATUS_ZOMBIE], [], SEED)

    def check_child(self, child: psutil.Process, leaders: dict[int, int]) -> None:
        """It belongs to a process that is online: its leader's session or one that descends from it."""
        number = child.environ().get("PMDAEMON_PROCESS_ID")
        if number is not None:
            ancestors = {child.pid, os.getsid(child.pid), *(parent.pid for parent in child.parents())} & leaders.keys()
            self.assertEqual({leaders[pid] for pid in ancestors}, {int(number)}, (child, SEED))

    def check_told(self, watcher: Client, processes: list[Message]) -> None:
        """Each status follows the one before it, and the last one is the true one."""
        last: dict[int, str] = {}
        for status in watcher.of_type("process_status"):
            self.assertEqual(status["previous_status"], last.get(status["id"]), (status, SEED))
            last[status["id"]] = status["status"]
        for process in processes:
            self.assertEqual(last.get(process["id"], "stopped"), process["status"], (process["name"], SEED))
