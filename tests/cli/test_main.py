"""The table of commands becomes a parser, and what goes wrong an exit code."""

import io
import sys
from argparse import ArgumentParser, Namespace

from twisted.trial.unittest import SynchronousTestCase

import pmdaemon
from pmdaemon.cli import main as script
from pmdaemon.cli.command import Command, Exit, Failure
from pmdaemon.cli.main import parser
from pmdaemon.cli.table import table


def command(words: str, run: object, *examples: str) -> Command:
    return Command(tuple(words.split()), f"do {words}", lambda parser: None, run, examples)  # type: ignore[arg-type]


class MainTests(SynchronousTestCase):
    """From a command line to an exit code."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def ended(self, run: object) -> int:
        made = parser([command("do", run)])
        self.patch(script, "parser", lambda: made)
        return script.main(["do"])

    def raising(self, why: BaseException) -> int:
        def run(given: Namespace) -> None:
            raise why

        return self.ended(run)

    def test_done(self) -> None:
        self.assertEqual(self.ended(lambda given: print("done")), 0)
        self.assertEqual((self.out.getvalue(), self.err.getvalue()), ("done\n", ""))

    def test_failures(self) -> None:
        for why, code in (
            (Failure("cannot do it: no", "try this", "or that"), 1),
            (Failure("cannot do it: no", "try this", "or that", exit=Exit.DENIED), 60),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(self.raising(why), code)
            self.assertEqual(self.err.getvalue(), f"error: cannot do it: no (exit {code})\n  try this\n  or that\n")

    def test_the_system_says_no(self) -> None:
        self.assertEqual(self.raising(PermissionError(13, "Permission denied", "/x")), 60)
        self.assertEqual(self.raising(OSError(28, "No space left on device")), 1)
        self.assertIn("error: cannot go on: [Errno 28] No space left on device (exit 1)\n", self.err.getvalue())

    def test_ctrl_c(self) -> None:
        self.assertEqual(self.raising(KeyboardInterrupt()), 130)
        self.assertEqual(self.err.getvalue(), "")

    def test_a_defect_is_not_hidden(self) -> None:
        self.assertRaises(ZeroDivisionError, self.raising, ZeroDivisionError())

    def test_version(self) -> None:
        self.assertEqual(self.assertRaises(SystemExit, script.main, ["--version"]).code, 0)
        self.assertEqual(self.out.getvalue(), f"pmdaemon {pmdaemon.__version__}\n")

    def test_no_command(self) -> None:
        self.assertEqual(self.assertRaises(SystemExit, script.main, []).code, 2)


class ParserTests(SynchronousTestCase):
    """The parser that is made of the table."""

    def test_words(self) -> None:
        self.patch(script, "GROUPS", {"a": "group a", "a b": "group b"})
        commands = [command(words, words) for words in ("top", "a one", "a two", "a b three")]
        made = parser(commands)
        for each in commands:
            self.assertEqual(made.parse_args(each.words).run, " ".join(each.words))

    def test_help_starts_with_examples(self) -> None:
        commands = [command(f"c{number}", None, f"pmdaemon c{number} x") for number in range(5)]
        text = parser(commands).format_help()
        shown = [text.find(f"pmdaemon c{number} x") for number in range(5)]
        self.assertEqual(shown[3:], [-1, -1], "three at most")
        self.assertTrue(-1 < shown[0] < shown[1] < shown[2] < text.index("options:"), text)

    def test_every_command_has_help_and_its_group_a_word(self) -> None:
        for each in script.COMMANDS:
            self.assertTrue(each.summary and each.examples, each.words)
            for depth in range(1, len(each.words)):
                self.assertIn(" ".join(each.words[:depth]), script.GROUPS)
        self.assertIsInstance(parser(), ArgumentParser)


class TableTests(SynchronousTestCase):
    """Columns."""

    def test_they_line_up(self) -> None:
        self.assertEqual(table(("A", "B"), [("long", "x"), ("y", "")]), "A     B\nlong  x\ny\n")

    def test_no_rows(self) -> None:
        self.assertEqual(table(("A", "BC"), []), "A  BC\n")
