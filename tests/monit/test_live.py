"""``pmdaemon monit`` as it is installed, on a terminal of tmux and into a pipe, against a daemon that runs."""

import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.internet.task import LoopingCall
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import ROOT, Program, require, within

CONFIG = r"""
apps:
  - name: ticker
    script: sh
    args: [-c, 'i=0; while :; do i=$((i+1)); echo tick $i of a clock; sleep 0.05; done']
    kill_timeout: 200
  - name: worker
    script: sleep 1000
    instances: 2
    namespace: prod
  - name: broken
    script: sh
    args: [-c, 'echo no such thing >&2; sleep 0.05; exit 3']
    max_restarts: 1
    restart_delay: 0
"""
MONIT = [sys.executable, "-c", "import sys; from pmdaemon.cli.main import main; sys.exit(main())", "monit"]


class Terminal:
    """A terminal of tmux, with a server of its own, that runs one program."""

    def __init__(self, test: TestCase, tmux: str) -> None:
        self.place = tempfile.mkdtemp(prefix="tmux-")
        self._tmux = [tmux, "-S", f"{self.place}/socket", "-f", "/dev/null"]
        test.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        test.addCleanup(self.run, "kill-server")

    @classmethod
    async def start(cls, test: TestCase, *command: str, width: int = 80, height: int = 24) -> "Terminal":
        """Run *command*, and say its exit code when it has ended."""
        terminal = cls(test, require(test, "tmux"))
        line = f"{shlex.join(command)}; echo exit code $?; exec sleep 1000"
        await terminal.run(
            *("new-session", "-d", "-s", "main", "-x", str(width), "-y", str(height)),
            *("-e", f"PYTHONPATH={ROOT}", "-e", "LC_ALL=C.UTF-8", line),
        )
        return terminal

    async def run(self, *words: str) -> str:
        """Have tmux do something, and return what it says."""
        out, _, _ = await getProcessOutputAndValue(self._tmux[0], [*self._tmux[1:], *words], env=None)
        return out.decode()

    async def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        await self.run("send-keys", "-t", "main", *keys)

    async def shows(self, *texts: str, without: str | None = None) -> str:
        """Wait until all of these are on the screen, and *without* is not; return the screen."""
        last = ""

        async def look() -> None:
            nonlocal last
            last = await self.run("capture-pane", "-p", "-t", "main")
            if all(text in last for text in texts) and (without is None or without not in last):
                looking.stop()

        looking = LoopingCall(look)
        seen = looking.start(0.05)
        try:
            await within(30, seen, lambda: f"{texts} without {without!r} on\n{last}")
        finally:
            if looking.running:
                looking.stop()
        return last


class ImportTests(TestCase):
    async def test_textual_is_for_a_screen_alone(self) -> None:
        code = (
            "import sys; from pmdaemon.cli.main import main; main(['monit', '--help']); print('textual' in sys.modules)"
        )
        program = Program.start(self, [sys.executable, "-c", code])
        self.assertEqual(await program.ended(), 0, program)
        self.assertIn("--once", program.output)
        self.assertEqual(program.output.splitlines()[-1], "False")


