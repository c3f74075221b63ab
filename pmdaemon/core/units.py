"""Durations and sizes as people write them: ``250``, ``"250ms"``, ``"1.5h"``; ``512``, ``"100M"``."""

import re
from typing import Annotated

from msgspec import Meta

from pmdaemon.core.fields import shown

__all__ = ["MAX_SECONDS", "MAX_SIZE", "MILLISECOND", "SECOND", "Duration", "Size", "seconds", "size"]

MILLISECOND = 0.001
SECOND = 1.0
MAX_SECONDS = 366 * 86400.0
"""The longest duration; a timer far past it overflows the reactor's poll."""
MAX_SIZE = 2**53 - 1
"""The largest size; a JavaScript client reads no larger integer exactly."""

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = re.compile(_NUMBER + r"(ms|s|m|h)")
_SIZE = re.compile(_NUMBER + r"([KkMmGgTt]?)[Bb]?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

Duration = (
    Annotated[int, Meta(ge=0)]
    | Annotated[float, Meta(ge=0)]
    | Annotated[str, Meta(extra_json_schema={"pattern": f"^{_DURATION.pattern}$"})]
)
"""A number in the field's own unit, or a string with a unit; what the string may be is checked by `seconds`."""

Size = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(extra_json_schema={"pattern": f"^{_SIZE.pattern}$"})]
"""A number of bytes, or a string such as ``"100M"``; what the string may be is checked by `size`."""


def seconds(value: int | float | str, unit: float) -> float:
    """Return a duration in seconds; a bare number is in ``unit`` (seconds: `MILLISECOND`, `SECOND`).

    Raises ValueError, worded to follow the field's name, on another form or more than `MAX_SECONDS`.
    """
    number: float
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            problem = f'must be a number or a duration such as "250ms", "5s", "2m" or "1h", not {shown(value)}'
            raise ValueError(problem)
        number, unit = float(match[1]), _SECONDS[match[2]]
    else:
        number = value
    if not 0 <= number <= MAX_SECONDS / unit:
        raise ValueError(f"must be between 0 and 366 days, not {shown(value)}")
    return number * unit


def size(value: int | str) -> int:
    """Return a size in bytes; K, M, G and T are powers of 1024.

    Raises ValueError, worded to follow the field's name, on another form or more than `MAX_SIZE`.
    """
    number: float
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f'must be a number of bytes or a size such as "512K", "100M" or "1G", not {shown(value)}')
        number = float(match[1]) * 1024 ** _POWERS[match[2].lower()]
    else:
        number = value
    if not 0 <= number <= MAX_SIZE:
        raise ValueError(f"must be between 0 and 8191T, not {shown(value)}")
    return int(number)
