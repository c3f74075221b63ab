"""What a newborn process does before it becomes the program it was ordered to be. All here runs in the child.

It prepares itself while the keeper notes its existence, and waits for the word to go on: if the keeper dies before,
so does it.
"""

import errno
import json
import os
import resource
import signal
from typing import NamedTuple, NoReturn

from pmdaemon.keeper import cgroups
from pmdaemon.keeper.features import BRAND
from pmdaemon.keeper.identity import NoSuchAccount, Owner, owner_of
from pmdaemon.keeper.wire import Spawn

__all__ = ["Cradle", "become"]

_FORSAKEN = 125  # exit code of one whose keeper died before the word
_FAILED = 127
_FDS = 1 << 16
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class Cradle(NamedTuple):
    """What the keeper gives one child: pipes by descriptor, marks, the pipe of the word, and one for a complaint.

    ``nofile`` and ``umask`` are as the keeper found them. It comes with the keeper's signals blocked.
    """

    outputs: dict[int, str]
    cgroup: str | None
    brand: int | None
    go: int
    complaint: int
    nofile: tuple[int, int]
    umask: int


class _Refused(Exception):
    """It cannot become what was ordered, and no number of the system says why."""


def become(order: Spawn, cradle: Cradle) -> NoReturn:
    """Become the program, or say why not: an object with ``errno``, ``where`` and ``message``."""
    newborn = _Newborn(order, cradle)
    try:
        newborn.prepare()
        if not os.read(cradle.go, 1):
            os._exit(_FORSAKEN)
        newborn.execute()
    except BaseException as problem:  # whatever it is: nothing may return into the copy of our parent
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.write(cradle.complaint, json.dumps(_complaint(newborn.where, problem)).encode())
    finally:
        os._exit(_FAILED)


class _Newborn:
    def __init__(self, order: Spawn, cradle: Cradle) -> None:
        self._order = order
        self._cradle = cradle
        self.where = "start"

    def prepare(self) -> None:
        """All that can be done before the word. Each step may need what the next gives away."""
        self._let_go()
        os.setsid()
        if self._cradle.cgroup is not None:
            self.where = "cgroup"
            cgroups.join(self._cradle.cgroup)
        self.where = "user"
        owner = owner_of(self._order.user, self._order.group, self._order.groups)
        self._redirect(owner)
        self.where = "nice"
        if self._order.nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, self._order.nice)
        self.where = "rlimits"
        self._limit()
        self.where = "user"
        if owner is not None:
            _become(owner)
        self.where = "umask"
        os.umask(self._cradle.umask if self._order.umask is None else self._order.umask)
        self.where = "cwd"
        os.chdir(self._order.cwd)

    def execute(self) -> NoReturn:
        """Become the program, found in the PATH of its own environment."""
        self.where = "exec"
        name, value = self._order.cookie
        env = {**self._order.env, name: value}
        refusal: OSError | None = None
        for path in _candidates(self._order.executable or self._order.argv[0], env):
            try:
                os.execve(path, self._order.argv, env)
            except OSError as problem:
                # One that is there and cannot be run is more worth telling than that others are not there.
                if refusal is None or refusal.errno in _ABSENT:
                    refusal = problem
        raise refusal or _Refused("PATH names no directory")

    def _let_go(self) -> None:
        """Nothing of the keeper's is the child's: not its lock, above all, while this one waits."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        first, second = sorted((self._cradle.go, self._cradle.complaint))
        for low, high in ((3, first), (first + 1, second), (second + 1, _FDS)):
            os.closerange(low, high)

    def _redirect(self, owner: Owner | None) -> None:
        sources = {0: os.devnull, 1: os.devnull, 2: os.devnull, **self._cradle.outputs}
        for target, path in sources.items():
            self.where = "log"
            # Also to read, so that it gets no SIGPIPE when the keeper is killed.
            fd = os.open(path, os.O_RDWR)
            if owner is not None and target in self._cradle.outputs:
                self.where = "user"
                os.fchown(fd, owner.uid, -1)  # so that it may open /dev/stdout
            os.dup2(fd, target)
            os.close(fd)

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._cradle.nofile)
        if self._cradle.brand is not None:
            resource.setrlimit(BRAND, (self._cradle.brand, resource.RLIM_INFINITY))
        for name, limits in self._order.rlimits.items():
            number = getattr(resource, f"RLIMIT_{name.upper()}", None)
            if number is None:
                raise _Refused(f"no such limit {name!r}")
            resource.setrlimit(number, limits)


def _candidates(program: str, env: dict[str, str]) -> list[str]:
    """The files to try. Not by `os.execvpe`, which imports what costs more than all else here."""
    if os.path.dirname(program):
        return [program]
    return [os.path.join(place, program) for place in env.get("PATH", os.defpath).split(os.pathsep)]


def _become(owner: Owner) -> None:
    os.setgroups(owner.groups)
    os.setgid(owner.gid)
    os.setuid(owner.uid)


def _complaint(where: str, problem: BaseException) -> dict[str, object]:
    if isinstance(problem, NoSuchAccount):
        return {"errno": 0, "where": where, "message": problem.reason}
    number = problem.errno if isinstance(problem, OSError) else None
    if number is None:
        return {"errno": 0 if isinstance(problem, _Refused) else errno.EINVAL, "where": where, "message": str(problem)}
    return {"errno": number, "where": where, "message": os.strerror(number)}
