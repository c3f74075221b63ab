"""The state of a daemon is damaged, of a newer version, or cannot be written: what runs goes on, and it is said."""

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path
from unittest import SkipTest

from tests.integration.harness import LiveDaemon
from tests.integration.keepercase import WRITER, KeeperCase, alive, sh
from tests.integration.program import Program, twistd

QUIET = "exec sleep 1000"


class StateTests(KeeperCase):
    @property
    def state(self) -> Path:
        return Path(self.home, "state.db")

    async def test_damaged(self) -> None:
        daemon = await self.start(sh("writer", WRITER, instances=2), sh("quiet", QUIET), sh("idle", QUIET))
        client = await self.follow(daemon)
        await client.until_online("writer-0", "writer-1", "quiet", "idle")
        await client.command("stop", "idle")
        await client.command("restart", "writer-0")
        before = await self.processes(client)
        last = client.messages[-1]["id"]
        await daemon.crash()
        damaged = b"\xff" * 4096 + self.state.read_bytes()[4096:]
        self.state.write_bytes(damaged)
        for suffix in ("-wal", "-shm"):  # or it would be mended from what was not yet moved into it
            Path(f"{self.state}{suffix}").unlink(missing_ok=True)

        again = await self.start()
        (aside,) = Path(self.home).glob("state.db.damaged-*")
        self.assertEqual(aside.read_bytes(), damaged)
        said = [line for line in again.log.splitlines() if "was damaged" in line]
        self.assertEqual(len(said), 1, again.log)
        self.assertIn(f"is kept as {aside}; 3 processes are known", said[0])
        client = await self.follow(again)
        now = await self.processes(client)
        self.assertEqual(sorted(now), ["quiet", "writer-0", "writer-1"], "what was stopped, nobody knows any more")
        for name, process in now.items():
            for field in ("id", "pid", "app", "instance", "started_at", "created_at", "status"):
                self.assertEqual(process[field], before[name][field], (name, field))
        told = (await client.request("get_events", {"process": "quiet"}))["data"]["events"]
        rebuilt = next(each["data"] for each in told if each["data"].get("event") == "rebuilt")
        self.assertEqual(rebuilt["details"]["set_aside"], str(aside))
        self.assertGreater(told[0]["id"], last, "ids go on rising")
        await client.command("start", "new", config={"script": "sleep", "args": "1000"})
        await client.command("restart", "quiet")
        now = await self.processes(client)
        self.assertGreater(now["new"]["id"], max(each["id"] for each in before.values()))
        await again.crash()
        third = await self.start()
        client = await third.connect()
        found = await self.processes(client)
        self.assertEqual({name: each["pid"] for name, each in found.items()}, {n: e["pid"] for n, e in now.items()})
        self.assertNotIn("was damaged", third.log)
        await third.stop()
        self.assert_in_order("writer-1")

    async def test_a_journal_of_the_keeper_that_is_gone(self) -> None:
        """What nobody holds any more is ended before another is started; without a keeper too, if it prints nothing."""
        for options in ([], ["--no-keeper"]):
            self.setUp()
            config = json.dumps({"apps": [sh("quiet", "sleep 1000 & exec sleep 1000", cwd="/")]})
            daemon = await LiveDaemon.start(self, *options, home=self.home, config=config)
            client = await daemon.connect()
            await client.until_online("quiet")
            pid = (await self.processes(client))["quiet"]["pid"]
            os.kill(daemon.program.pid, signal.SIGSTOP)
            if not options:
                await self.kill_keeper()
                Path(self.home, "keeper.jsonl").write_bytes(b"\xff" * 100)
            await daemon.crash()
            self.assertEqual((alive(pid), len(daemon.survivors())), (True, 2))
            again = await LiveDaemon.start(self, *options, home=self.home)
            client = await again.connect()
            await client.until_online("quiet")
            self.assertFalse(alive(pid))
            self.assertEqual(daemon.survivors(), [])
            self.assertEqual(again.log.count("held by nobody"), 2, again.log)
            await again.stop()

    async def test_of_a_newer_version_and_gone(self) -> None:
        daemon = await self.start(sh("writer", WRITER))
        client = await daemon.connect()
        await client.until_online("writer")
        pid = (await self.processes(client))["writer"]["pid"]
        await daemon.crash()
        with sqlite3.connect(self.state) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute("PRAGMA user_version = 99")
        db.close()
        content = self.state.read_bytes()
        command = [*twistd("-n", "--pidfile="), "pmdaemon", "--port", "0", "--home", self.home]
        refused = Program.start(self, command)
        self.assertEqual(await refused.ended(), 1)
        self.assertRegex(refused.output, r"\Apmdaemon: cannot open the state .*newer pmdaemon \(schema 99[^\n]*\n\Z")
        self.assertEqual((self.state.read_bytes(), alive(pid)), (content, True))
        with sqlite3.connect(self.state) as db:
            db.execute(f"PRAGMA user_version = {version}")
        db.close()
        again = await self.start()
        self.assertEqual((await self.processes(await again.connect()))["writer"]["pid"], pid)
        await again.crash()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.state}{suffix}").unlink(missing_ok=True)
        third = await self.start()
        self.assertIn("there was no state", third.log)
        self.assertEqual((await self.processes(await third.connect()))["writer"]["pid"], pid)
        await third.stop()
        self.assert_in_order("writer")

    async def test_a_full_disk(self) -> None:
        if (
            os.geteuid()
            or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", self.home], capture_output=True
            ).returncode
        ):
            raise SkipTest("nothing can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.home], check=True)
        place = self.place
        logs = {"out_file": str(place / "out.log"), "error_file": str(place / "err.log")}
        daemon = await self.start(sh("writer", WRITER, **logs))
        client = await self.follow(daemon)
        await client.until_online("writer")
        await client.command("restart", "writer")
        before = await self.processes(client)
        filler = Path(self.home, "filler")
        self.fill(filler)
        reply = await client.request("command", {"action": "reset", "process": "writer"})
        self.assertEqual((reply["type"], reply["data"]["code"]), ("error", "OPERATION_FAILED"), reply)
        self.assertRegex(reply["data"]["message"], "^cannot keep the reset of 'writer', which was carried out: .*full")
        about = (await client.request("get_system"))["data"]["daemon"]
        self.assertIn("full", about["trouble"])
        self.assertIn("cannot write the state", daemon.log)
        self.assertEqual((await self.processes(client))["writer"]["pid"], before["writer"]["pid"])
        filler.unlink()
        await daemon.program.line("can be written again, nothing of it is lost")
        await client.command("start", "small", config={"script": "sleep", "args": "1000"})
        known = await self.processes(client)
        self.assertEqual((await client.request("get_system"))["data"]["daemon"]["trouble"], None)
        await daemon.crash()
        again = await self.start()
        client = await again.connect()
        now = await self.processes(client)
        self.assertEqual({n: e["pid"] for n, e in now.items()}, {n: e["pid"] for n, e in known.items()})
        self.assertEqual((now["writer"]["pid"], now["writer"]["restarts"]), (before["writer"]["pid"], 0))
        await again.stop()

    def fill(self, path: Path) -> None:
        """Take all the room there is."""
        with path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                return
