"""The daemon in the background, as ``twistd pmdaemon`` without ``-n`` starts it: in another process than it began."""

import contextlib  # by its name alone "suppress" would be an order to trial
import os
import re
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from tests.integration.harness import MARK, LiveDaemon
from tests.integration.program import Program, twistd, within

CONFIG = """
apps:
  - name: web
    script: sh
    args: [-c, "umask > made; exec sleep 1000"]
    cwd: "{home}/place"
"""


async def until(true: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until ``true()``; an AssertionError that names ``what()`` when it does not come."""

    def look() -> None:
        if true():
            looking.stop()

    looking = LoopingCall(look)
    looked = looking.start(0.05)
    try:
        await within(20, looked, what)
    finally:
        if looking.running:
            looking.stop()


class BackgroundTests(TestCase):
    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pmdaemon-"))
        self.addCleanup(shutil.rmtree, self.home)
        (self.home / "place").mkdir()
        (self.home / "apps.yaml").write_text(CONFIG.format(home=self.home))

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.home / "twistd.log").read_text()
        return ""

    async def start(self, *more: str) -> LiveDaemon:
        """The daemon, listening; what was started has ended, with 0."""
        mark = self.mktemp()
        options = ["--port", "0", "--home", str(self.home), "--config", str(self.home / "apps.yaml"), *more]
        command = twistd(before="import os; os.umask(0o022)")
        program = Program.start(self, [*command, "pmdaemon", *options], env={MARK: mark}, cwd=str(self.home / "place"))
        daemon = LiveDaemon(self, str(self.home), mark, program)
        self.addCleanup(daemon._end)
        self.assertEqual(await program.ended(), 0, program)
        self.assertEqual(program.output, "")
        await until(lambda: "PMDaemon listens" in self.log(), self.log)
        daemon.port = int(re.search(r"PMDaemon listens on http://localhost:(\d+)/", self.log()).group(1))
        return daemon

    async def test_a_whole_life(self) -> None:
        daemon = await self.start()
        client = await daemon.connect()
        await client.until_online("web")
        pid = (await client.request("get_system"))["data"]["daemon"]["pid"]
        self.assertNotEqual(pid, daemon.program.pid)
        for name in ("daemon.lock", "twistd.pid"):
            self.assertEqual((self.home / name).read_text().strip(), str(pid), name)
        self.assertEqual((self.home / "place/made").read_text().strip(), "0022", "not twistd's 077")
        self.assertNotEqual(os.getsid(pid), os.getsid(0))
        second = Program.start(self, [*twistd(), "pmdaemon", "--home", str(self.home)])
        self.assertEqual(await second.ended(), 1)
        self.assertIn(f"(pid {pid})", second.errors)
        await client.command("stop", "web")
        os.kill(pid, signal.SIGTERM)
        await daemon.assert_no_survivor(20)
        self.assertIn("PMDaemon has stopped", self.log())
        self.assertNotIn("Traceback", self.log())
        self.assertFalse((self.home / "twistd.pid").exists())
        self.assertEqual(sorted(os.listdir(self.home / "place")), ["made"], "no pid file, no log")
        with sqlite3.connect(self.home / "state.db") as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.assertEqual(db.execute("SELECT name, wanted FROM processes").fetchall(), [("web", 0)])
        db.close()

    async def test_nobody_forges_a_line_of_its_log(self) -> None:
        daemon = await self.start()
        client = await daemon.connect()
        config = {"script": "sleep 1000", "pid_file": "/dev/null/\x1b]0;x\x07\r\n2026-01-01T00:00:00+0000 forged"}
        await client.command("start", "evil", config=config)
        await until(lambda: "cannot write the pid file" in self.log(), self.log)
        raw = (self.home / "twistd.log").read_bytes()
        self.assertFalse(set(raw) & set(range(32)) - {9, 10}, raw)
        self.assertIn("\\x1b]0;x\\x07\\x0d\n\t2026-01-01T00:00:00+0000 forged", self.log())
        self.assertEqual((self.home / "twistd.log").stat().st_mode & 0o777, 0o600)
        os.kill(int((self.home / "twistd.pid").read_text()), signal.SIGTERM)
        await daemon.assert_no_survivor(20)

    async def test_the_state_is_locked_by_who_uses_it(self) -> None:
        """SQLite's locks do not pass a fork: without its own, whoever looked into the file would end the daemon's."""
        daemon = await self.start("--no-keeper")
        client = await daemon.connect()
        await client.until_online("web")
        with sqlite3.connect(self.home / "state.db", timeout=0) as db, contextlib.suppress(sqlite3.OperationalError):
            db.execute("SELECT * FROM apps").fetchall()
        db.close()
        await client.command("stop", "web")
        daemon_pid = int((self.home / "twistd.pid").read_text())
        os.kill(daemon_pid, signal.SIGKILL)
        await client.closed()
        await daemon.assert_no_survivor(20)
        with sqlite3.connect(self.home / "state.db") as db:
            self.assertEqual(db.execute("SELECT name, wanted FROM processes").fetchall(), [("web", 0)])
        db.close()
