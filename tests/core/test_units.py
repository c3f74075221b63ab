"""Durations and sizes: what is read, in which unit, and what is refused in words one can act on."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.units import MAX_SECONDS, MAX_SIZE, MILLISECOND, SECOND, seconds, size


class SecondsTests(SynchronousTestCase):
    def test_a_bare_number_is_in_the_fields_unit(self) -> None:
        self.assertEqual(seconds(1600, MILLISECOND), 1.6)
        self.assertEqual(seconds(30, SECOND), 30.0)
        self.assertEqual(seconds(0.5, SECOND), 0.5)

    def test_a_suffix_wins_over_the_fields_unit(self) -> None:
        for text, expected in (("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("1.5s", 1.5)):
            self.assertEqual(seconds(text, MILLISECOND), expected)
            self.assertEqual(seconds(text, SECOND), expected)

    def test_other_forms_are_refused_with_an_example_of_a_right_one(self) -> None:
        for text in ("", "5", "s", "5 s", "-5s", "5S", "1d", "1e3s", "5s\n", "\u0665s", ".5s"):
            error = self.assertRaises(ValueError, seconds, text, SECOND)
            self.assertIn('"250ms", "5s", "2m" or "1h"', str(error))

    def test_a_duration_is_bounded(self) -> None:
        self.assertEqual(seconds(MAX_SECONDS, SECOND), MAX_SECONDS)
        for value in (-1, float("nan"), float("inf"), 10**400, 1e300, "9" * 400 + "h", "8785h"):
            error = self.assertRaises(ValueError, seconds, value, SECOND)
            self.assertIn("366 days", str(error))


class SizeTests(SynchronousTestCase):
    def test_letters_are_powers_of_1024(self) -> None:
        for value, expected in (
            (512, 512),
            ("512", 512),
            ("512K", 512 * 1024),
            ("100M", 100 * 1024**2),
            ("512MB", 512 * 1024**2),
            ("1G", 1024**3),
            ("1.5g", 3 * 1024**3 // 2),
            ("2T", 2 * 1024**4),
        ):
            self.assertEqual(size(value), expected)

    def test_other_forms_are_refused_with_an_example_of_a_right_one(self) -> None:
        for text in ("", "M", "100X", "100 M", "-1M", "1e3", "100MiB", "1M\n"):
            error = self.assertRaises(ValueError, size, text)
            self.assertIn('"512K", "100M" or "1G"', str(error))

    def test_a_size_is_bounded(self) -> None:
        self.assertEqual(size(MAX_SIZE), MAX_SIZE)
        for value in (-1, MAX_SIZE + 1, 10**400, "8192T", "9" * 400 + "T"):
            self.assertRaises(ValueError, size, value)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.integers(), st.floats(), st.text(), st.from_regex(r"\A[0-9]{1,40}(ms|s|m|h)\Z")))
    def test_a_duration_is_in_bounds_or_refused(self, value: int | float | str) -> None:
        with contextlib.suppress(ValueError):
            self.assertTrue(0 <= seconds(value, MILLISECOND) <= MAX_SECONDS * 1.0001)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.integers(), st.text(), st.from_regex(r"\A[0-9]{1,40}[KMGT]B?\Z")))
    def test_a_size_is_in_bounds_or_refused(self, value: int | str) -> None:
        with contextlib.suppress(ValueError):
            self.assertTrue(0 <= size(value) <= MAX_SIZE)
