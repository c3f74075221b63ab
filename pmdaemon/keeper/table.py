"""Reads the machine's process table, and signals exactly the process that was read.

From /proc where there is one, else by asking ps.
"""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from pmdaemon.keeper.features import allowed, has_pidfd

__all__ = [
    "Entry",
    "Mark",
    "Table",
    "boot",
    "kill",
    "marks",
    "pids",
    "read",
    "read_file",
    "snapshot",
    "stat_fields",
    "variables",
]

Mark = tuple[str, str]
"""A variable of the environment and its value, or "brand" and the number a tree is branded with."""

_PROC = os.path.exists("/proc/self/stat") and allowed("proc")
_CHUNK = 1 << 16  # bytes; asking for more at once costs more than it saves
_BRAND_LINE = b"Max file locks"


class Entry(NamedTuple):
    """One process as the table had it.

    ``start`` is in the system's own unit and, with ``pid``, never used twice. A zombie has ended and waits for its
    parent; ``status`` is then how it ended, as `os.waitpid` gives it, or None where that is not shown.
    """

    pid: int
    ppid: int
    group: int
    session: int
    start: int
    zombie: bool
    status: int | None

    @property
    def identity(self) -> tuple[int, int]:
        """What tells this process from a later one with the same pid."""
        return self.pid, self.start


class Table:
    """The table as it was at one moment."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.pid: entry for entry in entries}
        self._children: defaultdict[int, list[Entry]] = defaultdict(list)
        self._members: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in self._entries.values():
            self._children[entry.ppid].append(entry)
            self._members[entry.session].append(entry)

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


def snapshot() -> Table:
    """Read the whole table in one pass; what ends meanwhile is left out."""
    return Table(_from_proc(pids()) if _PROC else _from_ps([]))


def read(pid: int) -> Entry | None:
    """The process as it is now, or None when there is none."""
    return next(iter(_from_proc([pid]) if _PROC else _from_ps([pid])), None)


def marks(wanted: Iterable[Mark]) -> dict[Mark, list[int]]:
    """The pids that bear each of these marks. Environments are seen of our own user's processes only."""
    found: dict[Mark, list[int]] = {mark: [] for mark in wanted}
    if not found or not _PROC:
        return found
    names = [name.encode() + b"=" for name in {name for name, _ in found} - {"brand"}]
    branded = any(name == "brand" for name, _ in found)
    for pid in pids():
        borne = {_brand(pid)} if branded else set()
        if names:
            borne |= variables(pid, names)
        for mark in found.keys() & borne:
            found[mark].append(pid)
    return found


def kill(pid: int, start: int, number: int) -> bool:
    """Signal exactly this process, never a later one with its pid; False when it has gone.

    Raises PermissionError when it may not be signalled, as a program that became another user.
    """
    pidfd = _open_pidfd(pid)
    try:
        entry = read(pid)  # after opening: what the descriptor stands for
        if entry is None or entry.start != start:
            return False
        if pidfd is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return True


@lru_cache(1)
def boot() -> str:
    """What tells this boot of the machine, and this namespace of pids, from any other."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        with os.popen("sysctl -n kern.bootsessionuuid 2>/dev/null") as answer:
            return answer.read().strip()


def _open_pidfd(pid: int) -> int | None:
    if not has_pidfd():
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def pids() -> list[int]:
    """The pids that /proc lists."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read_file(path: str) -> bytes:
    """The whole file; nothing when the process has ended or hides it. Raw calls: `open` costs twice as much."""
    try:
        fd = os.open(path, os.O_RDONLY)
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


def stat_fields(line: bytes) -> list[bytes]:
    """The fields of a ``stat`` file from the third on, the state; empty for nothing.

    See proc_pid_stat(5); the name, in parentheses, may itself hold spaces and parentheses.
    """
    return line[line.rfind(b")") + 2 :].split()


def _from_proc(wanted: Iterable[int]) -> Iterable[Entry]:
    for pid in wanted:
        fields = stat_fields(read_file(f"/proc/{pid}/stat"))
        if len(fields) < 20:
            continue
        # A first thread may end before the others.
        zombie = fields[0] in (b"Z", b"X") and int(fields[17]) < 2
        status = int(fields[49]) if zombie and len(fields) > 49 and _is_ours(pid) else None
        yield Entry(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), zombie, status)


def _is_ours(pid: int) -> bool:
    """Whether the system shows us how it ended; of others it says 0."""
    try:
        return os.geteuid() in (0, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return False


def _from_ps(pids: list[int]) -> Iterable[Entry]:
    which = f"-p {','.join(map(str, pids))}" if pids else "-ax"
    with os.popen(f"LC_ALL=C TZ=UTC ps {which} -o pid= -o ppid= -o pgid= -o stat= -o lstart=") as answer:
        lines = [line.split(None, 4) for line in answer]
    for pid, ppid, group, state, start in lines:
        try:
            session = os.getsid(int(pid))
        except OSError:
            continue
        born = int(time.mktime(time.strptime(start.strip(), "%a %b %d %H:%M:%S %Y")))
        yield Entry(int(pid), int(ppid), int(group), session, born, state.startswith("Z"), None)


def _brand(pid: int) -> Mark:
    limits = read_file(f"/proc/{pid}/limits")
    at = limits.find(_BRAND_LINE)
    fields = limits[at + len(_BRAND_LINE) :].split(None, 1) if at >= 0 else []
    return "brand", fields[0].decode() if fields else ""


def variables(pid: int, prefixes: list[bytes]) -> set[Mark]:
    """The variables of its environment that begin with one of *prefixes*, as ``NAME=``, and their values."""
    found: set[Mark] = set()
    for variable in read_file(f"/proc/{pid}/environ").split(b"\0"):
        if variable.startswith(tuple(prefixes)):
            name, _, value = variable.partition(b"=")
            found.add((os.fsdecode(name), os.fsdecode(value)))
    return found
