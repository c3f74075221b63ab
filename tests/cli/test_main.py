"""The table of commands becomes a command line, and what goes wrong an exit code."""

import io
import subprocess
import sys
import time
from typing import Any

import click
from twisted.trial.unittest import SynchronousTestCase

import pmdaemon
from pmdaemon.cli import main as script
from pmdaemon.cli.command import Exit, Failure, exit_of, failure_of
from pmdaemon.cli.table import Column, boxed, table
from pmdaemon.cli.terminal import Terminal
from pmdaemon.cli.words import ended, how_long, how_much, moment_of, span_of
from pmdaemon.client import NoDaemon
from pmdaemon.errors import OperationFailed, ProcessNotFound, ProcessStartFailed
from tests.integration.program import ROOT
from tests.test_docs import Document, literals


class MainTests(SynchronousTestCase):
    """From a command line to an exit code."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def ended(self, run: Any) -> int:
        made = click.Group(commands={"do": click.Command("do", callback=run)})
        self.patch(script, "cli", made)
        return script.main(["do"])

    def raising(self, why: BaseException) -> int:
        def run() -> None:
            raise why

        return self.ended(run)

    def test_done(self) -> None:
        self.assertEqual(self.ended(lambda: print("done")), 0)
        self.assertEqual((self.out.getvalue(), self.err.getvalue()), ("done\n", ""))
        self.assertEqual(self.ended(lambda: Exit.UNHEALTHY), 41)

    def test_failures(self) -> None:
        for why, code in (
            (Failure("cannot do it: no", "try this", "or that"), 1),
            (Failure("cannot do it: no", "try this", "or that", exit=Exit.DENIED), 60),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(self.raising(why), code)
            self.assertEqual(self.err.getvalue(), f"error: cannot do it: no (exit {code})\n  try this\n  or that\n")

    def test_the_daemon_says_no(self) -> None:
        self.assertEqual(self.raising(ProcessNotFound("cannot find it", details={"matches": ["web"]})), 10)
        self.assertEqual(
            self.err.getvalue(), "error: cannot find it (exit 10)\n  did you mean: web\n  see all: pmdaemon list\n"
        )

    def test_the_system_says_no(self) -> None:
        self.assertEqual(self.raising(PermissionError(13, "Permission denied", "/x")), 60)
        self.assertEqual(self.raising(OSError(28, "No space left on device")), 1)
        self.assertIn("error: cannot go on: [Errno 28] No space left on device (exit 1)\n", self.err.getvalue())

    def test_ctrl_c(self) -> None:
        self.assertEqual(self.raising(KeyboardInterrupt()), 130)
        self.assertEqual(self.err.getvalue().strip(), "")

    def test_a_defect_is_not_hidden(self) -> None:
        self.assertRaises(ZeroDivisionError, self.raising, ZeroDivisionError())

    def test_version(self) -> None:
        self.assertEqual(script.main(["--version"]), 0)
        self.assertEqual(self.out.getvalue(), f"pmdaemon {pmdaemon.__version__}\n")

    def test_no_command(self) -> None:
        self.assertEqual(script.main([]), 2)


class CommandTests(SynchronousTestCase):
    """What the table says of the commands is so."""

    def test_each_is_there_with_a_summary_and_an_example(self) -> None:
        context = click.Context(script.cli)
        names = script.cli.list_commands(context)  # type: ignore[attr-defined]  # it is a group
        self.assertEqual(set(script.ALIASES.values()) - set(names), set())
        for name in names:
            command = script.cli.get_command(context, name)  # type: ignore[attr-defined]  # likewise
            self.assertEqual(command.name, name)
            self.assertIn(f"pmdaemon {name}", command.help, name)
            for param in command.params:
                if isinstance(param, click.Option):
                    self.assertTrue(param.help, (name, param.name))

    def test_the_document_names_all_of_them(self) -> None:
        document = Document("docs/command-line.rst")
        shown = script.cli.list_commands(click.Context(script.cli))  # type: ignore[attr-defined]  # it is a group
        told = document.table("Commands")
        self.assertEqual(list(told), shown)
        aliases = {alias: name for name, cells in told.items() for alias in literals(cells[0])}
        self.assertEqual(aliases, script.ALIASES)
        self.assertEqual({int(code) for code in document.table("Exit codes")}, set(map(int, Exit)))

    def test_each_kind_of_error_has_its_code(self) -> None:
        failed, start = OperationFailed("no"), ProcessStartFailed("no")
        self.assertEqual(
            [exit_of(failed, action) for action in ("stop", "restart", "reload", "scale")], [13, 14, 14, 1]
        )
        self.assertEqual([exit_of(start, action) for action in ("start", "restart", "")], [12, 14, 12])
        failure = failure_of(NoDaemon("cannot"), home="/x")
        self.assertEqual((failure.exit, failure.hints[0]), (51, "start one: twistd pmdaemon --home /x"))


class LazyTests(SynchronousTestCase):
    """A module that most commands do without."""

    def test_it_is_loaded_when_it_is_used(self) -> None:
        code = (
            "import sys; from pmdaemon.cli.lazily import defer; defer('importlib.metadata')\n"
            "import importlib.metadata; print('zipfile' in sys.modules)\n"
            "print(importlib.metadata.version('websockets') > '1', 'zipfile' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout, done.stderr), ("False\nTrue True\n", ""))

    def test_what_a_look_into_a_pipe_does_without(self) -> None:
        code = (
            "import sys; from pmdaemon.cli.main import main; main(['list', '--home', '/nowhere']); print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        there = set(done.stdout.split())
        self.assertIn("websockets.client", there)
        unwanted = {"rich", "asyncio", "twisted", "ssl", "yaml", "difflib", "urllib.request", "zipfile", "re2"}
        self.assertEqual(there & unwanted, set())


class WordsTests(SynchronousTestCase):
    """Figures."""

    def test_durations(self) -> None:
        seconds = (0, 59, 60, 61, 3600, 7384, 90061, 864000)
        told = ["0s", "59s", "1m", "1m 1s", "1h", "2h 3m", "1d 1h", "10d"]
        self.assertEqual([how_long(each * 1000) for each in seconds], told)
        self.assertEqual([span_of(each) for each in ("500ms", "2", "1.5s", "3m", 7)], [500, 2000, 1500, 180000, 7])
        for wrong in ("", "x", "0", "2d", "-1"):
            self.assertRaises(click.BadParameter, span_of, wrong)

    def test_sizes(self) -> None:
        self.assertEqual(
            [how_much(each) for each in (0, 1023, 1536, 2**20 * 45)], ["0 B", "1023 B", "1.5 KB", "45.0 MB"]
        )

    def test_moments(self) -> None:
        self.assertEqual(moment_of("1970-01-01T00:00:01Z"), 1000)
        self.assertLess(abs(moment_of("10m") - (time.time() - 600) * 1000), 60_000)
        for wrong in ("yesterday", "", "10 m"):
            self.assertRaises(click.BadParameter, moment_of, wrong)

    def test_ends(self) -> None:
        self.assertEqual(ended(3, None), "ended with exit code 3")
        self.assertEqual(ended(None, "SIGKILL"), "killed by SIGKILL (perhaps for its memory)")
        self.assertEqual(ended(None, None), "ended, nobody knows how")


class TableTests(SynchronousTestCase):
    """Columns."""

    def test_they_line_up(self) -> None:
        self.assertEqual(table(("A", "B"), [("long", "x"), ("y", "")]), "A     B\nlong  x\ny\n")

    def test_no_rows(self) -> None:
        self.assertEqual(table(("A", "BC"), []), "A  BC\n")

    def test_wide_characters_take_their_room(self) -> None:
        lines = boxed(
            [Column("A"), Column("B")], [("日本", "x"), ("abc", "y")], Terminal(True, False, True)
        ).splitlines()
        self.assertEqual(lines[3:5], ["│ 日本 │ x │", "│ abc  │ y │"])


class TerminalTests(SynchronousTestCase):
    """What others have printed does nothing to the terminal."""

    def test_what_is_left_of_it(self) -> None:
        text = "a\x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07\x1bc\rb\x9b1mc\td"
        self.assertEqual(Terminal(False, False, True).harmless(text), text)
        self.assertEqual(Terminal(True, False, True).harmless(text), "aredbc\td")
        self.assertEqual(Terminal(True, True, True).harmless(text), "a\x1b[31mred\x1b[0mbc\td\x1b[0m")
