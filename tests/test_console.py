"""What a daemon in the foreground prints."""

import io
import os
import signal
from pathlib import Path

from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pmdaemon import console
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

    def test_what_is_no_unicode_is_escaped_too(self) -> None:
        self.logger("pmdaemon.x").info("{text}", text="\ud800")
        self.assertEqual(self.lines(), ["\\ud800"])

    def test_an_event_that_lacks_everything(self) -> None:
        self.console({})
        self.assertEqual(self.out.getvalue(), "")
        self.console({"log_level": LogLevel.warn, "log_format": "{gone}", "log_time": None})
        self.assertIn("warn: ", self.out.getvalue())


class FileTests(SynchronousTestCase):
    """The same, to a file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute() / "twistd.log"
        self.path.parent.mkdir()
        before = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        self.addCleanup(console.name_for, None)
        self.patch(console, "MAX_SIZE", 300)
        self.patch(console, "MAX_FILES", 2)
        self.assertEqual(console.name_for(str(self.path)), "pmdaemon.console.observer")
        self.log = Logger(namespace="pmdaemon.x", observer=LogPublisher(console.observer()))

    def names(self) -> list[str]:
        return sorted(each.name for each in self.path.parent.iterdir())

    def test_no_line_is_forged_and_no_terminal_commanded(self) -> None:
        self.log.info("{text}", text="\x1b]0;x\x07\r\n2026-01-01T00:00:00+0000 forged\ud800")
        said = self.path.read_text().partition(" ")[2]
        self.assertEqual(said, "\\x1b]0;x\\x07\\x0d\n\t2026-01-01T00:00:00+0000 forged\\ud800\n")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_it_takes_so_much_of_the_disk_and_no_more(self) -> None:
        for number in range(100):
            self.log.info("line {number}", number=number)
        self.assertEqual(self.names(), ["twistd.log", "twistd.log.1", "twistd.log.2"])
        self.assertLess(max(each.stat().st_size for each in self.path.parent.iterdir()), 400)
        self.assertIn("line 99", (self.path.read_text() + self.path.with_name("twistd.log.1").read_text()))

    def test_another_is_begun_on_sigusr1(self) -> None:
        self.log.info("old")
        os.kill(os.getpid(), signal.SIGUSR1)
        self.log.info("new")
        self.assertEqual(self.names(), ["twistd.log", "twistd.log.1"])
        self.assertIn("new", self.path.read_text())
