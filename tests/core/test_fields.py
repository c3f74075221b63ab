"""Plain data becomes a Struct, or an error that names the field [E5]."""

from datetime import date
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.fields import FieldError, checked, convert, nearest, one_of, shown, step
from pmdaemon.errors import InvalidConfiguration, InvalidMessage


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    interval: Annotated[int, Meta(ge=1, le=10)] | float = 1
    text: Annotated[str, Meta(min_length=1, max_length=3)] = "x"

    def __post_init__(self) -> None:
        if self.text == "bad":
            raise FieldError("text", "must not be bad", "be good")


class Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    part: Part | None = None
    parts: list[Part] = []
    by_name: dict[str, Part] = {}
    env: dict[str, str | int] = {}
    names: Annotated[list[str], Meta(max_length=2)] | str = []
    kind: Literal["exec", "health"] | Part | None = None
    count: int | Literal["max"] = 1
    on: bool = True


class Open(msgspec.Struct, frozen=True):
    type: str


class ConvertTests(SynchronousTestCase):
    def refused(self, value: object, where: str = "config") -> InvalidConfiguration:
        return self.assertRaises(InvalidConfiguration, convert, value, Whole, where=where, error=InvalidConfiguration)

    def assert_refused(self, message: str, hint: str | None = None, **fields: Any) -> None:
        error = self.refused({"name": "n", **fields})
        self.assertEqual(error.message, f"cannot read config: {message}")
        self.assertEqual(error.hint, hint)

    def test_a_right_value_becomes_the_struct(self) -> None:
        value = {"name": "n", "part": {"interval": 2}, "parts": [{}], "by_name": {"a": {}}, "kind": {"text": "t"}}
        converted = convert(value, Whole, where="config", error=InvalidConfiguration)
        expected = Whole(name="n", part=Part(interval=2), parts=[Part()], by_name={"a": Part()}, kind=Part(text="t"))
        self.assertEqual(converted, expected)

    def test_none_means_absent_in_structs_at_any_depth(self) -> None:
        value = {"name": "n", "part": {"interval": None}, "on": None, "parts": [{"text": None}]}
        converted = convert(value, Whole, where="config", error=InvalidConfiguration)
        self.assertEqual(converted, Whole(name="n", part=Part(), parts=[Part()]))
        self.assertEqual(value["part"], {"interval": None}, "the value itself is left alone")

    def test_an_unknown_key_is_named_with_the_nearest_known_one(self) -> None:
        self.assert_refused("part.intervall is not a known key", "did you mean 'interval'?", part={"intervall": 1})
        self.assert_refused("part.zz is not a known key", "choose from interval, text", part={"zz": None})
        self.assert_refused("parts[1].txt is not a known key", "did you mean 'text'?", parts=[{}, {"txt": 1}])
        self.assert_refused("by_name.a.txt is not a known key", "did you mean 'text'?", by_name={"a": {"txt": 1}})

    def test_a_struct_that_allows_unknown_keys_ignores_them(self) -> None:
        converted = convert({"type": "t", "later": 1}, Open, where="message", error=InvalidMessage)
        self.assertEqual(converted, Open(type="t"))

    def test_a_missing_key_is_named(self) -> None:
        for value in ({}, {"name": None}):
            error = self.refused(value)
            self.assertEqual((error.message, error.hint), ("cannot read config: name is missing", "add 'name'"))

    def test_a_wrong_type_is_told_in_words(self) -> None:
        self.assert_refused("name must be a string, not an integer", "put it in quotes", name=5)
        self.assert_refused("name must be a string, not a date", "put it in quotes", name=date(2020, 1, 1))
        self.assert_refused("part must be an object, not a list", part=[])
        self.assert_refused("parts must be a list, not an object", parts={})
        self.assert_refused("names must be a string or a list, not an object", names={})
        self.assert_refused("names[1] must be a string, not a boolean", "put it in quotes", names=["a", True])
        unquoted = "numbers, true and false are written without quotes"
        self.assert_refused("on must be true or false, not a string", unquoted, on="yes")
        self.assert_refused("part.interval must be a number, not a string", unquoted, part={"interval": "3"})
        self.assert_refused("env.A must be a string or an integer, not a fraction", env={"A": 1.5})
        self.assert_refused(
            "env.A must be a string or an integer, not null", 'write "" for an empty text', env={"A": None}
        )

    def test_a_value_out_of_bounds_is_told_in_words(self) -> None:
        self.assert_refused("part.interval must be 1 or more", part={"interval": 0})
        self.assert_refused("part.interval must be 10 or less", part={"interval": 11})
        self.assert_refused("by_name.a.interval must be 1 or more", by_name={"a": {"interval": 0}})
        self.assert_refused("part.text must not be empty", part={"text": ""})
        self.assert_refused("part.text must have at most 3 characters", part={"text": "four"})
        self.assert_refused("names must have at most 2 entries", names=["a", "b", "c"])

    def test_a_choice_is_told_with_all_choices(self) -> None:
        self.assert_refused("kind must be 'exec' or 'health', not 'heath'", "did you mean 'health'?", kind="heath")
        self.assert_refused("count must be a number or 'max', not 'maxx'", "did you mean 'max'?", count="maxx")
        unquoted = "numbers, true and false are written without quotes"
        self.assert_refused("count must be a number or 'max', not '4'", unquoted, count="4")

    def test_the_place_of_what_a_struct_itself_refuses_is_told(self) -> None:
        self.assert_refused("part.text must not be bad", "be good", part={"text": "bad"})
        self.assert_refused("parts[0].text must not be bad", "be good", parts=[{"text": "bad"}])
        self.assert_refused("by_name['a b'].text must not be bad", "be good", by_name={"a b": {"text": "bad"}})

    def test_where_may_name_a_file(self) -> None:
        error = self.refused({"name": "n", "part": {"interval": 0}}, where="eco.yaml: apps[2]")
        self.assertEqual(error.message, "cannot read eco.yaml: apps[2].part.interval must be 1 or more")
        self.assertEqual(error.details, {"path": "apps[2].part.interval"})
        error = self.refused([], where="eco.yaml: apps[2]")
        self.assertEqual(error.message, "cannot read eco.yaml: apps[2] must be an object, not a list")
        error = self.refused({"nam": 1}, where="eco.yaml: ")
        self.assertEqual(
            (error.message, error.details["path"]), ("cannot read eco.yaml: nam is not a known key", "nam")
        )

    def test_where_may_name_a_part_of_a_message(self) -> None:
        error = self.refused({"name": 1})
        self.assertEqual(error.details, {"path": "config.name"})
        self.assertEqual(self.refused(5).message, "cannot read config: it must be an object, not an integer")

    def test_the_error_is_of_the_kind_asked_for(self) -> None:
        self.assertRaises(InvalidMessage, convert, [], Whole, where="data", error=InvalidMessage)

    def test_keys_that_are_no_strings_are_refused(self) -> None:
        self.assert_refused("env must have strings as keys, not 1", "put the key in quotes", env={1: "x"})
        self.assertIn("is not a known key", self.refused({"name": "n", 5: 1}).message)

    def test_a_hostile_key_is_shown_short_and_printable(self) -> None:
        error = self.refused({"name": "n", "\x1b[31m" + "k" * 10_000: 1})
        self.assertTrue(error.message.isprintable())
        self.assertLess(len(error.message), 200)

    def test_depth_is_not_walked(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        self.assertIn("must be a string", self.refused({"name": deep}).message)
        self.assertIn("must be a string", self.refused({"name": "n", "names": [deep]}).message)


class WordTests(SynchronousTestCase):
    def test_checked_gives_a_value_error_its_place(self) -> None:
        self.assertEqual(checked("n", int, "5"), 5)
        error = self.assertRaises(FieldError, checked, "n", int, "x")
        self.assertEqual(error.path, "n")

    def test_checked_keeps_the_hint_of_a_field_error(self) -> None:
        def refuse() -> None:
            raise FieldError("[1]", "is wrong", "mend it")

        error = self.assertRaises(FieldError, checked, "list", refuse)
        self.assertEqual((error.path, error.problem, error.hint), ("list[1]", "is wrong", "mend it"))

    def test_step(self) -> None:
        self.assertEqual(step("a", "b"), "a.b")
        self.assertEqual(step("", "b"), "b")
        self.assertEqual(step("a", "b c"), "a['b c']")

    def test_shown_is_short(self) -> None:
        self.assertEqual(shown("web"), "'web'")
        self.assertEqual(len(shown("x" * 1000)), 60)
        self.assertEqual(shown(10**5000), "so large a number")

    def test_phrases(self) -> None:
        self.assertEqual(one_of(["a"]), "a")
        self.assertEqual(one_of(["a", "b", "c"]), "a, b or c")
        self.assertEqual(nearest("porrt", ["port", "name"]), "did you mean 'port'?")
        self.assertEqual(nearest("zz", ["port", "name"]), "choose from port, name")
