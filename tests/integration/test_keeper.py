"""Children outlive the daemon that holds them: killed, or replaced."""

import json
import os
import signal
import sqlite3
import time
from datetime import datetime
from pathlib import Path

from tests.integration.harness import LiveDaemon
from tests.integration.keepercase import ENDER, SLOW, WRITER, KeeperCase, alive, sh
from tests.integration.program import twistd


class KilledDaemonTests(KeeperCase):
    async def test_what_goes_on_and_what_happened_meanwhile(self) -> None:
        check = {"check_type": "script", "script": "true", "interval": "100ms"}
        daemon = await self.start(
            sh("writer", WRITER, health_check=check),
            sh("failing", ENDER + "exit 7"),
            sh("killed", "exec sleep 1000"),
            sh("done", ENDER + "exit 0", autorestart=False),
            sh("slow", SLOW, readiness={"log_line": "ready"}, kill_timeout="10s"),
            sh("stranger", "exec sleep 1000"),
        )
        client = await self.follow(daemon, "process_status", "process_event", "health_update")
        await client.until_online("writer", "failing", "killed", "done", "slow", "stranger")
        await client.command("restart", "writer")
        await client.expect(lambda each: each["type"] == "health_update" and each["data"]["status"] == "healthy")
        before = await self.processes(client)
        pids = {name: each["pid"] for name, each in before.items()}
        client.send("command", {"action": "stop", "process": "slow"})
        await client.expect_status("slow", "stopping")
        last = client.messages[-1]["id"]
        await daemon.crash()

        self.assertTrue(all(map(alive, pids.values())))
        at = time.time()
        await self.end("failing", pids["failing"])
        os.kill(pids["killed"], signal.SIGKILL)
        await self.end("done", pids["done"])
        await self.ended(pids["slow"])
        with sqlite3.connect(Path(self.home, "state.db")) as db:
            db.execute("DELETE FROM apps WHERE name = 'stranger'")
        db.close()
        until = time.time()

        again = await self.start()
        client = await self.follow(again, since=last)
        crashed = await self.event(client, "failing", "crashed")
        self.assertEqual(
            (crashed["data"]["details"]["exit_code"], crashed["data"]["details"]["exit_signal"]), (7, None)
        )
        told = [crashed, await self.event(client, "killed", "crashed"), await self.event(client, "done", "stopped")]
        self.assertEqual(told[1]["data"]["details"]["exit_signal"], "SIGKILL")
        self.assertEqual((told[2]["data"]["details"]["exit_code"], told[2]["data"]["details"]["reason"]), (0, "exit"))
        for each in told:
            self.assertTrue(at <= datetime.fromisoformat(each["timestamp"]).timestamp() <= until, each)
        await self.event(client, "failing", "restarted")
        await self.event(client, "killed", "restarted")
        await self.event(client, "slow", "stopped")
        adopted = await self.event(client, "writer", "adopted")
        self.assertEqual(adopted["data"]["details"]["pid"], pids["writer"])
        now = await self.processes(client)
        self.assertEqual(
            {name: (each["status"], each["restarts"]) for name, each in now.items()},
            {
                "writer": ("online", 1),
                "failing": ("online", 1),
                "killed": ("online", 1),
                "done": ("stopped", 0),
                "slow": ("stopped", 0),
            },
        )
        for field in ("id", "pid", "started_at", "health"):
            self.assertEqual(now["writer"].get(field), before["writer"].get(field), field)
        self.assertGreater(now["writer"]["uptime"], before["writer"]["uptime"])
        self.assertEqual({name: now[name]["id"] for name in now}, {name: before[name]["id"] for name in now})
        await self.ended(pids["stranger"])
        self.assertIn(f"ending process {pids['stranger']}, a child of none of the apps", again.log)
        await again.stop()
        self.assertEqual(daemon.survivors(), [])

    async def test_without_a_keeper_they_are_lost(self) -> None:
        """That these tests can fail."""
        daemon = await LiveDaemon.start(
            self, "--no-keeper", home=self.home, config=json.dumps({"apps": [sh("writer", WRITER, cwd="/")]})
        )
        client = await daemon.connect()
        await client.until_online("writer")
        pid = (await self.processes(client))["writer"]["pid"]
        await daemon.crash()
        await self.ended(pid)

    async def test_an_end_is_judged_once_however_often_it_is_told(self) -> None:
        """The daemon is killed when it has dealt with the end of a child, before the keeper may forget that."""
        command = (*twistd("-n", "--pidfile=", before=DEAF_TO_ACK), "pmdaemon")
        daemon = await self.start(sh("failing", ENDER + "exit 7", autorestart=False), command=command)
        client = await self.follow(daemon)
        await client.until_online("failing")
        await self.end("failing", (await self.processes(client))["failing"]["pid"])
        await self.event(client, "failing", "crashed")
        await client.request("ping")
        last = client.messages[-1]["id"]
        await daemon.crash()
        again = await self.start()
        client = await self.follow(again, since=last)
        await self.event(client, "failing", "started")
        self.assertEqual([each["event"] for each in client.of_type("process_event")], ["started"])
        self.assertNotIn("a child of none", again.log)
        await self.until(lambda: '"acked"' in Path(self.home, "keeper.jsonl").read_text(), "an acknowledgement")


