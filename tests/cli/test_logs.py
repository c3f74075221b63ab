"""``pmdaemon logs`` into pipes: the past, and the present over everything that breaks."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.cli.commandcase import COMMAND, CommandCase
from tests.integration.harness import LiveDaemon

TICKER = """
apps:
  - name: ticker
    script: sh
    args: [-c, 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done']
    kill_timeout: 200
"""


ODD = "\x1b[31mred\x1b[0m\x1b]0;t\x07"


class PastTests(CommandCase):
    async def test_the_last_lines(self) -> None:
        await self.begin()
        lines = (await self.ok("logs", "talker")).out.splitlines()
        self.assertEqual(
            sorted(lines),
            sorted(["talker ! three", "talker | WARN two", f"talker | {ODD}", "talker | one"]),
        )
        for options, expected in (
            (("--level", "warn"), {"WARN two", "three"}),
            (("--stream", "stderr"), {"three"}),
            (("--grep", "o"), {"one", "WARN two"}),
            (("--grep", "^(one|three)$", "--regex"), {"one", "three"}),
            (("-n", "0"), set()),
            (("--since", "1h"), {"one", "WARN two", "three", ODD}),
        ):
            shown = (await self.ok("logs", "talker", "--no-prefix", *options)).out
            self.assertEqual(set(shown.splitlines()), expected, options)
        (line,) = (await self.ok("logs", "talker", "--grep", "one", "--json")).out.splitlines()
        told = json.loads(line)
        self.assertEqual(
            {key: told[key] for key in ("schema", "type", "process", "stream", "level", "message", "offset")},
            {
                "schema": 1,
                "type": "line",
                "process": "talker",
                "stream": "stdout",
                "level": "info",
                "message": "one",
                "offset": 0,
            },
        )
        both = (await self.ok("logs", "talker", "broken", "-n", "6", "-t")).out.splitlines()
        self.assertEqual(len(both), 6)
        for each in both:
            self.assertRegex(each, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (talker|broken) [|!] ")
        await self.fails(10, "logs", "nix")
        await self.fails(10, "logs", "-f", "nix")
        await self.fails(2, "logs", "--level", "loud")
        await self.fails(1, "logs", "talker", "--grep", "(", "--regex")

    async def test_who_has_read_enough(self) -> None:
        """SIGPIPE: quiet."""
        await self.begin(TICKER)
        for follow in ((), ("-f",)):
            command = " ".join([*COMMAND, "logs", "--since", "1h", *follow])
            run = subprocess.Popen(
                ["sh", "-c", f"{command} | head -n 1"],
                env=self.env(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            await self.until(lambda run=run: run.poll() is not None, lambda: "the end of head")
            out, err = run.communicate()
            self.assertRegex(out, r"^ticker \| line \d+\n$")
            self.assertEqual(err, "")


class FollowingTests(CommandCase):
    def setUp(self) -> None:
        """Where the tests themselves were started in the background, Ctrl-C would be ignored from birth."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        return super().setUp()

    def follow(self, *options: str) -> tuple["subprocess.Popen[bytes]", Path]:
        """``logs -f`` into a file; it is ended with the test."""
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        output = place / "output"
        with output.open("wb") as file, (place / "errors").open("wb") as errors:
            run = subprocess.Popen([*COMMAND, "logs", "-f", *options], env=self.env(), stdout=file, stderr=errors)
        self.addCleanup(run.wait)
        self.addCleanup(run.kill)
        return run, output

    def lines(self, output: Path) -> list[str]:
        return output.read_text().splitlines()

    async def test_kill_9_of_the_daemon(self) -> None:
        """It goes on when the daemon is back: nothing missed, nothing doubled."""
        await self.begin(TICKER)
        home = self.daemon.home
        plain, output = self.follow("ticker", "-n", "5")
        asjson, documents = self.follow("--json", "--since", "1h")
        for _ in range(2):
            for each in (output, documents):
                count = len(self.lines(each))
                await self.until(
                    lambda each=each, count=count: len(self.lines(each)) > count + 20, lambda: "more lines"
                )
            await self.daemon.crash()
            self.daemon = await LiveDaemon.start(self, home=home)
        for each in (output, documents):
            count = len(self.lines(each))
            await self.until(lambda each=each, count=count: len(self.lines(each)) > count + 20, lambda: "more lines")
        for run in (plain, asjson):
            run.send_signal(signal.SIGINT)
            await self.until(lambda run=run: run.poll() is not None, lambda: "the end of logs")
            self.assertEqual(run.returncode, 0, "Ctrl-C is how one leaves it")
        numbers = [int(line.removeprefix("ticker | line ")) for line in self.lines(output)]
        self.assertEqual(numbers, list(range(numbers[0], numbers[-1] + 1)))
        told = [json.loads(line) for line in self.lines(documents)]
        numbers = [int(each["message"].split()[1]) for each in told if each["type"] == "line"]
        self.assertEqual(numbers, list(range(1, numbers[-1] + 1)))
        self.assertEqual([each["type"] for each in told if each["type"] != "line"], ["disconnected", "subscribed"] * 2)
        errors = output.with_name("errors").read_text()
        self.assertEqual(
            errors.count("-- the connection to the daemon broke; waiting for it to come back --"), 2, errors
        )
        self.assertEqual(len([line for line in errors.splitlines() if line.startswith("-- back after ")]), 2, errors)

    async def test_over_a_restart_of_the_process(self) -> None:
        await self.begin(TICKER)
        run, output = self.follow("ticker", "-n", "0", "--no-prefix")
        await self.until(lambda: len(self.lines(output)) > 5, lambda: "lines")
        await self.ok("restart", "ticker")
        await self.until(lambda: "line 1" in self.lines(output), lambda: "the first line of the next")
        os.kill(run.pid, signal.SIGINT)
        await self.until(lambda: run.poll() is not None, lambda: "the end of logs")
        lines = self.lines(output)
        self.assertEqual(
            len(lines), len(set(lines[: lines.index("line 1")])) + len(set(lines[lines.index("line 1") :]))
        )

    async def test_events_are_followed_too(self) -> None:
        await self.begin(TICKER)
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        with (place / "out").open("wb") as file:
            run = subprocess.Popen([*COMMAND, "events", "-f", "--json"], env=self.env(), stdout=file)
        self.addCleanup(run.wait)
        self.addCleanup(run.kill)
        await self.until(lambda: (place / "out").read_text().count("\n") >= 1, lambda: "the past")
        await self.ok("restart", "ticker")
        await self.until(lambda: '"restarted"' in (place / "out").read_text(), lambda: "the present")
        ids = [json.loads(line)["id"] for line in (place / "out").read_text().splitlines()]
        self.assertEqual(ids, sorted(set(ids)))
        run.send_signal(signal.SIGINT)
        await self.until(lambda: run.poll() is not None, lambda: "the end of events")
        self.assertEqual(run.returncode, 0)

    async def test_list_is_watched(self) -> None:
        await self.begin(TICKER)
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        with (place / "out").open("wb") as file:
            run = subprocess.Popen(
                [*COMMAND, "list", "--watch", "--json", "--interval", "100"], env=self.env(), stdout=file
            )
        self.addCleanup(run.wait)
        self.addCleanup(run.kill)
        await self.until(lambda: (place / "out").read_text().count("\n") >= 3, lambda: "three pictures")
        run.send_signal(signal.SIGINT)
        await self.until(lambda: run.poll() is not None, lambda: "the end of list")
        self.assertEqual(run.returncode, 0)
        first = json.loads((place / "out").read_text().splitlines()[0])
        self.assertEqual((first["schema"], first["processes"][0]["name"]), (1, "ticker"))
