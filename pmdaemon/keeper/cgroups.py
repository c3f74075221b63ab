"""A control group for each child where one can be made: whoever is born into it cannot leave the tree unseen.

Needs version 2 and the right to write where the keeper itself is: root has it, a plain user where it was delegated.
"""

import _thread
import os
import signal
import zlib
from collections.abc import Container
from contextlib import suppress

from pmdaemon.keeper.features import allowed

__all__ = ["Cgroups", "is_empty", "join", "kill_all", "members", "place_of", "remove"]


class Cgroups:
    """Makes the groups of one home; ``base`` is the directory they are made in, None where none can be made."""

    def __init__(self, home: str) -> None:
        self.base = self._usable(home) if allowed("cgroup") else None
        self._expecting = _thread.allocate_lock()

    def make(self, name: str) -> str | None:
        """Make a group and return its path; None where there are none. Raises OSError."""
        if self.base is None:
            return None
        path = os.path.join(self.base, name)
        os.makedirs(path)  # the base too, if somebody has tidied up while it was empty
        return path

    def expect(self) -> None:
        """Have the kernel make ready for a move into a group, if somebody may be born soon.

        It waits 10 to 30 ms, a grace period of RCU, for the first move in a while, and not for the next ones. So in a
        thread the keeper is moved to where it is.
        """
        if self.base is None or not self._expecting.acquire(blocking=False):
            return
        try:
            _thread.start_new_thread(_stay, (self._expecting,))
        except _thread.error:
            self._expecting.release()

    def close(self) -> None:
        """Remove all groups in which nothing is left, and the base."""
        if self.base is not None:
            remove(self.base)

    def tidy(self, used: Container[str]) -> None:
        """Remove what a keeper that was killed has left, but for the groups that are *used*."""
        if self.base is not None:
            for path in _groups(self.base)[:0:-1]:
                if path not in used:
                    with suppress(OSError):
                        os.rmdir(path)

    def _usable(self, home: str) -> str | None:
        base = place_of(home)
        if base is None:
            return None
        with suppress(OSError):
            os.makedirs(base, exist_ok=True)
            if _try(os.path.join(base, "try")):
                return base
            os.rmdir(base)
        return None


def place_of(home: str) -> str | None:
    """Where the groups of a home are made by a process that is where the caller is; None without version 2."""
    own = _own_group()
    return own and os.path.join(own, f"pmdaemon-{zlib.crc32(os.fsencode(os.path.realpath(home))):08x}")


def join(path: str) -> None:
    """Put the calling process into a group. Raises OSError."""
    _write(path, "cgroup.procs", b"0")


def members(path: str) -> list[int]:
    """The pids in a group and in the groups made below it."""
    found: list[int] = []
    for place in _groups(path):
        with suppress(OSError), open(os.path.join(place, "cgroup.procs")) as file:
            found += map(int, file)
    return found


def is_empty(path: str) -> bool:
    """Whether nothing lives in it or below; zombies do not count."""
    try:
        with open(os.path.join(path, "cgroup.events")) as file:
            return "populated 1" not in file.read()
    except OSError:
        return True


def kill_all(path: str) -> None:
    """SIGKILL to all in it and below, with those who are being born."""
    with suppress(OSError):
        _write(path, "cgroup.kill", b"1")


def remove(path: str) -> None:
    """Remove it and what was made below, as far as nothing lives there."""
    for place in reversed(_groups(path)):
        with suppress(OSError):
            os.rmdir(place)


def _stay(busy: _thread.LockType) -> None:
    place = _own_group()
    if place is not None:
        with suppress(OSError):
            _write(place, "cgroup.procs", b"%d" % os.getpid())
    busy.release()


def _groups(path: str) -> list[str]:
    """It and all made below, each before those below it."""
    places = [path]
    for place in places:  # grows while it is walked
        with suppress(OSError):
            if os.stat(place).st_nlink > 2:  # else there are none, as is usual
                places += [entry.path for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
    return places


def _write(path: str, name: str, value: bytes) -> None:
    fd = os.open(os.path.join(path, name), os.O_WRONLY)
    try:
        os.write(fd, value)
    finally:
        os.close(fd)


def _own_group() -> str | None:
    """The directory of the group the keeper is in."""
    try:
        with open("/proc/self/mounts") as file:
            mounts = [line.split() for line in file]
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    mount = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    group = next((path for number, _, path in groups if number == "0"), None)
    return os.path.join(mount, group.lstrip("/")) if mount and group else None


def _try(path: str) -> bool:
    """Whether a process can be put into a group that is made here, and be killed with it."""
    with suppress(FileExistsError):
        os.mkdir(path)
    pid = os.fork()
    if not pid:
        try:
            join(path)
            _write(path, "cgroup.kill", b"1")
            signal.pause()
        finally:
            os._exit(1)
    killed = os.waitpid(pid, 0)[1] == signal.SIGKILL
    remove(path)
    return killed
