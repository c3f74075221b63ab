"""Logs for years: what a keeper tells of them reaches clients, and others may move them away."""

import json
import os
import signal
import subprocess
from pathlib import Path
from unittest import SkipTest

from tests.integration.harness import LiveDaemon, Message
from tests.integration.keepercase import WRITER, KeeperCase, sh


class LogTests(KeeperCase):
    async def test_reopened_after_they_were_moved(self) -> None:
        """As logrotate does; with a keeper and without."""
        for options in ([], ["--no-keeper"]):
            self.setUp()
            config = json.dumps({"apps": [sh("writer", WRITER, cwd="/")]})
            daemon = await LiveDaemon.start(self, *options, home=self.home, config=config)
            client = await self.follow(daemon, "process_status", "log_message")
            await client.until_online("writer")
            await client.expect("log_message")
            path = Path(self.home, "logs", "writer-out.log")
            moved = path.with_suffix(".1")
            path.rename(moved)
            self.assertFalse(path.exists())
            os.kill(daemon.program.pid, signal.SIGUSR1)
            await daemon.program.line("the logs that were moved away are begun anew")
            await self.until(lambda path=path: path.exists() and path.stat().st_size, "a new file")
            last = int(path.read_text().split()[1])
            await client.expect(lambda each, last=last: each["data"].get("message") == f"line {last}", what="its line")
            await daemon.stop()
            lines = (moved.read_text() + path.read_text()).splitlines()
            self.assertEqual(lines, [f"line {number}" for number in range(1, len(lines) + 1)])

    async def test_the_cap_of_all(self) -> None:
        chatty = "i=0; while :; do i=$((i+1)); head -c 3000 /dev/urandom | base64 -w 0; echo; sleep 0.05; done"
        apps = [sh("chatty", chatty, cwd="/", log_max_size="8K", log_max_files=1000, log_compress=False)]
        daemon = await LiveDaemon.start(self, "--log-cap", "100K", home=self.home, config=json.dumps({"apps": apps}))
        client = await self.follow(daemon)
        told = await client.expect(self.capped, what="a log that is capped", timeout=60)
        path = Path(self.home, "logs", "chatty-out.log")
        self.assertEqual(told["data"]["details"]["path"], str(path))
        self.assertGreater(told["data"]["details"]["bytes"], 0)
        self.assertFalse(path.with_name(f"{path.name}.{0:015}").exists(), "the oldest goes first")
        await daemon.program.line("all logs have reached their cap")
        await self.kill_keeper()  # the next one has to be told, too
        await daemon.program.line("the connection to the keeper is lost")
        seen = len(client.messages)
        # Told of what a thread does that goes behind all others.
        await client.expect(self.capped, after=seen, what="capped again", timeout=60)

    def capped(self, message: Message) -> bool:
        """Whether a message tells that old segments had to go for the sake of all logs."""
        return message["data"].get("event") == "log_capped"

    async def test_a_disk_that_is_full(self) -> None:
        """The child waits or its output is dropped, and clients are told of either."""
        mounted = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(self.place)]
        if os.geteuid() or subprocess.run(mounted, capture_output=True).returncode:
            raise SkipTest("nothing can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.place], check=True)
        chatty = "i=0; while :; do i=$((i+1)); echo line $i; done"
        place = {"cwd": "/", "out_file": str(self.place / "out.log"), "error_file": str(self.place / "err.log")}
        daemon = await self.start(sh("chatty", chatty, **place, on_full="drop"))
        client = await self.follow(daemon)
        told = await self.event(client, "chatty", "log_trouble")
        self.assertEqual(told["data"]["details"]["error"], "No space left on device")
        seen = len(client.messages)
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.place)], check=True)
        told = await client.expect(lambda each: each["data"].get("event") == "log_trouble", after=seen, what="an end")
        details = told["data"]["details"]
        self.assertEqual(details["error"], None)
        self.assertGreater(details["dropped_bytes"], details["dropped_lines"])
        self.assertGreater(details["dropped_lines"], 0)
        await client.command("stop", "chatty")
