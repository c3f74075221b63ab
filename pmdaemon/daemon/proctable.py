"""Reads the machine's process table: who descends from whom, what it uses, who still lives.

Signals to children of our own go through their transport (``spawn``); here only to processes that were found.
"""

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec
import psutil

__all__ = ["Entry", "ProcTable", "cookies", "identity", "kill", "read", "session_members", "sessions", "snapshot"]

_LINUX = sys.platform == "linux"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CHUNK = 1 << 16  # bytes; asking for more at once costs more than it saves


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One process as the table had it.

    ``start`` is in the system's own unit and, with ``pid``, never used twice; ``cpu`` is in seconds and includes
    children that have ended and were waited for; ``rss`` is in bytes. A zombie has ended and waits for its parent.
    """

    pid: int
    ppid: int
    group: int
    session: int
    start: float
    cpu: float
    rss: int
    zombie: bool

    @property
    def identity(self) -> tuple[int, float]:
        """What tells this process from a later one with the same pid."""
        return self.pid, self.start


class ProcTable:
    """The table as it was at one moment."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.pid: entry for entry in entries}
        self._children: defaultdict[int, list[Entry]] = defaultdict(list)
        self._members: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in self._entries.values():
            self._children[entry.ppid].append(entry)
            self._members[entry.session].append(entry)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, pid: int) -> Entry | None:
        """The process with this pid, or None."""
        return self._entries.get(pid)

    def tree(self, pid: int) -> list[Entry]:
        """Descendants of ``pid`` and of every member of the session it leads, zombies too; itself first if there."""
        root = self._entries.get(pid)
        queue = [root] if root else []
        queue += self._members.get(pid, ())
        queue += self._children.get(pid, ())
        found: dict[int, Entry] = {}
        for entry in queue:  # grows while it is walked
            if entry.pid not in found:
                found[entry.pid] = entry
                queue += self._children.get(entry.pid, ())
        return list(found.values())


def snapshot() -> ProcTable:
    """Read the whole table in one pass; what ends meanwhile is left out."""
    entries = map(_read_stat, _pids()) if _LINUX else map(_from_psutil, psutil.process_iter())
    return ProcTable(entry for entry in entries if entry)


def read(pid: int) -> Entry | None:
    """The process as it is now, or None when there is none."""
    if _LINUX:
        return _read_stat(pid)
    try:
        return _from_psutil(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return None


def identity(pid: int) -> float | None:
    """The start of the process, which tells it from a later one with the same pid; None when there is none."""
    entry = read(pid)
    return entry.start if entry else None


def sessions() -> dict[int, list[int]]:
    """The pids of every session, by its leader's pid: far cheaper than a snapshot, and includes zombies."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for pid in _pids():
        try:
            found[os.getsid(pid)].append(pid)
        except OSError:
            continue
    return found


def session_members(leader: int) -> list[int]:
    """The pids of the session that ``leader`` made, zombies and the leader itself included."""
    return sessions().get(leader, [])


def cookies(name: str) -> dict[str, list[int]]:
    """The pids of the processes that were started with the environment variable ``name``, by its value.

    Only those are seen whose environment we may read, which are our own user's. A program that writes its title
    over its environment, as some do, is not found.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    prefix = name.encode() + b"="
    for pid in _pids():
        for variable in _environment(pid):
            if variable.startswith(prefix):
                found[os.fsdecode(variable[len(prefix) :])].append(pid)
                break
    return found


def kill(entry: Entry, signalnum: int) -> bool:
    """Signal exactly this process, never a later one with its pid; False when it has gone.

    Raises PermissionError when it may not be signalled, as a program that became another user.
    """
    pidfd = _open_pidfd(entry.pid)
    try:
        if identity(entry.pid) != entry.start:
            return False
        if pidfd is None:
            os.kill(entry.pid, signalnum)
        else:
            signal.pidfd_send_signal(pidfd, signalnum)
    except ProcessLookupError:
        return False
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return True


def _open_pidfd(pid: int) -> int | None:
    """A descriptor that stays with this process; None where it has gone or the system has none to give."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _pids() -> list[int]:
    if not _LINUX:
        return psutil.pids()
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read_file(path: str) -> bytes:
    """The whole file; nothing when the process has ended or hides it. Raw calls: `open` costs twice as much."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = chunk = os.read(fd, _CHUNK)
        while len(chunk) == _CHUNK:
            chunk = os.read(fd, _CHUNK)
            data += chunk
    except OSError:
        return b""
    finally:
        os.close(fd)
    return data


def _read_stat(pid: int) -> Entry | None:
    """See proc_pid_stat(5); the name, in parentheses, may itself hold spaces and parentheses."""
    line = _read_file(f"/proc/{pid}/stat")
    fields = line[line.rfind(b")") + 2 :].split(b" ", 22)
    if len(fields) < 22:
        return None
    return Entry(
        pid=pid,
        ppid=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start=int(fields[19]),
        cpu=(int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) / _TICKS,
        rss=int(fields[21]) * _PAGE,
        zombie=fields[0] in b"ZX" and int(fields[17]) < 2,  # a first thread may end before the others
    )


def _from_psutil(process: psutil.Process) -> Entry | None:
    try:
        with process.oneshot():
            cpu, pid = process.cpu_times(), process.pid
            return Entry(
                pid=pid,
                ppid=process.ppid(),
                group=os.getpgid(pid),
                session=os.getsid(pid),
                start=process.create_time(),
                cpu=cpu.user + cpu.system + getattr(cpu, "children_user", 0) + getattr(cpu, "children_system", 0),
                rss=process.memory_info().rss,
                zombie=process.status() == psutil.STATUS_ZOMBIE,
            )
    except (psutil.Error, OSError):
        return None


def _environment(pid: int) -> list[bytes]:
    """``NAME=value`` of each variable the process was started with, as far as we may read it."""
    if _LINUX:
        return _read_file(f"/proc/{pid}/environ").split(b"\0")
    try:
        return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]
    except (psutil.Error, OSError):
        return []
