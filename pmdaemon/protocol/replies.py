"""What the daemon answers: one frozen Struct per type of reply, named as on the wire.

Times are RFC 3339 in UTC, durations milliseconds, memory bytes. Keys that a newer daemon adds are passed over.
"""

from typing import Any, ClassVar

from msgspec import Struct

from pmdaemon.core.info import ProcessObject, SystemInfo
from pmdaemon.core.past import Crash, LogLine, Point

__all__ = [
    "Authenticated",
    "CommandResult",
    "Config",
    "CrashReply",
    "Error",
    "EventRecord",
    "Events",
    "Gap",
    "History",
    "LogGap",
    "Logs",
    "Pong",
    "ProcessInfo",
    "Snapshot",
    "Subscribed",
    "SystemReply",
    "Unsubscribed",
]


class Error(Struct, frozen=True, kw_only=True):
    """Why a request was not carried out [R2]."""

    type: ClassVar[str] = "error"

    code: str
    message: str
    hint: str | None = None
    request: dict[str, Any] = {}
    details: dict[str, Any] = {}


class Subscribed(Struct, frozen=True, kw_only=True):
    """What a connection is subscribed to, and the matching processes as they are at that moment [S2], [S3]."""

    type: ClassVar[str] = "subscribed"

    events: dict[str, dict[str, Any]]
    ignored: list[str] = []
    snapshot: list[ProcessObject] = []
    more: bool = False
    cursor: int | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """Further processes of a ``subscribed`` that does not fit one message."""

    type: ClassVar[str] = "snapshot"

    processes: list[ProcessObject]
    more: bool = False
    cursor: int | None = None


class Unsubscribed(Struct, frozen=True, kw_only=True):
    """What a connection is subscribed to still [S6]."""

    type: ClassVar[str] = "unsubscribed"

    events: dict[str, dict[str, Any]]
    ignored: list[str] = []


class ProcessInfo(Struct, frozen=True, kw_only=True):
    """A list of processes; a reply about one process has no list and is a `ProcessObject` itself [R9]."""

    type: ClassVar[str] = "process_info"

    processes: list[ProcessObject] | None = None
    instances: list[ProcessObject] | None = None
    more: bool = False
    cursor: int | None = None


class SystemReply(SystemInfo, frozen=True, kw_only=True):
    """The machine and the daemon [R10]."""

    type: ClassVar[str] = "system_info"


class Logs(Struct, frozen=True, kw_only=True):
    """Lines, oldest first [R11]; ``cursor`` goes on where they end, if there may be ``more``."""

    type: ClassVar[str] = "logs"

    process: str | int
    lines: list[LogLine]
    more: bool = False
    cursor: str | None = None


class EventRecord(Struct, frozen=True, kw_only=True):
    """One event that was told earlier; ``data`` is as it was told."""

    type: str
    data: dict[str, Any]
    timestamp: str
    id: str


class Events(Struct, frozen=True, kw_only=True):
    """Events, oldest first [R11]; ``cursor`` goes on where they end, if there may be ``more``."""

    type: ClassVar[str] = "events"

    process: str | int | None
    events: list[EventRecord]
    more: bool = False
    cursor: str | None = None


class CrashReply(Struct, frozen=True, kw_only=True):
    """The latest crash of a process, or None [R11]."""

    type: ClassVar[str] = "crash"

    process: str
    crash: Crash | None


class History(Struct, frozen=True, kw_only=True):
    """Figures of one process [R11]: points of unix milliseconds and value, each ``resolution`` seconds."""

    type: ClassVar[str] = "history"

    process: str
    metric: str
    resolution: int
    points: list[Point]


class Config(Struct, frozen=True, kw_only=True):
    """The configuration of an app [R11]; ``source`` is the file it came from, if any."""

    type: ClassVar[str] = "config"

    app: str
    source: str | None
    config: dict[str, Any]


class CommandResult(Struct, frozen=True, kw_only=True):
    """A command is done [R1]; ``processes`` as they are now, or were last."""

    type: ClassVar[str] = "command_result"

    action: str
    process: str | int
    processes: list[ProcessObject]
    success: bool = True
    more: bool = False
    cursor: int | None = None


class Authenticated(Struct, frozen=True, kw_only=True):
    """Who one is from now on; ``processes`` None for all, ``expires`` None for never."""

    type: ClassVar[str] = "authenticated"

    scope: str
    processes: list[str | int] | None
    expires: str | None


class Pong(Struct, frozen=True):
    """The daemon is there."""

    type: ClassVar[str] = "pong"


class Gap(Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """What was told between two ids is not kept any more [S7]; ``dropped`` None where nobody knows how much."""

    type: ClassVar[str] = "gap"

    from_: str
    to: str
    dropped: int | None


class LogGap(Struct, frozen=True, kw_only=True):
    """So many lines of a process were not told, as this client was too slow [F1]."""

    type: ClassVar[str] = "log_gap"

    process: str
    dropped: int
