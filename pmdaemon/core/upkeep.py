"""What the keeper does for an app: whose rights its processes have, and how long their logs grow and are kept."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pmdaemon.core.fields import FieldError, checked, step
from pmdaemon.core.units import SECOND, Duration, Size, seconds, size
from pmdaemon.core.values import Text, about

__all__ = ["RLIMITS", "Upkeep"]

RLIMITS = (
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
"""What can be limited; see setrlimit(2)."""

_Limit = Annotated[int, Meta(ge=0, le=2**62)] | Literal["unlimited"]
_Account = Text | Annotated[int, Meta(ge=0, le=2**32 - 2)]


class Upkeep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of an app that need the keeper."""

    user: Annotated[_Account | None, about("Who runs it, by name or number; for a daemon of root alone.")] = None
    group: Annotated[_Account | None, about("Its group, by name or number, in place of the user's own.")] = None
    umask: Annotated[
        Annotated[int, Meta(ge=0, le=0o777)] | Annotated[str, about("Octal.", pattern="^[0-7]{1,4}$")] | None,
        about("Its file creation mask; an octal string. The daemon's own if absent."),
    ] = None
    nice: Annotated[Annotated[int, Meta(ge=-20, le=19)] | None, about("Its priority, -20 to 19.")] = None
    rlimits: Annotated[
        dict[str, _Limit | Annotated[list[_Limit], Meta(min_length=2, max_length=2)]],
        about("Resource limits by name, such as nofile: one for soft and hard, or a list of both."),
    ] = {}
    on_full: Annotated[
        Literal["block", "drop"],
        about("While a log cannot be written as the disk is full: block the process, or drop its output, counted."),
    ] = "block"
    log_max_size: Annotated[
        Size, about("Size at which a log is rotated, between lines; a bare number is in bytes; 0 is never.")
    ] = "50M"
    log_max_files: Annotated[int, Meta(ge=1, le=100_000), about("Rotated files of a log that are kept.")] = 10
    log_max_age: Annotated[Duration | None, about("Age at which a log is rotated; a bare number is in seconds.")] = None
    log_compress: Annotated[bool, about("Whether rotated files are compressed with gzip.")] = True

    def check_upkeep(self) -> None:
        """Raise FieldError on values that do not go."""
        checked("log_max_size", size, self.log_max_size)
        if self.log_max_age is not None and checked("log_max_age", seconds, self.log_max_age, SECOND) < 1:
            raise FieldError("log_max_age", "must be at least 1 s", "leave it out for no limit")
        if isinstance(self.umask, str) and (not self.umask or set(self.umask) - set("01234567") or len(self.umask) > 4):
            raise FieldError("umask", "must be octal, such as '022'", "write it in quotes")
        for name in self.rlimits:
            if name not in RLIMITS:
                raise FieldError(step("rlimits", name), "is no resource limit", "known: " + ", ".join(RLIMITS))

    @property
    def rights(self) -> dict[str, Any]:
        """What is set of ``user``, ``group``, ``umask`` (a number), ``nice`` and ``rlimits`` (soft, hard; -1: none)."""
        umask = int(self.umask, 8) if isinstance(self.umask, str) else self.umask
        rlimits = {name: _pair(limit) for name, limit in self.rlimits.items()} or None
        rights = {"user": self.user, "group": self.group, "umask": umask, "nice": self.nice, "rlimits": rlimits}
        return {key: value for key, value in rights.items() if value is not None}

    @property
    def log_limits(self) -> dict[str, Any]:
        """When a log is rotated and what is kept: sizes in bytes, times in seconds."""
        limit = size(self.log_max_size)
        return {
            "max_size": limit,
            "max_files": self.log_max_files,
            "compress": self.log_compress,
            "max_age": None if self.log_max_age is None else seconds(self.log_max_age, SECOND),
            "total": limit * self.log_max_files or None,
        }

    @property
    def needs_keeper(self) -> list[str]:
        """The keys that were given another value than the default, none of which works without a keeper."""
        return [key for key in Upkeep.__struct_fields__ if key in msgspec.to_builtins(self)]


def _pair(limit: Any) -> list[int]:
    soft, hard = limit if isinstance(limit, list) else (limit, limit)
    return [-1 if each == "unlimited" else int(each) for each in (soft, hard)]
