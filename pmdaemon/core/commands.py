"""What a client can ask: one frozen Struct per request type, and one per command action.

``None`` stands for an absent key [E2]. A ``config`` stays plain data here; ``core.spec`` reads it, because it needs
the directory that relative paths refer to.
"""

from typing import Annotated, Any, ClassVar, Literal, get_args

from msgspec import Meta, Struct

__all__ = [
    "ACTIONS",
    "REQUESTS",
    "Authenticate",
    "Command",
    "Delete",
    "Flush",
    "GetConfig",
    "GetCrash",
    "GetEvents",
    "GetHistory",
    "GetInfo",
    "GetLogs",
    "GetSystem",
    "Ping",
    "Reload",
    "Request",
    "Reset",
    "Restart",
    "Scale",
    "Selector",
    "Signal",
    "Start",
    "Stop",
    "Subscribe",
    "Unsubscribe",
]

Selector = int | Annotated[str, Meta(min_length=1, max_length=256)]
"""A process name, an app name, an id, a glob, ``ns:NAME`` or ``all`` [P3], [S5]."""

Moment = int | Annotated[str, Meta(min_length=1, max_length=64)]
"""A time as RFC 3339 or unix milliseconds; where it is said, also the id of a message."""

_Timeout = Annotated[int, Meta(ge=1, le=86_400_000)]
_Cursor = Annotated[str, Meta(min_length=1, max_length=16_384)]


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: ClassVar[str] = ""


class Subscribe(_Base, frozen=True):
    """Add event types, each with its filter and interval [S1]..[S9]; ``since`` resumes after an id [S7]."""

    type: ClassVar[str] = "subscribe"

    events: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=64)]
    processes: Annotated[list[Selector], Meta(max_length=1000)] | None = None
    interval: int | None = None
    since: Annotated[str, Meta(max_length=64)] | None = None
    tail: Annotated[int, Meta(ge=0, le=10_000)] | None = None
    level: str | None = None
    stream: str | None = None
    grep: Annotated[str, Meta(max_length=1024)] | None = None
    regex: bool | None = None


class Unsubscribe(_Base, frozen=True):
    """Drop event types; without ``events`` all of them [S6]."""

    type: ClassVar[str] = "unsubscribe"

    events: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=64)] | None = None


class GetInfo(_Base, frozen=True):
    """Ask for one process, an app, or all of them [R9]; ``cursor`` continues a paged answer [E6]."""

    type: ClassVar[str] = "get_info"

    process: Selector | None = None
    cursor: int | None = None


class GetSystem(_Base, frozen=True):
    """Ask for the machine's and the daemon's figures [R10]."""

    type: ClassVar[str] = "get_system"


class GetLogs(_Base, frozen=True, kw_only=True):
    """Ask for lines of logs [R11]: the last ones, or the first ones since a time; ``cursor`` goes on from there."""

    type: ClassVar[str] = "get_logs"

    process: Selector
    lines: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    stream: str | None = None
    since: Moment | None = None
    grep: Annotated[str, Meta(max_length=1024)] | None = None
    regex: bool | None = None
    level: str | None = None
    cursor: _Cursor | None = None


class GetEvents(_Base, frozen=True):
    """Ask for events that are kept [R11]: the last ones, or the first ones since an id or a time."""

    type: ClassVar[str] = "get_events"

    process: Selector | None = None
    since: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    cursor: _Cursor | None = None


class GetCrash(_Base, frozen=True, kw_only=True):
    """Ask for what is known of a process's latest crash [R11]."""

    type: ClassVar[str] = "get_crash"

    process: Selector


class GetHistory(_Base, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Ask for the figures of a process from one time to another [R11]; of the last hour by default."""

    type: ClassVar[str] = "get_history"

    process: Selector
    metric: Literal["cpu", "memory"]
    from_: Moment | None = None
    to: Moment | None = None


class GetConfig(_Base, frozen=True, kw_only=True):
    """Ask for the configuration of an app [R11]; with ``secrets`` just as it is kept."""

    type: ClassVar[str] = "get_config"

    process: Selector
    secrets: bool | None = None


class Ping(_Base, frozen=True):
    """Ask for a ``pong``."""

    type: ClassVar[str] = "ping"


class Authenticate(_Base, frozen=True, kw_only=True):
    """Go on as the caller who shows this token, from before the first subscription."""

    type: ClassVar[str] = "authenticate"

    token: Annotated[str, Meta(min_length=1, max_length=8192)]


class Command(_Base, frozen=True):
    """What every action takes: whom, how long to wait (ms), and whether to wait until it is done [R1]."""

    action: ClassVar[str] = ""

    type: ClassVar[str] = "command"

    process: Selector
    wait: bool | None = None
    timeout: _Timeout | None = None


class Start(Command, frozen=True):
    """Start a stopped process, or a new app where ``config``, or the ``file`` that has it, is given [R4]."""

    action: ClassVar[str] = "start"

    config: dict[str, Any] | None = None
    file: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    replace: bool | None = None


class Stop(Command, frozen=True):
    """Stop a process with its whole tree."""

    action: ClassVar[str] = "stop"


class Restart(Command, frozen=True):
    """Stop and start again."""

    action: ClassVar[str] = "restart"


class Reload(Command, frozen=True):
    """Replace the instances one by one with a new or the re-read configuration [R6]."""

    action: ClassVar[str] = "reload"

    config: dict[str, Any] | None = None


class Delete(Command, frozen=True):
    """Stop and forget; ``purge`` removes the logs too [R7]."""

    action: ClassVar[str] = "delete"

    purge: bool | None = None


class Scale(Command, frozen=True, kw_only=True):
    """Change the number of an app's instances [R8]."""

    action: ClassVar[str] = "scale"

    instances: Annotated[int, Meta(ge=1, le=1000)]


class Signal(Command, frozen=True, kw_only=True):
    """Send a signal to the main process of each [R8]."""

    action: ClassVar[str] = "signal"

    signal: Annotated[str, Meta(min_length=1, max_length=16)]


class Flush(Command, frozen=True):
    """Empty the logs [R8]."""

    action: ClassVar[str] = "flush"


class Reset(Command, frozen=True):
    """Set the restart counters to 0 and forget failures [R8]."""

    action: ClassVar[str] = "reset"


_Plain = (
    Subscribe
    | Unsubscribe
    | GetInfo
    | GetSystem
    | GetLogs
    | GetEvents
    | GetCrash
    | GetHistory
    | GetConfig
    | Ping
    | Authenticate
)

Request = _Plain | Command

REQUESTS: dict[str, type[_Plain]] = {each.type: each for each in get_args(_Plain)}

ACTIONS: dict[str, type[Command]] = {
    each.action: each for each in (Start, Stop, Restart, Reload, Delete, Scale, Signal, Reset, Flush)
}
