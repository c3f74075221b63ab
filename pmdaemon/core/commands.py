"""What a client can ask: one frozen Struct per request type, and one per command action.

``None`` stands for an absent key [E2]. A ``config`` stays plain data here; ``core.spec`` reads it, because it needs
the directory that relative paths refer to.
"""

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

__all__ = [
    "ACTIONS",
    "REQUESTS",
    "Command",
    "Delete",
    "GetInfo",
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

_Timeout = Annotated[int, Meta(ge=1, le=86_400_000)]


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


class Ping(_Base, frozen=True):
    """Ask for a ``pong``."""

    type: ClassVar[str] = "ping"


class Command(_Base, frozen=True):
    """What every action takes: whom, how long to wait (ms), and whether to wait until it is done [R1]."""

    action: ClassVar[str] = ""

    type: ClassVar[str] = "command"

    process: Selector
    wait: bool | None = None
    timeout: _Timeout | None = None


class Start(Command, frozen=True):
    """Start a stopped process, or a new app where ``config`` is given [R4]."""

    action: ClassVar[str] = "start"

    config: dict[str, Any] | None = None
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


class Reset(Command, frozen=True):
    """Set the restart counters to 0 and forget failures [R8]."""

    action: ClassVar[str] = "reset"


Request = Subscribe | Unsubscribe | GetInfo | GetSystem | Ping | Command

REQUESTS: dict[str, type[Subscribe | Unsubscribe | GetInfo | GetSystem | Ping]] = {
    each.type: each for each in (Subscribe, Unsubscribe, GetInfo, GetSystem, Ping)
}

ACTIONS: dict[str, type[Command]] = {
    each.action: each for each in (Start, Stop, Restart, Reload, Delete, Scale, Signal, Reset)
}
