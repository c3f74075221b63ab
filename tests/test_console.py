"""What a daemon in the foreground prints."""

import io

from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pmdaemon.console import Console

NAMESPACES = ("pmdaemon.service.Daemon", "twisted.internet.base", "log_legacy")


class ConsoleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = io.StringIO()
        self.console = Console(self.out)

    def logger(self, namespace: str) -> Logger:
        return Logger(namespace=namespace, observer=LogPublisher(self.console))

    def lines(self) -> list[str]:
        """What was printed, without the time, which has to be there."""
        lines = self.out.getvalue().splitlines()
        for line in lines:
            self.assertRegex(line, r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} |\t)")
        return [line.partition(" ")[2] if not line.startswith("\t") else line for line in lines]

    def test_it_is_an_observer(self) -> None:
        verifyObject(ILogObserver, self.console)

    def test_our_own_from_info_on_and_others_from_warnings_on(self) -> None:
        for namespace in NAMESPACES:
            for level in LogLevel.iterconstants():
                self.logger(namespace).emit(level, "{where}", where=namespace)
        higher = ("warn", "error", "critical")
        told = [f"{level}: {name}" for name in NAMESPACES for level in higher]
        self.assertEqual(self.lines(), [NAMESPACES[0], *told])

    def test_an_event_of_several_lines_cannot_pass_for_several_events(self) -> None:
        self.logger("pmdaemon.x").info("{text}", text="one\n2026-01-01T00:00:00+0000 two")
        self.assertEqual(self.lines(), ["one", "\t2026-01-01T00:00:00+0000 two"])

    def test_what_a_terminal_would_act_on_is_escaped(self) -> None:
        self.logger("pmdaemon.x").info("{text}", text="\x1b]0;forged\x07\r\x9b2J")
        self.assertEqual(self.lines(), ["\\x1b]0;forged\\x07\\x0d\\x9b2J"])

    def test_a_failure_has_its_traceback(self) -> None:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            self.logger("pmdaemon.x").failure("cannot do it")
        lines = self.lines()
        self.assertEqual(lines[0], "critical: cannot do it")
        self.assertIn("\tTraceback (most recent call last):", lines)

    def test_an_event_that_lacks_everything(self) -> None:
        self.console({})
        self.assertEqual(self.out.getvalue(), "")
        self.console({"log_level": LogLevel.warn, "log_format": "{gone}", "log_time": None})
        self.assertIn("warn: ", self.out.getvalue())
