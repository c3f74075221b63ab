"""Every command on a terminal, typed and read as a person does it, by way of tmux."""

import re
from pathlib import Path

from pmdaemon.cli.main import COMMANDS
from tests.cli.commandcase import CommandCase, Screen

LONG = """
apps:
  - {name: a-service-with-a-name-that-is-longer-than-the-room-there-is, script: sleep 1000, kill_timeout: 200}
"""


class TerminalTests(CommandCase):
    async def test_every_command(self) -> None:
        await self.begin()
        client = await self.daemon.connect()
        await client.request("subscribe", {"events": ["process_metrics"], "interval": 100})
        screen = Screen(self)
        export = f"{self.daemon.home}/out.yaml"
        typed = (
            ("list", 0, r"│ ID │ Name +│ Status +│ +PID │"),
            ("info web", 0, r"(?m)^  status +online$"),
            ("logs talker -n 10", 0, r"talker ! three"),
            ("events broken", 0, r"broken  gave up"),
            ("why broken", 0, r"! no such host: db"),
            ("health", 0, r"no process has a health check"),
            ("history web", 0, r"web  cpu, every \d+ s"),
            ("restart web", 0, r"restarted web, pid \d+"),
            ("stop worker", 0, r"2 ok, 0 failed"),
            ("start worker", 0, r"\[2/2\] started worker-\d"),
            ("reload web", 0, r"reloaded web, pid \d+"),
            ("scale worker 1", 0, r"scaled worker to 1"),
            ("signal CONT web", 0, r"sent CONT to web"),
            ("reset web", 0, r"reset web"),
            ("flush talker", 0, r"flushed talker"),
            (f"export -o {export}", 0, r"wrote 5 apps to "),
            ("delete broken idle", 0, r"2 ok, 0 failed"),
            ("token list", 0, r"there are no tokens"),
            ("ping", 0, r"answers in [\d.]+ ms"),
            ("doctor", 0, r"(?m)^ok +the daemon answers"),
            ("upgrade", 0, r"processes went on"),
            ("startup", 0, r"(?m)^\[Install\]"),
            ("completion bash", 0, r"_pmdaemon_completion"),
            ("stop nix", 10, r"error: cannot find a process 'nix' \(exit 10\)"),
            ("list --help", 0, r"(?m)^    pmdaemon list$"),
        )
        shown = {}
        for words, code, pattern in typed:
            ended, shown[words] = await screen.run_it(f"pmdaemon {words}")
            self.assertEqual(ended, code, shown[words])
            self.assertRegex(shown[words], pattern)
        left = COMMANDS.keys() - {words.split()[0] for words, _, _ in typed}
        self.assertEqual(left - {"kill", "monit"}, set(), "kill is below, monit has a module of its own")
        screen.type("pmdaemon kill")
        await screen.shows("Stop the daemon and all processes? [y/N]:")
        screen.keys("n", "Enter")
        code, _ = await screen.run_it("pmdaemon ping")
        self.assertEqual(code, 0)
        code, text = await screen.run_it("pmdaemon kill --yes")
        self.assertEqual(code, 0, text)
        self.assertEqual(await self.daemon.program.ended(), 0)

    async def test_colors(self) -> None:
        await self.begin()
        screen = Screen(self)
        _, colored = await screen.run_it("pmdaemon list", colors=True)
        self.assertRegex(colored, r"\x1b\[32m *online")
        self.assertRegex(colored, r"\x1b\[[\d;]*31[\d;]*m *errored")
        for plainly in ("NO_COLOR=1 pmdaemon list", "pmdaemon list --color never", "TERM=dumb pmdaemon list"):
            _, plain = await screen.run_it(plainly, colors=True)
            self.assertNotIn("\x1b[32m", plain, plainly)
            self.assertIn("online", plain)
        _, lines = await screen.run_it("pmdaemon logs talker --no-prefix", colors=True)
        self.assertRegex(lines, r"\x1b\[31mred")
        _, lines = await screen.run_it("NO_COLOR=1 pmdaemon logs talker --no-prefix", colors=True)
        self.assertNotIn("\x1b[31mred", lines)
        self.assertIn("red", lines)

    async def test_little_room(self) -> None:
        await self.begin(LONG)
        screen = Screen(self, width=60, height=24)
        _, shown = await screen.run_it("pmdaemon list")
        (row,) = [line for line in shown.splitlines() if "a-service" in line]
        self.assertLessEqual(len(row), 60)
        self.assertRegex(row, r"│ a-serv\S*…\S+ +│ online +│")
        _, shown = await screen.run_it("LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii pmdaemon list")
        self.assertRegex(shown, r"(?m)^\+-+\+-")
        self.assertNotIn("│", shown)

    async def test_following(self) -> None:
        """What comes is shown as it comes; the daemon is killed meanwhile; Ctrl-C leaves."""
        await self.begin()
        screen = Screen(self)
        screen.type("clear; pmdaemon logs web -f; echo left-$?")
        log = Path(self.daemon.home, "logs/web-out.log")
        client = await self.daemon.connect()
        shell = {"script": "sh", "args": ["-c", "echo hello from here; exec sleep 1000"], "kill_timeout": 200}
        await self.until(log.exists, lambda: "the log")
        await client.command("start", "web", config=shell, replace=True)
        await screen.shows("web | hello from here")
        screen.keys("C-c")
        await screen.shows("left-0")

        screen.type("clear; pmdaemon list --watch; echo left-$?")
        await screen.shows("6 processes; Ctrl-C ends")
        await client.command("stop", "web")
        await self.until(lambda: re.search(r"web +│ stopped", screen.text()), screen.text)
        screen.keys("C-c")
        await screen.shows("left-0")
        self.assertRegex(screen.text(), r"web +│ stopped")

    async def test_asks_before_all_goes(self) -> None:
        await self.begin()
        screen = Screen(self)
        screen.type("clear; pmdaemon stop all; echo left-$?")
        await screen.shows("Stop all processes? [y/N]:")
        screen.keys("n", "Enter")
        await screen.shows("left-130")
        code, shown = await screen.run_it("pmdaemon stop all --yes")
        self.assertEqual(code, 0, shown)
        screen.type("clear; pmdaemon restart nix web; echo left-$?")
        await screen.shows("left-10")
