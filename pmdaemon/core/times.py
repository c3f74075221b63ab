"""How a moment is written, and read."""

from datetime import UTC, datetime

__all__ = ["rfc3339", "unix_seconds"]

_LAST = 253_402_300_799
"""Unix seconds of the last moment that can be written as a date."""


def rfc3339(at: float) -> str:
    """Return unix seconds *at* as UTC with milliseconds and ``Z`` [E1]."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_seconds(moment: int | str) -> float:
    """Return unix seconds of a moment given as RFC 3339, or in unix milliseconds. Raises ValueError for another."""
    if isinstance(moment, int):
        at = moment / 1000 if moment.bit_length() < 64 else -1.0
    else:
        read = datetime.fromisoformat(moment)
        at = read.timestamp() if read.tzinfo is not None else -1.0
    if not 0 <= at <= _LAST:
        raise ValueError("not a moment")
    return at
