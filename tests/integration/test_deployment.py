"""What is in the examples for those who have a daemon started: what a container's init runs, a unit of systemd."""

import json
import os
import signal
import sys
from pathlib import Path

from tests.integration.keepercase import WRITER, KeeperCase, alive, sh
from tests.integration.program import ROOT, Program, require

LISTENS = "PMDaemon listens"


class ContainerTests(KeeperCase):
    def run_(self, *options: str) -> Program:
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        script = str(ROOT / "examples" / "container" / "run.sh")
        return Program.start(self, [script, "--port", "0", "--home", self.home, *options], env={"PATH": path})

    def daemon(self) -> int:
        return int(Path(self.home, "daemon.lock").read_text())

    async def test_killed_then_stopped(self) -> None:
        config = self.place / "apps.json"
        config.write_text(json.dumps({"apps": [sh("writer", WRITER, cwd="/", pid_file=str(self.place / "pid"))]}))
        program = self.run_("--config", str(config))
        await program.line(LISTENS)
        await self.until(lambda: (self.place / "pid").exists(), "a child")
        first, child = self.daemon(), int((self.place / "pid").read_text())
        os.kill(first, signal.SIGKILL)
        await program.line(f"(?s){LISTENS}.*{LISTENS}")
        self.assertNotEqual(self.daemon(), first)
        self.assertTrue(alive(child))
        keeper = self.keeper()
        program.signal("TERM")
        self.assertEqual(await program.ended(), 0)
        await self.until(lambda: not any(map(alive, (child, self.daemon(), keeper))), "the end of all")
        self.assert_in_order("writer")

    async def test_a_start_that_cannot_succeed(self) -> None:
        program = self.run_("--config", str(self.place / "nowhere.yaml"))
        self.assertEqual(await program.ended(), 1)
        self.assertIn("nowhere.yaml", program.output)


class SystemdTests(KeeperCase):
    async def test_the_unit_is_understood(self) -> None:
        verify = require(self, "systemd-analyze")
        text = (ROOT / "examples" / "systemd" / "pmdaemon.service").read_text()
        unit = self.place / "pmdaemon.service"
        unit.write_text(text.replace("/opt/pmdaemon/bin/twistd", sys.executable).replace("User=deploy", "User=root"))
        program = Program.start(self, [verify, "verify", "--man=no", str(unit)])
        self.assertEqual(await program.ended(), 0, program)
        self.assertNotIn(f"{unit.name}:", program.output)
