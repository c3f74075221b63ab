"""The text of an ecosystem file (JSON, YAML or TOML) becomes the apps it declares."""

import json
import posixpath
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pmdaemon.core.fields import FieldError, convert, one_of, shown
from pmdaemon.core.spec import MAX_INSTANCES, AppSpec, parse_app
from pmdaemon.errors import InvalidConfiguration

__all__ = ["MAX_TEXT", "READERS", "Ecosystem", "parse"]

MAX_TEXT = 1024 * 1024
"""The most characters of a file; YAML may take twice that once its aliases are written out."""


class Ecosystem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"schema": "$schema"}):
    """An ecosystem file: the apps that belong together."""

    apps: Annotated[list[AppSpec], Meta(description="The apps; their names differ.")]
    schema: Annotated[str | None, Meta(description="Where an editor finds this schema; not read.")] = None


class _Raw(Ecosystem, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, with the apps not looked at yet."""

    apps: list[Any]


def parse(text: str, filename: str, base: str) -> list[AppSpec]:
    """Return the apps of the file ``filename``, whose relative paths start from the directory ``base``.

    Raises InvalidConfiguration on text that is not what the file's suffix promises, on a key given twice in a mapping
    and a name given to two apps, and on whatever `parse_app` refuses.
    """
    source = "".join(character if character.isprintable() else "?" for character in filename)
    data = _data(text, source)
    if not isinstance(data, dict):
        raise _refused(source, "it has no key 'apps'", "put the apps into a list under the key 'apps'")
    raw = convert(data, _Raw, where=f"{source}: ", error=InvalidConfiguration)
    apps = [parse_app(app, where=f"{source}: apps[{index}]", base=base) for index, app in enumerate(raw.apps)]
    _check_names(apps, source)
    return apps


def _data(text: str, source: str) -> object:
    suffix = posixpath.splitext(source)[1].lower()
    if suffix not in READERS:
        hint = _JAVASCRIPT_HINT if suffix in (".js", ".cjs") else f"name the file so that it ends in {one_of(READERS)}"
        raise _refused(source, "it is none of the kinds of file that are read", hint)
    if len(text) > MAX_TEXT:
        raise _refused(source, f"it has {len(text)} characters, {MAX_TEXT} are the most", "split it into several files")
    try:
        return READERS[suffix](text.removeprefix("\ufeff"))
    except FieldError as wrong:
        raise _refused(source, wrong.problem, wrong.hint) from None
    except RecursionError:
        raise _refused(source, "it is nested too deeply", "look for a bracket too many") from None
    except ValueError:
        raise _refused(source, "a number in it has more digits than can be read", "put it in quotes") from None


def _json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except json.JSONDecodeError as refused:
        problem = f"line {refused.lineno}, column {refused.colno}: {refused.msg[:1].lower()}{refused.msg[1:]}"
        raise FieldError("", problem, "JSON has no comments and no comma after the last entry") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        beside = f" in the object with the name {shown(result['name'])}" if isinstance(result.get("name"), str) else ""
        raise FieldError("", f"the key {shown(twice)} is given a second time{beside}", "keep one of them")
    return result


def _no_number(word: str) -> object:
    raise FieldError("", f"{word} is no number in JSON", "leave it out, or put it in quotes")


def _yaml(text: str) -> object:
    from pmdaemon.core.yamltext import read_yaml  # a daemon without such a file has no use for PyYAML

    return read_yaml(text, limit=2 * MAX_TEXT)


def _toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as refused:
        match = re.fullmatch(r"(.*) \(at (.*)\)", str(refused), re.DOTALL)
        problem, place = (match[1], f"{match[2]}: ") if match else (str(refused), "")
        hint = "each app is a table of its own, headed [[apps]], and texts stand in quotes"
        raise FieldError("", f"{place}{problem[:1].lower()}{problem[1:]}", hint) from None


_JAVASCRIPT_HINT = (
    "JavaScript is not run; print it as JSON once: "
    "node -p 'JSON.stringify(require(\"./ecosystem.config.js\"), null, 2)' > ecosystem.json"
)
READERS: dict[str, Callable[[str], object]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
}
"""End of a file's name -> how its text becomes plain data; each raises FieldError."""


def _check_names(apps: list[AppSpec], source: str) -> None:
    """Raise InvalidConfiguration where two apps would have processes of the same name."""
    by_name: dict[str, int] = {}
    for index, app in enumerate(apps):
        other = by_name.setdefault(app.name, index)
        if other != index:
            raise _clash(source, index, f"{shown(app.name)} is the name of apps[{other}] too")
    for index, app in enumerate(apps):
        base, _, number = app.name.rpartition("-")
        owner = by_name.get(base)
        if owner is not None and app.name in apps[owner].process_names(MAX_INSTANCES):
            problem = f"{shown(app.name)} is what instance {number} of apps[{owner}], {shown(base)}, is called"
            raise _clash(source, index, problem)


def _clash(source: str, index: int, problem: str) -> InvalidConfiguration:
    path = f"apps[{index}].name"
    hint = "give one of them another name"
    return InvalidConfiguration(f"cannot read {source}: {path}: {problem}", hint=hint, details={"path": path})


def _refused(source: str, problem: str, hint: str | None) -> InvalidConfiguration:
    return InvalidConfiguration(f"cannot read {source}: {problem}", hint=hint, details={"path": ""})
