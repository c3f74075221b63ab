"""From probe results to a health status: how many failures in a row make a process unhealthy, what a status tells."""

from collections.abc import Mapping
from typing import Literal

__all__ = ["DETAILS", "HealthTracker", "Status"]

Status = Literal["unknown", "healthy", "unhealthy"]

DETAILS: Mapping[str, tuple[str, ...]] = {
    "http": ("url", "response_time", "status_code", "error"),
    "script": ("exit_code", "output"),
    "tcp": ("host", "port", "response_time", "error"),
}
"""By type of check, the keys of what a probe tells; each is there always, None where nothing is known [P12]."""


class HealthTracker:
    """The status of one process: unhealthy after ``retries`` failures in a row, healthy after one success."""

    def __init__(self, retries: int, status: Status = "unknown") -> None:
        self._retries = retries
        self.reset(status)

    def reset(self, status: Status = "unknown") -> None:
        """Know nothing but *status*."""
        self.status: Status = status
        self.failures = 0

    def record(self, ok: bool, counts: bool = True) -> Status | None:
        """Take the result of a probe and return the new status if it changed it; a failure may not count."""
        if ok:
            self.failures = 0
            return self._turn("healthy")
        if not counts:
            return None
        self.failures += 1
        return self._turn("unhealthy") if self.failures >= self._retries else None

    def _turn(self, status: Status) -> Status | None:
        if status == self.status:
            return None
        self.status = status
        return status
