"""One daemon per home: the lock, and the pid files that a daemon finds and leaves."""

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import Program, twistd

COMMAND = (*twistd("-n"), "pmdaemon")


class OneDaemonTests(TestCase):
    def setUp(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pmdaemon-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.pidfile = self.home / "twistd.pid"

    async def start(self, **more: object) -> LiveDaemon:
        return await LiveDaemon.start(self, home=str(self.home), **{"command": COMMAND, **more})

    async def test_a_second_is_refused_with_the_pid_of_the_first(self) -> None:
        daemon = await self.start(config="apps: [{name: web, script: sleep, args: '1000'}]")
        second = Program.start(self, [*COMMAND, "--port", "0", "--home", str(self.home)])
        self.assertEqual(await second.ended(), 1)
        self.assertRegex(
            second.output, rf"\Apmdaemon: cannot use the home {self.home}: .*\(pid {daemon.program.pid}\).*\n\Z"
        )
        self.assertEqual(self.pidfile.read_text(), str(daemon.program.pid), "the first one's files are left alone")
        self.assertEqual((self.home / "daemon.lock").read_text().strip(), str(daemon.program.pid))
        info = await (await daemon.connect()).request("get_info", {"process": "web"})
        self.assertEqual(info["data"]["status"], "online")

    async def test_after_kill_9_the_home_is_free_at_once(self) -> None:
        """Also where a child lives on: it never had the lock."""
        daemon = await self.start(config="apps: [{name: web, script: sleep, args: '1000'}]")
        await (await daemon.connect()).until_online("web")
        await daemon.crash()
        self.assertTrue(daemon.survivors())
        self.assertEqual(self.pidfile.read_text(), str(daemon.program.pid))
        again = await self.start()
        self.assertEqual(self.pidfile.read_text(), str(again.program.pid))
        await again.stop()
        self.assertFalse(self.pidfile.exists())

    async def test_a_pid_file_with_the_pid_of_somebody_else(self) -> None:
        """As after a reboot, or in a container, where pids come again."""
        self.pidfile.write_text(str(os.getpid()))
        await self.start()

    async def test_a_pid_file_that_is_asked_for(self) -> None:
        """Also one by the name that twistd would choose itself, which is not told apart by its value."""
        place = tempfile.mkdtemp(dir=self.home)
        command = (*twistd("-n", "--pidfile", "twistd.pid"), "pmdaemon")
        daemon = await self.start(command=command, cwd=place)
        self.assertEqual((Path(place) / "twistd.pid").read_text(), str(daemon.program.pid))
        self.assertFalse(self.pidfile.exists())
