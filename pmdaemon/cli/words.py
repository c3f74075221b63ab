"""Figures as people read them."""

import re
from datetime import UTC, datetime
from typing import Final

import click

from pmdaemon.core.events import ProcessMetricsEntry

__all__ = [
    "HEALTH_STYLES",
    "STATUS_STYLES",
    "clock",
    "ended",
    "how_long",
    "how_much",
    "moment",
    "moment_of",
    "seconds_of",
    "span_of",
    "uptime",
]

STATUS_STYLES: Final = {
    "online": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "restarting": "yellow",
    "stopped": "dim",
    "errored": "red bold",
}
HEALTH_STYLES: Final = {"healthy": "green", "unhealthy": "red bold", "unknown": "dim"}

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def how_long(ms: float) -> str:
    """Return a duration in its two largest units: ``45s``, ``3m 5s``, ``2h 10m``, ``4d 3h``."""
    left = int(ms // 1000)
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def how_much(size: float) -> str:
    """Return bytes with a unit: ``45.2 MB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def moment(timestamp: str) -> datetime:
    """Return a time of the API as local time."""
    return datetime.fromisoformat(timestamp).astimezone()


def clock(timestamp: str | None) -> str:
    """Return a time of the API as local time to the second, ``-`` for none."""
    return "-" if timestamp is None else moment(timestamp).strftime("%Y-%m-%d %H:%M:%S")


def ended(code: int | None, signal: str | None) -> str:
    """Say how a process ended."""
    if signal is not None:
        return f"killed by {signal}" + (" (perhaps for its memory)" if signal == "SIGKILL" else "")
    return "ended, nobody knows how" if code is None else f"ended with exit code {code}"


def uptime(process: ProcessMetricsEntry) -> str:
    """Return for how long it runs, ``-`` where it does not."""
    return "-" if process.pid is None else how_long(process.uptime)


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration such as ``10m``, None where it is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)", text)
    return float(match[1]) * _UNITS[match[2]] if match else None


def moment_of(text: str | int) -> int:
    """Return a moment in unix milliseconds: how long ago (``10m``), or a date and time, local unless it says its zone.

    For the command line: raises click's error.
    """
    if isinstance(text, int):
        return text
    ago = seconds_of(text)
    if ago is not None:
        return round((datetime.now(UTC).timestamp() - ago) * 1000)
    try:
        return max(0, round(datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except (ValueError, OverflowError, OSError) as why:
        raise click.BadParameter(
            f"'{text}' is neither so long ago, as 10m, 2h or 3d, nor a time as 2026-01-31T12:00"
        ) from why


def span_of(text: str | int) -> int:
    """Return a duration in milliseconds; a bare number is in seconds. For the command line: raises click's error."""
    if isinstance(text, int):
        return text
    seconds = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else seconds_of(text)
    if seconds is None or not 0.001 <= seconds <= 86400:
        raise click.BadParameter(f"'{text}' is not a duration such as 500ms, 30s or 2m, a day at most")
    return round(seconds * 1000)
