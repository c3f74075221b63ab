"""What `keeper.table` does not tell of the machine's processes: what each uses, and who bears which cookie.

On Linux a process that is read again and again has its ``stat`` file kept open. That is an eighth of the cost of
psutil, and safe against pids that are used again: of a process that has gone the file says so, whoever has the pid now.
Elsewhere psutil reads.
"""

import os
import resource
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import psutil

from pmdaemon.keeper.table import pids, read_file, stat_fields, variables

__all__ = ["PsutilSource", "Source", "Stat", "StatSource", "Usage", "cookies", "process_source", "sessions"]

_LINUX = sys.platform == "linux"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LINE = 1024
"""Bytes that hold every field of ``stat`` that is used, however long the numbers."""

_SHARE = 4
"""Of the descriptors that the daemon may have, one in so many may be a ``stat`` file; the rest is opened each time."""


class Usage(NamedTuple):
    """What one process has used.

    ``start`` is in the system's own unit and, with ``pid``, never used twice. ``own`` are seconds of CPU of itself,
    ``waited`` those of children that have ended and were waited for; ``rss`` is in bytes.
    """

    pid: int
    ppid: int
    session: int
    start: float
    own: float
    waited: float
    rss: int


class Stat(Protocol):
    """One process, read again and again; ``usage`` is what was read last."""

    usage: Usage

    def read(self) -> Usage | None:
        """What it has used now, the same object where nothing has changed; None for ever when it has gone."""

    def close(self) -> None:
        """Read it no more."""


class Source(Protocol):
    """Where processes are looked for."""

    def changes(self) -> tuple[list[int], list[int]]:
        """The pids of processes that came and of those that went since the last call; one used again is in both."""

    def open(self, pid: int) -> Stat | None:
        """The process with this pid, read once; None when it has gone or cannot be read: then it comes again."""


class _StatFile:
    """A ``stat`` file, kept open where there is room."""

    __slots__ = ("_descriptor", "_line", "_source", "usage")

    def __init__(self, source: "StatSource", descriptor: int, line: bytes, usage: Usage) -> None:
        self._source = source
        self._descriptor = descriptor
        self._line = line
        self.usage = usage

    def read(self) -> Usage | None:
        try:
            if self._descriptor >= 0:
                line = os.pread(self._descriptor, _LINE, 0)
            else:
                line = read_file(f"/proc/{self.usage.pid}/stat")
        except ProcessLookupError:
            return None
        if line != self._line:
            usage = _usage(self.usage.pid, line)
            if usage is None or usage.start != self.usage.start:
                return None
            self._line, self.usage = line, usage
        return self.usage

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._source.kept -= 1
            self._descriptor = -1


class StatSource:
    """Reads /proc; ``kept`` files are open.

    That a pid is used again is seen by the inode number of its directory, which Linux gives to no other.
    """

    def __init__(self) -> None:
        self.kept = 0
        self._listed: dict[str, int] = {}

    def changes(self) -> tuple[list[int], list[int]]:
        with os.scandir("/proc") as found:
            now = {entry.name: entry.inode() for entry in found}
        before, self._listed = self._listed, now
        came, went = now.items() - before.items(), before.items() - now.items()
        return _pids(came), _pids(went)

    def open(self, pid: int) -> Stat | None:
        descriptor, line, usage = -1, b"", None
        try:
            descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
            line = os.pread(descriptor, _LINE, 0)
            usage = _usage(pid, line)
        except OSError:  # gone, hidden, or no descriptor is left
            pass
        if descriptor >= 0 and (usage is None or self.kept >= _room()):
            os.close(descriptor)
            descriptor = -1
        if usage is None:
            self._listed.pop(str(pid), None)
            return None
        self.kept += descriptor >= 0
        return _StatFile(self, descriptor, line, usage)


class _PsutilStat:
    """A process that psutil reads."""

    def __init__(self, process: psutil.Process, usage: Usage) -> None:
        self._process = process
        self.usage = usage

    def read(self) -> Usage | None:
        usage = _of_psutil(self._process) if self._process.is_running() else None
        if usage is not None and usage != self.usage:
            self.usage = usage
        return None if usage is None else self.usage

    def close(self) -> None:
        """Nothing is held."""


class PsutilSource:
    """Reads by psutil; a pid that is used again is seen by the time of its start."""

    def __init__(self) -> None:
        self._listed: dict[int, float] = {}

    def changes(self) -> tuple[list[int], list[int]]:
        now = {process.pid: process.info["create_time"] or 0.0 for process in psutil.process_iter(["create_time"])}
        before, self._listed = self._listed, now
        came, went = now.items() - before.items(), before.items() - now.items()
        return [pid for pid, _ in came], [pid for pid, _ in went]

    def open(self, pid: int) -> Stat | None:
        try:
            process = psutil.Process(pid)
        except psutil.Error:
            usage = None
        else:
            usage = _of_psutil(process)
        if usage is None:
            self._listed.pop(pid, None)
            return None
        return _PsutilStat(process, usage)


def process_source() -> Source:
    """The cheapest source that this system has."""
    return StatSource() if _LINUX else PsutilSource()


def sessions() -> dict[int, list[int]]:
    """The pids of every session, by its leader's pid: far cheaper than a snapshot, and includes zombies."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for pid in pids() if _LINUX else psutil.pids():
        try:
            found[os.getsid(pid)].append(pid)
        except OSError:
            continue
    return found


def cookies(name: str) -> dict[str, list[int]]:
    """The pids of the processes that were started with the environment variable ``name``, by its value.

    Only those are seen whose environment we may read, which are our own user's. A program that writes its title
    over its environment, as some do, is not found.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    for pid in pids() if _LINUX else psutil.pids():
        for _, value in _variable(pid, name):
            found[value].append(pid)
    return found


def _variable(pid: int, name: str) -> set[tuple[str, str]]:
    if _LINUX:
        return variables(pid, [name.encode() + b"="])
    try:
        return {each for each in psutil.Process(pid).environ().items() if each[0] == name}
    except (psutil.Error, OSError):
        return set()


def _room() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (sys.maxsize if soft == resource.RLIM_INFINITY else soft) // _SHARE


def _pids(listed: Iterable[tuple[str, int]]) -> list[int]:
    return [int(name) for name, _ in listed if name.isdigit()]


def _usage(pid: int, line: bytes) -> Usage | None:
    fields = stat_fields(line)
    if len(fields) < 22:
        return None
    return Usage(
        pid,
        int(fields[1]),
        int(fields[3]),
        int(fields[19]),
        (int(fields[11]) + int(fields[12])) / _TICKS,
        (int(fields[13]) + int(fields[14])) / _TICKS,
        int(fields[21]) * _PAGE,
    )


def _of_psutil(process: psutil.Process) -> Usage | None:
    try:
        with process.oneshot():
            cpu = process.cpu_times()
            return Usage(
                process.pid,
                process.ppid(),
                os.getsid(process.pid),
                process.create_time(),
                cpu.user + cpu.system,
                getattr(cpu, "children_user", 0.0) + getattr(cpu, "children_system", 0.0),
                process.memory_info().rss,
            )
    except (psutil.Error, OSError):
        return None
