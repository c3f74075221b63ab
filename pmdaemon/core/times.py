"""How a moment is written."""

from datetime import UTC, datetime

__all__ = ["rfc3339"]


def rfc3339(at: float) -> str:
    """Return unix seconds *at* as UTC with milliseconds and ``Z`` [E1]."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
