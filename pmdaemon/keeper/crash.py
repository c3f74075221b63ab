"""Places where a test has the keeper die, as ``kill -9`` would have it, or fail, as a defect would.

``PMDAEMON_CRASH_AT=place`` names the place, ``place:3`` the third time it is passed, ``!place`` raises there.
"""

import os

__all__ = ["crash_at"]

_place, _, _number = os.environ.get("PMDAEMON_CRASH_AT", "").partition(":")
_left = int(_number or 1)


def crash_at(place: str) -> None:
    """Die here if this is the place."""
    global _left
    if place != _place.removeprefix("!"):
        return
    _left -= 1
    if _left:
        return
    if _place.startswith("!"):
        raise RuntimeError(f"told to fail at {place}")
    os._exit(137)
