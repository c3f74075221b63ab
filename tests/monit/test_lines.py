"""The log of one process: bounded, harmless, paused and searched."""

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.cli.terminal import Terminal
from pmdaemon.monit.lines import Log
from tests.monit.made import line


def log(kept: int = 10) -> Log:
    return Log(Terminal(is_terminal=True, colors=True, unicode=True).harmless, kept)


def texts(of: Log) -> list[str]:
    return [each.text for each in of.lines]


class LogTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        of = log(100)
        for number in range(1000):
            of.take(line(str(number)), None)
            self.assertLessEqual(len(of.lines), 111)
        of.trim()
        self.assertEqual((texts(of)[0], texts(of)[-1], len(of.lines)), ("900", "999", 100))
        self.assertEqual((of.trimmed, of.added), (900, 1000))

    def test_control_sequences(self) -> None:
        of = log()
        for text, shown, styled in (
            ("plain", "plain", False),
            ("tab\there", "tab     here", False),
            ("\x1b[2J\x1b[1;1Hover\x1b]0;title\x07 there", "over there", False),
            ("\x1b[31mred\x1b[0m \x1b]8;;http://evil\x1b\\link", "red link", True),
            ("back\b\b\bspace\rreturn\x9b2J", "backspacereturn", False),
            ("right \u202eto left", "right to left", False),
            ("日本 é", "日本 é", False),
        ):
            of.take(line(text), None)
            last = of.lines[-1]
            self.assertEqual((last.text, last.styled is not None), (shown, styled), ascii(text))
            self.assertTrue(last.text.isprintable())
            left = (last.styled or "").replace("\x1b[31m", "").replace("\x1b[0m", "")
            self.assertNotIn("\x1b", left)

    def test_paused(self) -> None:
        of = log()
        of.take(line("before"), None)
        of.pause(True)
        for number in range(3):
            of.take(line(str(number)), None)
        self.assertEqual((of.waiting, texts(of)), (3, ["before"]))
        of.pause(False)
        self.assertEqual((of.waiting, texts(of)), (0, ["before", "0", "1", "2"]))

    def test_paused_for_long(self) -> None:
        of = log(10)
        of.pause(True)
        for number in range(25):
            of.take(line(str(number)), None)
        self.assertEqual(of.waiting, 25)
        of.pause(False)
        self.assertEqual(texts(of)[-2:], ["23", "24"])
        self.assertEqual(len(of.lines), 10)

    def test_search(self) -> None:
        of = log()
        for text in ("Error one", "fine", "an error, an error"):
            of.take(line(text), None)
        self.assertEqual(of.found(), [])
        of.search("error")
        self.assertEqual(of.found(), [0, 2])
        self.assertEqual(of.spans("an error, an error"), [(3, 8), (13, 18)])
        of.search("Error")
        self.assertEqual(of.found(), [0])
        of.search("[")
        self.assertEqual(of.found(), [])
