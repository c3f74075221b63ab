"""``pmdaemon monit`` as it is installed, on a terminal of tmux and into a pipe, against a daemon that runs."""

import shlex
import sys
from pathlib import Path

from tests.cli.commandcase import CommandCase, Screen
from tests.integration.harness import LiveDaemon
from tests.integration.program import Program

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


class Monit(Screen):
    """A terminal that runs ``pmdaemon monit``, and says its exit code when that has ended."""

    def __init__(self, case: CommandCase, *options: str, width: int = 80, height: int = 24) -> None:
        super().__init__(case, width=width, height=height)
        self.type(shlex.join(["pmdaemon", "monit", *options]) + "; echo exit code $?")

    def text(self, *, colors: bool = False) -> str:
        """What is on it now."""
        return self._call("capture-pane", "-p", "-t", "it", *(["-e"] if colors else []))

    def write(self, text: str) -> None:
        """Type without an Enter."""
        self._call("send-keys", "-t", "it", "-l", text)

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size."""
        self._call("resize-window", "-t", "it", "-x", str(width), "-y", str(height))

    async def sees(self, *texts: str, without: str | None = None) -> str:
        """Wait until all of these are on it, and *without* is not; return what is."""
        last = ""

        def there() -> bool:
            nonlocal last
            last = self.text()
            return all(text in last for text in texts) and (without is None or without not in last)

        await self._case.until(there, lambda: f"{texts} without {without!r} on\n{last}")
        return last


class LiveTests(CommandCase):
    async def test_textual_is_for_a_screen_alone(self) -> None:
        code = (
            "import sys; from pmdaemon.cli.main import main; main(['monit', '--help']); print('textual' in sys.modules)"
        )
        program = Program.start(self, [sys.executable, "-c", code])
        self.assertEqual(await program.ended(), 0, program)
        self.assertIn("--once", program.output)
        self.assertEqual(program.output.splitlines()[-1], "False")

    async def test_a_session(self) -> None:
        """Select, restart, follow, pause, search, filter, lose the daemon, and quit."""
        await self.begin(CONFIG)
        client = await self.daemon.connect()
        await client.until_online("ticker", "worker-0", "worker-1")
        terminal = Monit(self)
        await terminal.sees("● live", "● online", "✗ errored", "ticker", "following", "of a clock", "q Quit")

        terminal.keys("Down")
        await terminal.sees("── worker-0")
        terminal.keys("r")
        screen = await terminal.sees("restarted worker-0, pid")
        pid = screen.split("restarted worker-0, pid ")[1].split()[0]
        info = await client.request("get_info", {"process": "worker-0"})
        self.assertEqual(str(info["data"]["pid"]), pid)

        terminal.keys("Up")
        await terminal.sees("── ticker", "of a clock")
        terminal.keys("Space")
        await terminal.sees("waiting (Space goes on)")
        terminal.keys("Space")
        await terminal.sees("following")
        terminal.keys("C-f")
        await terminal.sees("Find:")
        terminal.write("tick 1 of")
        await terminal.sees("- of 1")
        terminal.keys("Enter")
        await terminal.sees("'tick 1 of' 1 of 1", "new below (f follows)", "tick 2 of a clock")
        terminal.keys("f")
        await terminal.sees("following", without="tick 2 of a clock")
        terminal.keys("Escape")
        await terminal.sees("following", without="tick 1 of")

        terminal.keys("Tab", "/")
        await terminal.sees("Filter:")
        terminal.write("ns:prod")
        await terminal.sees("worker-1", without="ticker")
        terminal.keys("Enter", "Escape")
        await terminal.sees("ticker")

        terminal.keys("Home")
        await terminal.sees("── ticker", "of a clock")
        await self.daemon.crash()
        await terminal.sees("stale since", "reconnecting", "ticker")
        self.daemon = await LiveDaemon.start(self, home=self.daemon.home)
        await terminal.sees("● live", "of a clock", "following")
        terminal.keys("C-f")
        await terminal.sees("Find:")
        terminal.write("connected again")
        await terminal.sees("- of 1")
        terminal.keys("Enter")
        await terminal.sees("1 of 1", "-- connected again --")
        terminal.keys("q")
        await terminal.sees("exit code 0", without="● live")

    async def test_what_is_read(self) -> None:
        """Information, why, events, help and a deletion, on a screen that changes its size."""
        await self.begin(CONFIG)
        client = await self.daemon.connect()
        await client.until_online("ticker")
        terminal = Monit(self, "--filter", "broken", width=120, height=40)
        await terminal.sees("✗ errored", "── broken", "! no such thing")
        terminal.keys("y")
        await terminal.sees("Why: broken", "ended with exit code 3", "no such thing")
        terminal.keys("q")
        terminal.keys("i")
        await terminal.sees("log (stdout)", "max_restarts")
        terminal.keys("q")
        terminal.keys("e")
        await terminal.sees("Events, the latest first", "gave up", "started")
        terminal.keys("q")
        terminal.keys("?")
        await terminal.sees("Stop and forget it; asks first")
        terminal.keys("q")
        terminal.resize(50, 15)
        await terminal.sees("✗ errored", "── broken", without="Restarts")
        terminal.keys("d")
        await terminal.sees("Delete broken?")
        terminal.keys("y")
        await terminal.sees("deleted broken", "No process matches the filter")
        terminal.keys("q")
        await terminal.sees("exit code 0")

    async def test_one_picture(self) -> None:
        await self.begin(CONFIG)
        await (await self.daemon.connect()).until_online("ticker", "worker-0")
        printed = await self.ok("monit", "--once", "--sort", "name", "--filter", "ns:prod", LC_ALL="C")
        self.assertTrue(printed.out.isascii(), printed)
        for text in ("* live", "4 processes", "worker-0", "worker-1", "Log of worker-0:"):
            self.assertIn(text, printed.out)
        self.assertNotIn("ticker", printed.out)
        self.assertNotIn("\x1b", printed.out)

    async def test_where_there_is_no_screen_or_no_daemon(self) -> None:
        await self.begin("apps: []")
        piped = await self.fails(2, "monit")
        self.assertIn("pmdaemon monit --once", piped.err)
        (Path(self.daemon.home) / "none").mkdir()
        nowhere = f"{self.daemon.home}/none"
        await self.fails(51, "monit", "--once", "--home", nowhere)
        await Monit(self, "--home", nowhere).sees("cannot reach a daemon", "exit code 51")
