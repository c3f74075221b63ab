"""The options of an app as flags, made from the fields of its declaration, so that none is forgotten."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click
import msgspec
from msgspec import inspect

from pmdaemon.core.spec import CHECK_KEYS, AppSpec, HealthCheck

__all__ = ["app_options", "config_of"]

_OTHERWISE: Final = {"name": "--name", "script": "the argument", "args": "what stands behind --"}
"""Fields that are given in another way."""

_SHORT: Final = {"name": "-n", "instances": "-i"}
_PATHS: Final = ("cwd", "env_file", "out_file", "error_file", "log_file", "pid_file")
_CHECK: Final = "health_"


class _Flag:
    """One field as a flag; ``parameter`` is what click calls it."""

    def __init__(self, field: msgspec.structs.FieldInfo, prefix: str = "") -> None:
        self.field = field.encode_name
        self.parameter = f"{prefix}{self.field}"
        self._help, self._types = _described(field.type)
        self._kinds = {type(each) for each in self._types}

    def option(self) -> Callable[[Any], Any]:
        """Return the decorator that adds it."""
        name = f"--{self.parameter.replace('_', '-')}"
        short = [_SHORT[self.parameter]] if self.parameter in _SHORT else []
        if inspect.BoolType in self._kinds:
            return click.option(f"{name}/--no-{name[2:]}", self.parameter, default=None, help=self._help)
        if inspect.DictType in self._kinds:
            return click.option(name, self.parameter, multiple=True, metavar="NAME=VALUE", help=self._help)
        choices = [word for each in self._types if isinstance(each, inspect.LiteralType) for word in each.values]
        if self._kinds <= {inspect.LiteralType, inspect.NoneType}:
            return click.option(
                name, self.parameter, type=click.Choice([str(word) for word in choices]), help=self._help
            )
        kind = click.INT if self._kinds <= {inspect.IntType, inspect.NoneType} else click.STRING
        metavar = "N" if kind is click.INT else "VALUE"
        return click.option(
            name, *short, self.parameter, type=kind, metavar=metavar, multiple=self._multiple, help=self._help
        )

    @property
    def _multiple(self) -> bool:
        lists = [each for each in self._types if isinstance(each, inspect.ListType)]
        return bool(lists) and (inspect.StrType not in self._kinds or self.field == "env_file")

    def value(self, given: Any) -> Any:
        """Return what was given as it stands in a configuration."""
        if isinstance(given, tuple):
            return [self._scalar(each) for each in given] if self._multiple else dict(map(self._entry, given))
        return self._scalar(given)

    def _entry(self, text: str) -> tuple[str, Any]:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"cannot read --{self.parameter.replace('_', '-')} {text}: write it as NAME=VALUE")
        if self.field == "env":
            return name, value
        parts = [_number(part) for part in value.split(":")]
        return name, parts[0] if len(parts) == 1 else parts

    def _scalar(self, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if self.field == "readiness" and given.startswith("log_line="):
            return {"log_line": given.partition("=")[2]}
        if self.field in _PATHS:
            return os.path.abspath(os.path.expanduser(given))
        elements = [each.item_type for each in self._types if isinstance(each, inspect.ListType)]
        numbers = any(isinstance(each, inspect.IntType | inspect.FloatType) for each in [*self._types, *elements])
        return _number(given) if numbers and self.field != "umask" else given


def _number(text: str) -> int | float | str:
    """Return a number where the text is one."""
    for kind in (int, float):
        try:
            return kind(text) if text[:1].isdigit() or text[:1] == "-" else text
        except ValueError:
            continue
    return text


def _described(type_: Any) -> tuple[str, list[inspect.Type]]:
    """Return the description of a field, and the types that its value may have."""
    info = inspect.type_info(type_)
    text = ""
    while isinstance(info, inspect.Metadata):
        text = text or str((info.extra_json_schema or {}).get("description", ""))
        info = info.type
    members = info.types if isinstance(info, inspect.UnionType) else (info,)
    plain = []
    for each in members:
        while isinstance(each, inspect.Metadata):
            each = each.type
        plain.append(each)
    return text, plain


def _flags() -> Iterator[_Flag]:
    for field in msgspec.structs.fields(AppSpec):
        if field.encode_name == "health_check":
            yield from (_Flag(each, _CHECK) for each in msgspec.structs.fields(HealthCheck))
        elif field.encode_name not in _OTHERWISE or field.encode_name == "name":
            yield _Flag(field)


_FLAGS: Final = {flag.parameter: flag for flag in _flags()}


def app_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for each field of an app; `config_of` reads them."""
    for flag in reversed(_FLAGS.values()):
        command = flag.option()(command)
    return command


def config_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that the flags among *given* make; empty where none was given."""
    values = {
        name: flag.value(given[name])
        for name, flag in _FLAGS.items()
        if given.get(name) is not None and given[name] != ()
    }
    config = {name: value for name, value in values.items() if not name.startswith(_CHECK)}
    check = {name.removeprefix(_CHECK): value for name, value in values.items() if name.startswith(_CHECK)}
    if check:
        kinds = [kind for kind, keys in CHECK_KEYS.items() if keys[0] in check]
        config["health_check"] = {**({"check_type": kinds[0]} if kinds else {}), **check}
    return config
