"""Brings children into the world, many at a time: forks, notes them in the journal, gives the word, hears complaints.

What a newborn does on its side is ``birth``'s.
"""

import errno
import json
import os
import resource
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

from pmdaemon.keeper.birth import Cradle, become
from pmdaemon.keeper.cgroups import Cgroups
from pmdaemon.keeper.crash import crash_at
from pmdaemon.keeper.features import has_brand
from pmdaemon.keeper.kids import Key, Kid
from pmdaemon.keeper.lives import Lives
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.server import Reply
from pmdaemon.keeper.table import boot, read
from pmdaemon.keeper.wire import Message, Spawn

__all__ = ["Births", "Inheritance"]

_BROOD = 32  # how many are born before anything else gets its turn
_COMPLAINT = 4096
_RESERVE = 16  # files to open that are left for all else


class Inheritance(NamedTuple):
    """What the keeper found when it was started and its children shall find, though it has changed it for itself."""

    umask: int
    nofile: tuple[int, int]

    @classmethod
    def take(cls) -> "Inheritance":
        """Look at it, and change it: files are private, and as many may be open as the system lets us."""
        found = cls(os.umask(0o077), resource.getrlimit(resource.RLIMIT_NOFILE))
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (found.nofile[1], found.nofile[1]))
        return found


class _Newborn:
    """One that has been forked and is not known to have become its program."""

    def __init__(self, order: Spawn, kid: Kid) -> None:
        self.order = order
        self.kid = kid
        self.complaint = self.mouth = -1


