"""What a reply says of the past [R11]: a line of a log, and how a process crashed."""

from msgspec import Struct

__all__ = ["Crash", "CrashLine", "LogLine", "Point"]

Point = tuple[int, float]
"""Unix milliseconds, and percent of one core or bytes."""


class LogLine(Struct, frozen=True, kw_only=True):
    """One line; ``offset`` is where it starts, ``at`` when that was written, or None where the index does not know."""

    process: str
    stream: str
    offset: int
    at: str | None
    level: str
    message: str
    partial: bool = False
    truncated: bool = False


class CrashLine(Struct, frozen=True, kw_only=True):
    """One of the last lines before a crash; ``at`` is None where nobody knows."""

    stream: str
    offset: int
    at: str | None
    level: str
    message: str


class Crash(Struct, frozen=True, kw_only=True):
    """One crash; ``uptime`` in ms, ``metrics`` are points of the last minutes as in a history, by metric."""

    process: str
    id: int
    at: str
    exit_code: int | None
    exit_signal: str | None
    uptime: int
    attempt: int
    pid: int | None
    port: int | None
    lines: list[CrashLine]
    metrics: dict[str, list[Point]]
