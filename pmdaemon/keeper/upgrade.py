"""The keeper replaces itself, ordered to or after a defect: by the same pid, so that the children stay its own.

Handed over are what a file cannot hold: the lock, the socket, the pipes with what is in them. The rest is in the
journal.
"""

import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.server import Reply

__all__ = ["FLAGS", "MAIN", "Handover", "Succession", "command", "patience", "replace"]

FLAGS = ("-S", "-E", "-s", "-u", "-X", "utf8")
"""Without site-packages, whose import would double what the process takes."""
MAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")

_IGNORED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_RECENT = 60.0  # seconds in which defects count as the same
_WAIT = 0.01  # seconds between looks whether all births are over
_LONGEST = 10.0  # seconds to wait before yet another life


class Handover(NamedTuple):
    """What one life of the keeper leaves to the next; ``faults`` are the times of its defects, in monotonic seconds."""

    lock: int
    listening: int
    pipes: Mapping[str, int]
    umask: int
    nofile: tuple[int, int]
    faults: list[float]

    @classmethod
    def read(cls, fd: int) -> "Handover":
        """Take it over from the descriptor that `replace` named."""
        size = os.fstat(fd).st_size
        values = json.loads(os.pread(fd, size, 0))
        os.close(fd)
        handover = cls(**values)._replace(nofile=tuple(values["nofile"]))
        for each in handover.fds:
            os.set_inheritable(each, False)
        return handover

    @property
    def fds(self) -> list[int]:
        """All descriptors in it."""
        return [self.lock, self.listening, *self.pipes.values()]


def command(home: str, *more: str) -> list[str]:
    """Return the command that runs a keeper for this home."""
    return [sys.executable, *FLAGS, MAIN, home, *more]


def replace(argv: list[str], handover: Handover) -> None:
    """Become ``argv`` with a word where the handover is. Returns only by OSError, with all as it was."""
    handover = handover._replace(pipes={name: fd for name, fd in handover.pipes.items() if _is_pipe(fd)})
    note = _put(json.dumps(handover._asdict()).encode())
    fds = [*handover.fds, note]
    # Until the next life does something about them.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _IGNORED}
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        os.execv(argv[0], [*argv, "--inherit", str(note)])
    finally:
        for number, was in before.items():
            signal.signal(number, was)
        _keep(handover.fds)
        os.close(note)


def patience(faults: Iterable[float], now: float) -> float:
    """How long to wait, in seconds, before a next life, after defects at these times: not at all after the first."""
    recent = [fault for fault in faults if fault > now - _RECENT]
    return min(_LONGEST, 0.1 * 2 ** len(recent)) if len(recent) > 1 else 0.0


class Succession:
    """Sees to an ordered upgrade: that the new code can run at all, and that it takes over when that can be.

    ``depart`` becomes the next keeper, returns False as long as that has to wait, and raises OSError.
    """

    def __init__(
        self, loop: Loop, argv: list[str], *, depart: Callable[[list[str]], bool], note: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._command = self._argv = argv
        self._depart = depart
        self._note = note
        self._trial = 0
        self._reply: Reply | None = None

    def order(self, argv: list[str] | None, reply: Reply) -> None:
        """Become the keeper that ``argv`` runs, or the same command; the reply comes just before, or says why not."""
        if self._reply is not None:
            reply({"error": "busy"})
            return
        argv = argv or self._command
        try:
            self._trial = os.posix_spawn(argv[0], [*argv, "--check"], os.environ)
        except OSError as problem:
            reply({"error": f"cannot run {argv[0]}: {problem.strerror}"})
            return
        self._argv, self._reply = argv, reply

    def reaped(self, pid: int, status: int) -> bool:
        """A child of the keeper has ended; returns whether it was ours."""
        if pid != self._trial or self._reply is None:
            return False
        self._trial = 0
        if status:
            self._reply({"error": f"{' '.join(self._argv)} --check has failed"})
            self._reply = None
        else:
            self._reply({"ok": {}})
            self._loop.later(0, self._try)
        return True

    def _try(self) -> None:
        try:
            if self._depart(self._argv):
                return
        except OSError as problem:
            self._note(f"cannot become {self._argv}: {problem}")
            self._reply = None
            return
        self._loop.later(_WAIT, self._try)


def _is_pipe(fd: int) -> bool:
    """Whether it is one still: a life that failed early may have closed it."""
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False


def _keep(fds: Iterable[int]) -> None:
    for fd in fds:
        os.set_inheritable(fd, False)


def _put(data: bytes) -> int:
    """Put it where a descriptor leads, and no disk that may be full is needed."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("handover")
    else:
        import tempfile  # elsewhere than on Linux, and costly

        fd, path = tempfile.mkstemp()
        os.unlink(path)
    os.pwrite(fd, data, 0)
    return fd
