"""What the single values of a configuration may be: texts, command lines, environment variables, signals, URLs.

What must fit together is the business of the Struct that holds them.
"""

import math
import shlex
import signal
from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pmdaemon.core.fields import FieldError, checked, nearest, shown, step
from pmdaemon.core.units import seconds

__all__ = [
    "MAX_ENV",
    "MAX_TEXT",
    "MAX_WORDS",
    "EnvValue",
    "Text",
    "about",
    "check_durations",
    "check_env",
    "check_texts",
    "check_url",
    "env_text",
    "signal_number",
    "words",
]

MAX_TEXT = 64 * 1024
MAX_WORDS = 1000
MAX_ENV = 256 * 1024

Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
EnvValue = str | int | float | bool


def about(description: str, **schema: object) -> Meta:
    """Return what the JSON Schema says of a field: a sentence, and further keywords."""
    return Meta(description=description, extra_json_schema=schema or None)


def check_texts(struct: msgspec.Struct) -> None:
    """Raise FieldError on a string in ``struct`` or its lists that no program or path could be given."""
    for key in struct.__struct_fields__:
        value = getattr(struct, key)
        if isinstance(value, str):
            _check_text(key, value)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, str):
                    _check_text(f"{key}[{index}]", item)


def check_env(env: Mapping[str, EnvValue]) -> None:
    """Raise FieldError on an environment that no program could be given; values are never shown."""
    total = 0
    for name, value in env.items():
        path = step("env", name)
        if not name or "=" in name:
            raise FieldError(path, "is no name for an environment variable", "a name is not empty and has no '=' in it")
        if isinstance(value, float) and not math.isfinite(value):
            raise FieldError(path, "must be a finite number", "put it in quotes")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise FieldError(path, "is too large a number", "put it in quotes")
        text = env_text(value)
        _check_text(path, name)
        _check_text(path, text)
        total += len(name.encode()) + len(text.encode())
    if total > MAX_ENV:
        raise FieldError("env", f"has {total} bytes, {MAX_ENV} are the most", "move large values to a file")


def check_durations(struct: msgspec.Struct, unit: float, keys: Iterable[str], *, positive: Iterable[str]) -> None:
    """Raise FieldError unless the values of ``keys`` are durations, those of ``positive`` more than 0."""
    for key in keys:
        if checked(key, seconds, getattr(struct, key), unit) <= 0 and key in positive:
            raise FieldError(key, "must be more than 0", "leave it out for the default")


def check_url(path: str, url: str) -> None:
    """Raise FieldError unless ``url`` is one that can be fetched over HTTP; it is not shown, it may hold a secret."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        hint = 'write it like "http://localhost:3000/health", other characters percent-encoded'
        raise FieldError(path, "must be an http or https URL", hint)


def words(value: list[str] | str) -> list[str]:
    """Return a command line word by word, a string split like a shell splits it.

    Raises FieldError on a quote that is never closed.
    """
    if not isinstance(value, str):
        return list(value)
    try:
        split = shlex.split(value)
    except ValueError as refused:
        raise FieldError("", f"cannot be split into words: {str(refused).lower()}", "write it as a list") from None
    if len(split) > MAX_WORDS:
        raise FieldError("", f"has {len(split)} words, {MAX_WORDS} are the most")
    return split


def env_text(value: EnvValue) -> str:
    """Return the value of an environment variable as a child gets it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def signal_number(name: str) -> int:
    """Return the signal of a name with or without SIG; raises FieldError where there is none."""
    full = f"SIG{name.upper().removeprefix('SIG')}"
    if full not in signal.Signals.__members__:
        problem = f"must be the name of a signal, not {shown(name)}"
        raise FieldError("", problem, nearest(full, signal.Signals.__members__))
    return int(signal.Signals[full])


def _check_text(path: str, text: str) -> None:
    if "\0" in text:
        raise FieldError(path, "must not contain a NUL character", "take the NUL out")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise FieldError(path, "must be Unicode text, half of a surrogate pair is not", "write it as UTF-8") from None
    if length > MAX_TEXT:
        raise FieldError(path, f"has {length} bytes, {MAX_TEXT} are the most", "move it to a file")
