"""What an app or a namespace may be called."""

import posixpath
import re

from pmdaemon.core.fields import shown
from pmdaemon.errors import InvalidConfiguration

__all__ = [
    "MAX_NAME",
    "NAME_PATTERN",
    "RESERVED_PATTERN",
    "check_name",
    "name_problem",
    "named_after",
    "pattern_problem",
]

MAX_NAME = 64
NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9._:@-]{{0,{MAX_NAME - 1}}}$"
RESERVED_PATTERN = "^([0-9]+|all|ns:.*)$"
"""Names that would be read as an id, as everything, or as a namespace."""

NAME_HINT = f"a name is 1 to {MAX_NAME} of A-Z a-z 0-9 . _ : @ - and starts with a letter or digit"
_NAME = re.compile(NAME_PATTERN[1:-1])
_RESERVED = re.compile(RESERVED_PATTERN[1:-1])


def check_name(name: str) -> None:
    """Raise InvalidConfiguration unless an app may have this name."""
    problem = name_problem(name)
    if problem is not None:
        raise InvalidConfiguration(f"cannot use {shown(name)} as a name: it {problem}", hint=NAME_HINT)


def name_problem(name: str) -> str | None:
    """Return why an app may not have this name, worded to follow it, or None if it may."""
    if _RESERVED.fullmatch(name):
        return "stands for something else: digits for an id, 'all' for every process, 'ns:' for a namespace"
    return pattern_problem(name)


def pattern_problem(name: str) -> str | None:
    """Return why a namespace may not have this name, worded to follow it, or None if it may."""
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters, {MAX_NAME} are the most"
    return None if _NAME.fullmatch(name) else "has a character that a name cannot have, or starts with one"


def named_after(script: str) -> str | None:
    """Return a name for an app that was given none, made from its script, or None where nothing fits."""
    program = posixpath.basename((script.split() or [""])[0])
    name = re.sub(r"[^A-Za-z0-9._@-]+", "-", posixpath.splitext(program)[0]).lstrip("._@-")[:MAX_NAME]
    return None if name_problem(name) else name