DEAF_TO_ACK = """
from pmdaemon.daemon.keeperlink import KeeperLink
post = KeeperLink.post
KeeperLink.post = lambda link, op, **fields: None if op == "ack" else post(link, op, **fields)
"""


class ReplacedDaemonTests(KeeperCase):
    async def test_sigusr2(self) -> None:
        daemon = await self.start(sh("writer", WRITER), sh("quiet", "exec sleep 1000"))
        client = await self.follow(daemon, "process_status", "process_event", "log_message")
        await client.until_online("writer", "quiet")
        before = await self.processes(client)
        first = await client.expect("log_message")
        os.kill(daemon.program.pid, signal.SIGUSR2)
        self.assertEqual(await client.closed(), (1012, "the daemon is being replaced"))
        await daemon.program.line(r"(?s)replaced.*PMDaemon listens on http://.*:(\d+)/")
        daemon.port = int(daemon.log.rpartition("listens on http://localhost:")[2].partition("/")[0])

        after = await self.follow(
            daemon, "process_status", "process_event", "log_message", since=client.messages[-1]["id"]
        )
        await self.event(after, "writer", "adopted")
        now = await self.processes(after)
        self.assertEqual({name: each["pid"] for name, each in now.items()}, {n: e["pid"] for n, e in before.items()})
        self.assertEqual((await after.request("get_system"))["data"]["daemon"]["pid"], daemon.program.pid)
        told = [each["message"] for each in client.of_type("log_message")]
        enough = int(told[-1].split()[1]) + 50
        await after.expect(lambda each: each["data"].get("message") == f"line {enough}", what="a later line")
        told += [each["message"] for each in after.of_type("log_message")]
        start = int(first["data"]["message"].split()[1])
        numbers = [int(text.split()[1]) for text in told]
        new = [number for number in numbers if number >= start]
        # Those of shortly before the first subscription, told to nobody yet, may be told too.
        self.assertEqual((len(set(numbers)), new), (len(numbers), list(range(start, start + len(new)))))
        await daemon.stop()
        self.assert_in_order("writer")

    async def test_not_without_a_keeper(self) -> None:
        config = json.dumps({"apps": [sh("quiet", "exec sleep 1000", cwd="/")]})
        daemon = await LiveDaemon.start(self, "--no-keeper", config=config)
        await (await daemon.connect()).until_online("quiet")
        os.kill(daemon.program.pid, signal.SIGUSR2)
        await daemon.program.line("cannot be replaced while processes run: it was started with --no-keeper")