class ScreenTests(TestCase):
    async def test_a_session(self) -> None:
        """Select, restart, follow, pause, search, filter, lose the daemon, and quit."""
        require(self, "tmux")
        daemon = await LiveDaemon.start(self, config=CONFIG)
        client = await daemon.connect()
        await client.until_online("ticker", "worker-0", "worker-1")
        terminal = await Terminal.start(self, *MONIT, "--home", daemon.home)
        await terminal.shows("● live", "● online", "✗ errored", "ticker", "following", "of a clock", "q Quit")

        await terminal.keys("Down")
        await terminal.shows("── worker-0")
        await terminal.keys("r")
        screen = await terminal.shows("restarted worker-0, pid")
        pid = screen.split("restarted worker-0, pid ")[1].split()[0]
        info = await client.request("get_info", {"process": "worker-0"})
        self.assertEqual(str(info["data"]["pid"]), pid)

        await terminal.keys("Up")
        await terminal.shows("── ticker", "of a clock")
        await terminal.keys("Space")
        await terminal.shows("waiting (Space goes on)")
        await terminal.keys("Space")
        await terminal.shows("following")
        await terminal.keys("C-f")
        await terminal.shows("Find:")
        await terminal.keys("-l", "tick 1 of")
        await terminal.shows("- of 1")
        await terminal.keys("Enter")
        await terminal.shows("'tick 1 of' 1 of 1", "new below (f follows)", "tick 2 of a clock")
        await terminal.keys("f")
        await terminal.shows("following", without="tick 2 of a clock")
        await terminal.keys("Escape")
        await terminal.shows("following", without="tick 1 of")

        await terminal.keys("Tab", "/")
        await terminal.shows("Filter:")
        await terminal.keys("-l", "ns:prod")
        await terminal.shows("worker-1", without="ticker")
        await terminal.keys("Enter", "Escape")
        await terminal.shows("ticker")

        await terminal.keys("Home")
        await terminal.shows("── ticker", "of a clock")
        await daemon.crash()
        await terminal.shows("stale since", "reconnecting", "ticker")
        daemon = await LiveDaemon.start(self, home=daemon.home)
        await terminal.shows("● live", "of a clock", "following")
        await terminal.keys("C-f")
        await terminal.shows("Find:")
        await terminal.keys("-l", "connected again")
        await terminal.keys("Enter")
        await terminal.shows("1 of 1", "-- connected again --")
        await terminal.keys("q")
        await terminal.shows("exit code 0", without="● live")

    async def test_what_is_read(self) -> None:
        """Information, why, events, help and a deletion, on a screen that changes its size."""
        daemon = await LiveDaemon.start(self, config=CONFIG)
        client = await daemon.connect()
        await client.until_online("ticker")
        terminal = await Terminal.start(self, *MONIT, "--home", daemon.home, "--filter", "broken", width=120, height=40)
        await terminal.shows("✗ errored", "── broken", "! no such thing")
        await terminal.keys("y")
        await terminal.shows("Why: broken", "ended with exit code 3", "no such thing")
        await terminal.keys("q")
        await terminal.keys("i")
        await terminal.shows("log (stdout)", "max_restarts")
        await terminal.keys("q")
        await terminal.keys("e")
        await terminal.shows("Events, the latest first", "gave up", "started")
        await terminal.keys("q")
        await terminal.keys("?")
        await terminal.shows("Stop and forget it; asks first")
        await terminal.keys("q")
        await terminal.run("resize-window", "-t", "main", "-x", "50", "-y", "15")
        await terminal.shows("✗ errored", "── broken", without="Restarts")
        await terminal.keys("d")
        await terminal.shows("Delete broken?")
        await terminal.keys("y")
        await terminal.shows("deleted broken", "No process matches the filter")
        await terminal.keys("q")
        await terminal.shows("exit code 0")

    async def test_one_picture(self) -> None:
        daemon = await LiveDaemon.start(self, config=CONFIG)
        await (await daemon.connect()).until_online("ticker", "worker-0")
        options = ["--home", daemon.home, "--once", "--sort", "name", "--filter", "ns:prod"]
        printed = Program.start(self, [*MONIT, *options], env={"LC_ALL": "C"})
        self.assertEqual(await printed.ended(), 0, printed)
        self.assertTrue(printed.output.isascii(), printed)
        for text in ("* live", "4 processes", "worker-0", "worker-1", "Log of worker-0:"):
            self.assertIn(text, printed.output)
        self.assertNotIn("ticker", printed.output)
        self.assertNotIn("\x1b", printed.output)

    async def test_where_there_is_no_screen_or_no_daemon(self) -> None:
        daemon = await LiveDaemon.start(self)
        (Path(daemon.home) / "none").mkdir()
        piped = Program.start(self, [*MONIT, "--home", daemon.home])
        self.assertEqual(await piped.ended(), 2, piped)
        self.assertIn("pmdaemon monit --once", piped.output)
        nobody = Program.start(self, [*MONIT, "--home", f"{daemon.home}/none", "--once"])
        self.assertEqual(await nobody.ended(), 51, nobody)
        terminal = await Terminal.start(self, *MONIT, "--home", f"{daemon.home}/none")
        await terminal.shows("cannot reach a daemon", "exit code 51")
