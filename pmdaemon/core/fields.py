"""Plain data becomes a Struct, or an error that names the field and says what to do about it.

What a field means is no business of this module: a Struct whose parts must fit together raises ``FieldError`` in its
``__post_init__``, and `convert` says where that happened.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from pmdaemon.errors import PMDaemonError

__all__ = ["FieldError", "checked", "convert", "located", "nearest", "one_of", "shown", "step"]

T = TypeVar("T")

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]{1,64}")


class FieldError(ValueError):
    """What is wrong with one field of a Struct, before it is known where the Struct stands.

    ``path`` is the field's own (``port``, ``args[3]``; empty for the whole), ``problem`` goes on from its name
    (``must be 1 or more``), ``hint`` says what to do, or is None.
    """

    def __init__(self, path: str, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem
        self.hint = hint

    def within(self, path: str) -> "FieldError":
        """Return the same error for a Struct that stands at ``path``."""
        return FieldError(_joined(path, self.path), self.problem, self.hint)


def convert(value: object, type_: type[T], *, where: str, error: type[PMDaemonError]) -> T:
    """Return decoded JSON, YAML or TOML as a ``type_``, with its defaults filled in.

    A key of a Struct whose value is None counts as absent. ``where`` is what stands before every path: ``config``, or
    ``ecosystem.yaml: apps[2]``, where the text before the colon is a file. Raises ``error`` with a hint and
    ``details["path"]`` on an unknown or missing key or a wrong value.
    """
    try:
        converted: T = _converted(_clean(value, _shape(type_), ""), type_, "")
    except FieldError as wrong:
        raise located(wrong, where, error) from None
    return converted


def located(wrong: FieldError, where: str, error: type[PMDaemonError]) -> PMDaemonError:
    """Return ``wrong`` as the ``error`` a user is told, with ``where`` as in `convert`."""
    source, colon, prefix = where.rpartition(": ")
    path = _joined(prefix, wrong.path)
    subject = path if colon else wrong.path
    message = f"cannot read {source if colon else where}: {subject or 'it'} {wrong.problem}"
    return error(message, hint=wrong.hint, details={"path": path})


def checked(path: str, parse: Callable[..., T], *values: Any) -> T:
    """Return ``parse(*values)``; a ValueError of it becomes the FieldError of ``path``."""
    try:
        return parse(*values)
    except FieldError as wrong:
        raise wrong.within(path) from None
    except ValueError as refused:
        raise FieldError(path, str(refused)) from None


def step(path: str, key: str) -> str:
    """Return the path of ``key`` in the object at ``path``; a key that is no plain word is shown in quotes."""
    return _joined(path, key) if _PLAIN_KEY.fullmatch(key) else f"{path}[{shown(key)}]"


def shown(value: object) -> str:
    """Return ``value`` as a short, printable literal for a message."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "so large a number"
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[0]}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word most like ``word``, or all of them where none is like it."""
    words = list(known)
    close = difflib.get_close_matches(word[:100], words, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(words)}"


def one_of(words: Iterable[str]) -> str:
    """Return the words as a phrase: ``a, b or c``."""
    *rest, final = words
    return f"{', '.join(rest)} or {final}" if rest else final


def _joined(path: str, rest: str) -> str:
    return f"{path}.{rest}" if path and rest and not rest.startswith("[") else path + rest


class _Shape(msgspec.Struct, frozen=True):
    """What a type lets stand in it, as far as the walk over keys needs to know."""

    struct: type[msgspec.Struct] | None = None
    items: "_Shape | None" = None
    values: "_Shape | None" = None
    value_type: Any = None
    choices: tuple[str, ...] = ()
    numbers: bool = False


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, tuple[msgspec.structs.FieldInfo, _Shape]]:
    return {field.encode_name: (field, _shape(field.type)) for field in msgspec.structs.fields(struct)}


def _members(type_: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself, without their annotations."""
    while get_origin(type_) is Annotated:
        type_ = get_args(type_)[0]
    if get_origin(type_) in (Union, UnionType):
        for member in get_args(type_):
            yield from _members(member)
    else:
        yield type_


def _shape(type_: Any) -> _Shape:
    members = list(_members(type_))
    shape: dict[str, Any] = {"numbers": int in members or float in members}
    for member in members:
        arguments = get_args(member)
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            shape["struct"] = member
        elif get_origin(member) is list:
            shape["items"] = _shape(arguments[0])
        elif get_origin(member) is dict:
            shape["values"], shape["value_type"] = _shape(arguments[1]), arguments[1]
        elif get_origin(member) is Literal and str not in members:
            shape["choices"] = tuple(word for word in arguments if isinstance(word, str))
    return _Shape(**shape)


