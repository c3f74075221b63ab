"""YAML text becomes plain data, as JSON would have it, bounded in depth and in what its aliases expand to.

Only ``null``, ``true``, ``false`` and numbers that would be written back the same are more than strings, so that
``no``, ``0755``, ``22:30`` and ``1.10`` stay what they look like.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from pmdaemon.core.fields import FieldError, shown

__all__ = ["MAX_DEPTH", "read_yaml"]

MAX_DEPTH = 64

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,8})\.(?:[0-9]|[0-9]{1,5}[1-9])")


_TABS = "YAML is indented with spaces, never tabs, and a text with a colon or a quote in it stands in quotes"


def read_yaml(text: str, limit: int) -> object:
    """Return the one document in ``text``, None where it is empty.

    ``limit`` bounds the characters and nodes it has once its aliases are written out. Raises FieldError with the line
    and column, counted from 1.
    """
    try:
        return _Reader(yaml.parse(text, Loader=_PARSER), limit).document()
    except yaml.MarkedYAMLError as refused:
        raise _wrong(refused.problem_mark, refused.problem or "this is not YAML", _TABS) from None
    except (yaml.YAMLError, UnicodeEncodeError):
        raise FieldError(
            "", "it has a character that YAML does not allow", "write control characters as \\xNN"
        ) from None


def _wrong(mark: Any, problem: str, hint: str | None = None) -> FieldError:
    return FieldError("", f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem, hint)


class _Reader:
    """Builds the data from the parser's events."""

    def __init__(self, events: Iterator[yaml.Event], limit: int) -> None:
        self._events = events
        self._limit = limit
        self._weight = 0
        self._anchors: dict[str, tuple[object, int]] = {}

    def document(self) -> object:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._node(next(self._events), 0)
        next(self._events)
        more = next(self._events)
        if not isinstance(more, yaml.StreamEndEvent):
            raise _wrong(more.start_mark, "a second document starts here", "put all apps into one")
        return value

    def _node(self, event: Any, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise _wrong(event.start_mark, f"the nesting is more than {MAX_DEPTH} deep", "look for a bracket too many")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._weight
        self._add(1, event)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif event.tag is not None:
            raise _wrong(event.start_mark, f"the tag {shown(event.tag)} is not read", "leave it out")
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._node(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._weight - before
        return value

    def _until(self, end: type[yaml.Event]) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _scalar(self, event: Any) -> object:
        text: str = event.value
        self._add(len(text), event)
        if event.tag is not None and event.tag not in _STRING_TAGS:
            raise _wrong(event.start_mark, f"the tag {shown(event.tag)} is not read", "leave it out")
        if event.tag is not None or not event.implicit[0]:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _mapping(self, depth: int) -> dict[str, object]:
        mapping: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key in self._until(yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise _wrong(key.start_mark, "a key must be a word or a string")
            value = self._node(next(self._events), depth + 1)
            if key.value == "<<" and key.implicit[0]:
                merged |= self._merged(key, value)
            elif key.value in mapping:
                raise _wrong(key.start_mark, f"the key {shown(key.value)} is given a second time", "keep one of them")
            else:
                self._add(len(key.value), key)
                mapping[key.value] = value
        return merged | mapping

    def _merged(self, key: Any, value: object) -> dict[str, object]:
        """Return what a merge key brings in: of several mappings, the earlier wins."""
        mappings = value if isinstance(value, list) else [value]
        merged: dict[str, object] = {}
        for mapping in reversed(mappings):
            if not isinstance(mapping, dict):
                raise _wrong(key.start_mark, "'<<' must be given a mapping", "write it as <<: *NAME")
            merged |= mapping
        return merged

    def _alias(self, event: Any) -> object:
        if event.anchor not in self._anchors:
            raise _wrong(
                event.start_mark,
                f"the alias {shown('*' + event.anchor)} stands for nothing",
                "mark what it stands for, further up, with '&'",
            )
        value, weight = self._anchors[event.anchor]
        self._add(weight, event)
        return value

    def _add(self, weight: int, event: Any) -> None:
        self._weight += weight
        if self._weight > self._limit:
            raise _wrong(
                event.start_mark, "the file is too large once its aliases are written out", "use fewer of them"
            )