class Births:
    """Carries out orders to start; a reply is what the daemon is told, without the number of its order."""

    def __init__(self, loop: Loop, lives: Lives, cgroups: Cgroups, inheritance: Inheritance) -> None:
        self._loop = loop
        self._lives = lives
        self._cgroups = cgroups
        self._inheritance = inheritance
        self._waiting: deque[Spawn] = deque()
        self._replies: dict[Key, list[Reply]] = {}
        self._signals = [number for number in signal.valid_signals() if _concerns_children(number)]
        self._branded = has_brand()

    @property
    def busy(self) -> bool:
        """Whether some are on their way."""
        return bool(self._replies)

    def order(self, order: Spawn, reply: Reply) -> None:
        """Start a child, unless it is there already; the reply comes when its program runs, or does not."""
        kid = self._lives.kids.get(order.key)
        if order.key in self._replies:
            self._replies[order.key].append(reply)
        elif kid is not None:
            reply(_born(kid))
        else:
            self._replies[order.key] = [reply]
            self._waiting.append(order)
            if len(self._waiting) == 1:
                self._loop.soon(self._next_brood)

    def _next_brood(self) -> None:
        orders = [self._waiting.popleft() for _ in range(min(_BROOD, len(self._waiting)))]
        # All is made ready before the first is forked: a page that is touched between two forks is copied for each.
        ready = [newborn for order in orders if (newborn := self._prepare(order))]
        with _pipe() as (go, word), _default_signals(self._signals):
            # None of them outlives this block without the word: they wait for the end of the pipe, too.
            brood = [newborn for newborn in ready if self._fork(newborn, go, word)]
            crash_at("after_fork")
            if self._note(brood):
                crash_at("after_journal")
                os.write(word, b"g" * len(brood))
                crash_at("after_go")
                for newborn in brood:
                    self._loop.watch(newborn.complaint, partial(self._hear, newborn))
        if self._waiting:
            self._loop.later(0, self._next_brood)

    def _prepare(self, order: Spawn) -> _Newborn | None:
        """Open what it will print to, and make its group; None where that is impossible, which is told."""
        brand = int.from_bytes(os.urandom(6), "little") if self._branded else None
        kid = Kid.of(order, brand=brand, cgroup=None)
        newborn = _Newborn(order, kid)
        where = "log"
        try:
            kid.outlets = self._lives.open_outlets(kid)
            where = "cgroup"
            # A name of its own: the group of one that failed goes a little later than its order may come again.
            kid.cgroup = self._cgroups.make(f"{kid.name}.{os.urandom(4).hex()}")
            where = "fork"
            newborn.complaint, newborn.mouth = os.pipe()
            self._check_room(newborn.mouth)
        except OSError as problem:
            self._stillborn(newborn, where, problem)
            return None
        return newborn

    def _fork(self, newborn: _Newborn, go: int, word: int) -> bool:
        try:
            newborn.kid.pid = os.fork()
        except OSError as problem:
            os.close(newborn.mouth)
            self._stillborn(newborn, "fork", problem)
            return False
        if not newborn.kid.pid:
            os.close(word)
            become(newborn.order, self._cradle(newborn, go))
        os.close(newborn.mouth)
        return True

    def _check_room(self, highest: int) -> None:
        """Refuse in time: with no file left to open, no process could be looked at any more. Raises OSError."""
        if highest > resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVE:
            os.close(highest)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _cradle(self, newborn: _Newborn, go: int) -> Cradle:
        kid = newborn.kid
        return Cradle(
            outputs=kid.outlets.paths if kid.outlets else {},
            cgroup=kid.cgroup,
            brand=kid.brand,
            go=go,
            complaint=newborn.mouth,
            nofile=self._inheritance.nofile,
            umask=self._inheritance.umask,
        )

    def _note(self, brood: list[_Newborn]) -> bool:
        """Put them all into the journal, or tell that none was born."""
        for newborn in brood:
            entry = read(newborn.kid.pid)
            newborn.kid.start = entry.start if entry else 0
            newborn.kid.boot = boot()
            newborn.kid.settle = partial(self._settle, newborn)
        try:
            self._lives.begin([newborn.kid for newborn in brood])
        except OSError as problem:
            for newborn in brood:
                self._stillborn(newborn, "journal", problem)
            return False
        return True

    def _hear(self, newborn: _Newborn) -> None:
        """Its end of the pipe was closed: by exec, or after a complaint."""
        self._loop.forget(newborn.complaint)
        try:
            complaint = os.read(newborn.complaint, _COMPLAINT)
        except BlockingIOError:
            complaint = b""
        os.close(newborn.complaint)
        newborn.kid.settle = None
        crash_at("before_reply")
        if complaint:
            error = json.loads(complaint)
            self._lives.stillborn(newborn.kid, error)
            self._tell(newborn.order.key, {"error": error})
        else:
            self._tell(newborn.order.key, _born(newborn.kid))

    def _settle(self, newborn: _Newborn) -> None:
        """It has ended: whether it had anything to complain of is in the pipe now, if not yet looked at.

        The pipe need not end, as another newborn may still hold it.
        """
        os.set_blocking(newborn.complaint, False)
        self._hear(newborn)

    def _stillborn(self, newborn: _Newborn, where: str, problem: OSError) -> None:
        if newborn.complaint >= 0:
            os.close(newborn.complaint)
        newborn.kid.settle = None
        words = [problem.strerror, problem.filename] if problem.filename else [problem.strerror]
        error = {"errno": problem.errno or errno.EINVAL, "where": where, "message": ": ".join(map(str, words))}
        self._lives.stillborn(newborn.kid, error)
        self._tell(newborn.order.key, {"error": error})

    def _tell(self, key: Key, reply: Message) -> None:
        for each in self._replies.pop(key):
            each(reply)


def _born(kid: Kid) -> Message:
    return {"ok": {"pid": kid.pid, "start": kid.start, "at": kid.at}}


def _concerns_children(number: int) -> bool:
    """Whether a child would find it other than it should, or act on it for the keeper until it is its program."""
    # SIGCHLD is not for those who have no children, and were it not wanted for a moment, the system would forget it.
    return number != signal.SIGCHLD and signal.getsignal(number) != signal.SIG_DFL


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def _default_signals(numbers: Sequence[int]) -> Iterator[None]:
    """As the children shall find them, so that none of them has to undo it; blocked meanwhile, so that none is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    actions = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, action in actions.items():
            signal.signal(number, action)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