def _clean(value: object, shape: _Shape, path: str) -> object:
    """Return ``value`` without the absent keys of its Structs; raise FieldError where a key is wrong."""
    if isinstance(value, dict):
        if shape.struct is not None:
            return _clean_struct(value, shape.struct, path)
        if shape.values is not None:
            return {key: _clean_entry(key, entry, shape, path) for key, entry in value.items()}
    elif isinstance(value, list) and shape.items is not None:
        return [_clean(item, shape.items, f"{path}[{index}]") for index, item in enumerate(value)]
    elif isinstance(value, str) and shape.choices and value not in shape.choices:
        accepted = [*(["a number"] if shape.numbers else []), *map(repr, shape.choices)]
        hint = _UNQUOTED if shape.numbers and value.isdigit() else nearest(value, shape.choices)
        raise FieldError(path, f"must be {one_of(accepted)}, not {shown(value)}", hint)
    return value


def _clean_struct(value: dict[Any, Any], struct: type[msgspec.Struct], path: str) -> dict[str, object]:
    fields = _fields(struct)
    clean = {}
    for key, entry in value.items():
        if key in fields:
            if entry is not None:
                clean[key] = _clean(entry, fields[key][1], step(path, key))
        elif struct.__struct_config__.forbid_unknown_fields:
            raise FieldError(step(path, str(key)), "is not a known key", nearest(str(key), fields))
    for key, (field, _) in fields.items():
        if field.required and key not in clean:
            raise FieldError(step(path, key), "is missing", f"add {key!r}")
    return clean


def _clean_entry(key: object, entry: object, shape: _Shape, path: str) -> object:
    """Convert one entry of a mapping by itself, as msgspec does not say which entry is wrong."""
    if not isinstance(key, str):
        raise FieldError(path, f"must have strings as keys, not {shown(key)}", "put the key in quotes")
    assert shape.values is not None
    at = step(path, key)
    clean = _clean(entry, shape.values, at)
    _converted(clean, shape.value_type, at)
    return clean


def _converted(value: object, type_: Any, path: str) -> Any:
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as refused:
        text, _, place = str(refused).partition(" - at `$")
        inner = _joined(path, place.rstrip("`").removeprefix("."))
        cause = refused.__cause__
        wrong = cause if isinstance(cause, FieldError) else _in_words(text)
        raise wrong.within(inner) from None


_EXPECTED = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_GOT = {**_EXPECTED, "float": "a fraction", "bool": "a boolean", "null": "null"}
_UNQUOTED = "numbers, true and false are written without quotes"

_SENTENCES = (
    (re.compile(r"Expected `(?:int|float)` >= (\S+?)(?:\.0)?"), r"must be \1 or more"),
    (re.compile(r"Expected `(?:int|float)` <= (\S+?)(?:\.0)?"), r"must be \1 or less"),
    (re.compile(r"Expected `\w+` of length >= 1"), "must not be empty"),
    (re.compile(r"Expected `str` of length <= (\d+)"), r"must have at most \1 characters"),
    (re.compile(r"Expected `\w+` of length <= (\d+)"), r"must have at most \1 entries"),
    (re.compile(r"Integer value out of range"), "is too large"),
)


def _in_words(text: str) -> FieldError:
    """Return a message of msgspec as people say it."""
    types = re.fullmatch(r"Expected `(.+)`, got `(.+)`", text)
    if types:
        return _wrong_type(types[1].split(" | "), types[2])
    for pattern, words in _SENTENCES:
        match = pattern.fullmatch(text)
        if match:
            return FieldError("", match.expand(words))
    return FieldError("", f"is not valid: {text[:1].lower()}{text[1:]}")


def _wrong_type(expected: list[str], got: str) -> FieldError:
    wanted = [name for name in _EXPECTED if name in expected and not (name == "int" and "float" in expected)]
    hint = None
    if got == "str" and {"int", "float", "bool"} & set(wanted):
        hint = _UNQUOTED
    elif got == "null" and "str" in wanted:
        hint = 'write "" for an empty text'
    elif got not in ("array", "object") and "str" in wanted and {"str", "array"}.issuperset(wanted):
        hint = "put it in quotes"
    accepted = one_of([_EXPECTED[name] for name in wanted] or expected)
    return FieldError("", f"must be {accepted}, not {_GOT.get(got, f'a {got}')}", hint)
