"""Which lines pass a filter, and what is no filter [S9]."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.lines import LEVELS
from pmdaemon.core.logfilter import LogFilter
from pmdaemon.errors import InvalidMessage


class Filtering(SynchronousTestCase):
    def test_without_parts_all_pass(self) -> None:
        self.assertTrue(LogFilter().matcher()("", "trace", "stdout"))

    def test_level_is_a_minimum(self) -> None:
        matches = LogFilter(level="warn").matcher()
        self.assertEqual([level for level in LEVELS if matches("x", level, "stdout")], ["warn", "error", "fatal"])

    def test_stream(self) -> None:
        matches = LogFilter(stream="stderr").matcher()
        self.assertTrue(matches("x", "info", "stderr"))
        self.assertFalse(matches("x", "info", "stdout"))

    def test_grep_is_plain_text(self) -> None:
        matches = LogFilter(grep="a.c(").matcher()
        self.assertTrue(matches("xa.c(", "info", "stdout"))
        self.assertFalse(matches("abc(", "info", "stdout"))
        self.assertFalse(matches("A.C(", "info", "stdout"))

    def test_regex(self) -> None:
        matches = LogFilter(grep="^é+ (5\\d\\d|(?i:timeout))$", regex=True).matcher()
        self.assertTrue(matches("éé 503", "info", "stdout"))
        self.assertTrue(matches("é TimeOut", "info", "stdout"))
        self.assertFalse(matches("é 404", "info", "stdout"))

    def test_all_parts_together(self) -> None:
        matches = LogFilter("error", "stdout", "db", False).matcher()
        self.assertTrue(matches("db down", "error", "stdout"))
        for text, level, stream in (("x", "error", "stdout"), ("db", "info", "stdout"), ("db", "error", "stderr")):
            self.assertFalse(matches(text, level, stream))

    @settings(deadline=None)
    @given(st.text(max_size=20), st.text(max_size=20))
    def test_any_text_is_searched_without_error(self, expression: str, text: str) -> None:
        self.assertEqual(LogFilter(grep=expression).matcher()(text, "info", "stdout"), expression in text)
        try:
            matches = LogFilter(grep=expression, regex=True).matcher()
        except InvalidMessage:
            return
        self.assertIsInstance(matches(text, "info", "stdout"), bool)


class Wrong(SynchronousTestCase):
    def refused(self, filter_: LogFilter) -> InvalidMessage:
        error = self.assertRaises(InvalidMessage, filter_.matcher)
        self.assertTrue(error.message.startswith("cannot filter the log: "), error.message)
        return error

    def test_level(self) -> None:
        error = self.refused(LogFilter(level="WARNING"))
        self.assertEqual(error.hint, "did you mean 'warn'?")
        self.assertEqual(error.details, {"path": "data.level"})
        self.assertIn("trace, debug, info, warn, error, fatal", error.message)
        self.assertIsNone(self.refused(LogFilter(level="")).hint)

    def test_stream(self) -> None:
        self.assertEqual(self.refused(LogFilter(stream="stdrr")).hint, "did you mean 'stderr'?")

    def test_expression(self) -> None:
        for expression, reason in (
            ("a(", "missing )"),
            ("(?=x)", "invalid perl operator"),
            (r"(a)\1", "invalid escape"),
        ):
            error = self.refused(LogFilter(grep=expression, regex=True))
            self.assertIn(reason, error.message)
            self.assertIn("RE2", str(error.hint))
            self.assertEqual(error.details, {"path": "data.grep"})

    def test_expression_that_is_too_large(self) -> None:
        for expression in (r"\pL{9}", r"\pL{900}"):
            self.assertIn("too large", self.refused(LogFilter(grep=expression, regex=True)).message)

    def test_no_plain_text_is_wrong(self) -> None:
        self.assertTrue(LogFilter(grep="a(").matcher()("a(", "info", "stdout"))


class Value(SynchronousTestCase):
    def test_equal_ones_are_one_key(self) -> None:
        self.assertEqual(len({LogFilter("warn", None, "x", True), LogFilter(level="warn", grep="x", regex=True)}), 1)
        self.assertNotEqual(LogFilter(grep="x"), LogFilter(grep="x", regex=True))

    def test_told_are_the_parts_that_are_set(self) -> None:
        self.assertEqual(LogFilter().told(), {})
        self.assertEqual(LogFilter(grep="x", regex=True).told(), {"grep": "x", "regex": True})


class Hostile(SynchronousTestCase):
    def test_expressions_that_explode_elsewhere(self) -> None:
        text = "".join(random.Random(7).choices("ab", k=20_000))
        for expression in ("(x+x+)+y", "(a|a)*c", "(a|b|ab)*c", "([ab]*)*c"):
            self.assertFalse(LogFilter(grep=expression, regex=True).matcher()(text, "info", "stdout"))
