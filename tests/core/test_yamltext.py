"""YAML is read as JSON would have it, and within bounds."""

from itertools import pairwise
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.fields import FieldError
from pmdaemon.core.yamltext import MAX_DEPTH, read_yaml


def read(text: str, limit: int = 100_000) -> Any:
    return read_yaml(text, limit)


class YamlTests(SynchronousTestCase):
    def refused(self, text: str) -> str:
        return self.assertRaises(FieldError, read, text).problem

    def test_scalars(self) -> None:
        for text, value in (
            ("5", 5),
            ("-5", -5),
            ("0", 0),
            ("1.5", 1.5),
            ("2.0", 2.0),
            ("true", True),
            ("False", False),
            ("null", None),
            ("~", None),
            ("'5'", "5"),
            ('"true"', "true"),
            ("!!str 5", "5"),
            ("|\n  a\n  b", "a\nb"),
        ):
            self.assertEqual(read(f"- {text}"), [value])

    def test_what_would_not_be_written_back_the_same_stays_a_string(self) -> None:
        for text in ("no", "on", "0755", "0x1F", "22:30", "1.10", "1e5", "2020-01-01", "1_000", "9" * 30, ".inf", "+5"):
            self.assertEqual(read(f"- {text}"), [text])

    def test_keys_are_strings(self) -> None:
        self.assertEqual(read("1: a\ntrue: b\n'c d': e"), {"1": "a", "true": "b", "c d": "e"})

    def test_nothing(self) -> None:
        for text in ("", "# only a comment\n", "---\n"):
            self.assertIsNone(read(text))

    def test_aliases_and_merge_keys(self) -> None:
        text = """
            - &base {a: 1, b: {c: 2}}
            - <<: *base
              a: 3
            - <<: [{a: 4}, *base]
            - *base
        """
        base = {"a": 1, "b": {"c": 2}}
        self.assertEqual(read(text), [base, {"a": 3, "b": {"c": 2}}, {"a": 4, "b": {"c": 2}}, base])

    def test_a_merge_key_in_quotes_is_a_key(self) -> None:
        self.assertEqual(read("'<<': 1"), {"<<": 1})

    def test_a_billion_laughs_are_bounded(self) -> None:
        lists = "\n".join(f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]" for last, name in pairwise("abcdefghi"))
        maps = "\n".join(
            f"{name}: &{name} {{<<: [{', '.join([f'*{last}'] * 9)}]}}" for last, name in pairwise("abcdefghi")
        )
        self.assertIn("too large once its aliases", self.refused(f"a: &a [lol, lol]\n{lists}"))
        self.assertIn("too large once its aliases", self.refused(f"a: &a {{x: lol, y: lol}}\n{maps}"))

    def test_an_alias_to_what_is_not_there_or_holds_it(self) -> None:
        self.assertEqual(self.refused("a: *x"), "line 1, column 4: the alias '*x' stands for nothing")
        self.assertIn("the alias '*x' stands for nothing", self.refused("&x [*x]"))

    def test_depth_is_bounded(self) -> None:
        self.assertEqual(str(read("[" * MAX_DEPTH + "]" * MAX_DEPTH)), "[" * MAX_DEPTH + "]" * MAX_DEPTH)
        for opening in ("[", "{a: ", "- ", "? "):
            self.assertIn("nesting" if opening != "? " else "a key must be", self.refused(opening * 100_000))

    def test_a_key_twice(self) -> None:
        problem = self.refused("a: 1\nb:\n  c: 1\n  c: 2")
        self.assertEqual(problem, "line 4, column 3: the key 'c' is given a second time")

    def test_what_is_not_read(self) -> None:
        for text, problem in (
            ("a: !!python/object/apply:os.system [x]", "is not read"),
            ("a: !!binary eA==", "is not read"),
            ("a: 1\n---\nb: 2", "line 2, column 1: a second document"),
            ("? [a]\n: b", "a key must be a word"),
            ("a:\n\t- b", "line 2, column 1"),
            ("<<: 5", "'<<' must be given a mapping"),
            ("a: \x01", "does not allow"),
            ("a: \ud800", "does not allow"),
        ):
            self.assertIn(problem, self.refused(text))

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="ab:-[]{}&*<!'\"#|>? \n\t,\\0x1.~%@", max_size=60) | st.text(max_size=30))
    def test_any_text_is_data_or_refused(self, text: str) -> None:
        try:
            read(text)
        except FieldError as error:
            self.assertTrue(error.problem)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        )
    )
    def test_what_is_written_is_read_back(self, value: object) -> None:
        self.assertEqual(read(yaml.safe_dump(value)), value)
