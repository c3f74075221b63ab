"""What the system offers beyond POSIX, less what ``PMDAEMON_KEEPER_WITHOUT`` names (``splice,pidfd,...``)."""

import fcntl
import os
import resource
import struct
import sys
from contextlib import suppress
from functools import cache

__all__ = ["BRAND", "allowed", "exit_status", "has_brand", "has_pidfd", "summary"]

BRAND = 10
"""RLIMIT_LOCKS: Linux has not looked at it since 2.4, and still hands it down to every descendant."""

_without = frozenset(os.environ.get("PMDAEMON_KEEPER_WITHOUT", "").split(","))
_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO of Linux 6.13, for a structure of 64 bytes
_INFO_EXIT = 1 << 3  # Linux 6.15


def allowed(name: str) -> bool:
    """Whether this may be used where the system has it."""
    return name not in _without


@cache
def has_pidfd() -> bool:
    """Whether a descriptor can stand for a process."""
    if not allowed("pidfd") or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


@cache
def has_brand() -> bool:
    """Whether a number can be handed down to all descendants, whatever they do to their environment and session."""
    if not allowed("brand") or not sys.platform.startswith("linux"):
        return False
    with suppress(OSError, ValueError):
        return resource.getrlimit(BRAND)[1] == resource.RLIM_INFINITY
    return False


def summary(*, cgroup: bool) -> list[str]:
    """The names of all that is there and allowed."""
    has = {
        "splice": hasattr(os, "splice") and allowed("splice"),
        "pidfd": has_pidfd(),
        "pidfd_exit": _tells_exit(),
        "subreaper": _is_subreaper(),
        "cgroup": cgroup,
        "brand": has_brand(),
    }
    return [name for name, there in has.items() if there]


def exit_status(pidfd: int) -> int | None:
    """The wait status of a process that has been reaped, by anyone; None where the kernel cannot tell."""
    if not allowed("pidfd_exit"):
        return None
    info = bytearray(64)
    struct.pack_into("<Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("<Q", info)
    (status,) = struct.unpack_from("<i", info, 60)
    return int(status) if mask & _INFO_EXIT else None


def _tells_exit() -> bool:
    """Whether the kernel tells others than the parent how a process ended."""
    if not has_pidfd() or not allowed("pidfd_exit"):
        return False
    pid = os.fork()
    if not pid:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    try:
        return exit_status(pidfd) == 0
    finally:
        os.close(pidfd)


@cache
def _is_subreaper() -> bool:
    """Whether orphans among the descendants become our children. Tried, as only ctypes could ask."""
    if not allowed("subreaper"):
        return False
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            if orphan := os.fork():
                os.write(writing, orphan.to_bytes(8, "little"))
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    os.close(writing)
    orphan = int.from_bytes(os.read(reading, 8), "little")
    os.close(reading)
    try:
        return orphan > 0 and os.waitpid(orphan, 0)[0] == orphan
    except ChildProcessError:
        return False
