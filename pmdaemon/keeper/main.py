"""Puts a keeper together, takes over from the one before it, and runs it until nobody needs it."""

import fcntl
import os
import signal
import socket
import sys
import time
from contextlib import suppress

from pmdaemon.keeper.births import Births, Inheritance
from pmdaemon.keeper.cgroups import Cgroups
from pmdaemon.keeper.crash import crash_at
from pmdaemon.keeper.features import summary
from pmdaemon.keeper.housekeeper import Housekeeper
from pmdaemon.keeper.journal import Journal
from pmdaemon.keeper.kids import Kid, remember
from pmdaemon.keeper.lives import Lives
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.orders import Orders
from pmdaemon.keeper.outlets import Outlets, Shelf
from pmdaemon.keeper.ownlog import OwnLog
from pmdaemon.keeper.reaper import Orphans, Reaper
from pmdaemon.keeper.remains import Remains
from pmdaemon.keeper.server import Reply, Server
from pmdaemon.keeper.table import boot, read
from pmdaemon.keeper.upgrade import Handover, Succession, command, patience, replace
from pmdaemon.keeper.wire import Message

__all__ = ["LOCKED", "main"]

LOCKED = 75
"""Exit code where another keeper has the home."""

_SOCKET = "keeper.sock"
_CAPPED = 1.0  # seconds
_IDLE = 60.0  # seconds without a daemon and without a child, after which nobody needs a keeper


class _Keeper:
    """One life of a keeper; ``run`` returns when nobody needs it any more."""

    def __init__(self, home: str, handover: Handover, log: OwnLog) -> None:
        self._handover = handover
        self._inherited = dict(handover.pipes)
        self._unneeded = False
        self._pipes = os.path.join(home, "fifo")
        os.makedirs(self._pipes, 0o700, exist_ok=True)
        journal = Journal(os.path.join(home, "keeper.jsonl"))
        self._housekeeper = Housekeeper(os.path.join(home, "logs"), say=log.write)
        self._cgroups = Cgroups(home)
        self._loop = Loop()
        self._server = Server(self._loop, socket.socket(fileno=os.dup(handover.listening)), self._execute)
        self._shelf = Shelf(self._server.grown, self._housekeeper.look, private=os.path.join(home, "logs"))
        self._lives = Lives(
            self._loop, journal, tell=self._server.tell, open_outlets=self._open_outlets, note=log.write
        )
        self._remains = Remains(self._loop, gone=self._lives.gone, note=log.write)
        self._lives.left = self._left
        self._succession = Succession(self._loop, command(home), depart=self._depart, note=log.write)
        self._reaper = Reaper(self._loop, self._reaped)
        self._orphans = Orphans(self._loop, self._lives.ended)
        self._loop.on_signal(signal.SIGTERM, self._leave)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        # After it has been settled what is done about which signal.
        inheritance = Inheritance(handover.umask, handover.nofile)
        self._births = Births(self._loop, self._lives, self._cgroups, inheritance)
        self._orders = Orders(
            lives=self._lives,
            births=self._births,
            remains=self._remains,
            shelf=self._shelf,
            features=summary(cgroup=self._cgroups.base is not None),
            set_total=lambda total: self._housekeeper.set_total(total, self._shelf),
            upgrade=self._succession.order,
            quit=self._quit,
        )
        self._adopt(journal)
        self._loop.last = self._server.flush
        self._tell_capped()
        self._idle()

    def run(self) -> None:
        """Look after the children."""
        self._loop.run()

    def hang_up(self) -> Handover:
        """Send what is due, end all connections, and return what the next life needs of this one."""
        outlets = [kid.outlets for kid in self._lives.kids.values() if kid.outlets]
        with suppress(Exception):  # whatever the defect has spoilt, the next life is more important
            self._server.close()
        return self._handover._replace(pipes={name: fd for each in outlets for name, fd in each.pipes.items()})

    # Those who are there already

    def _adopt(self, journal: Journal) -> None:
        crash_at("adopt")
        for kid in remember(journal.replay()).values():
            self._take_in(kid)
        with suppress(OSError):  # the old one will do
            self._lives.compact()
        names = {f"{kid.name}.{fd}" for kid in self._lives.kids.values() for fd in kid.logs}
        for name in set(os.listdir(self._pipes)) - names:
            os.unlink(os.path.join(self._pipes, name))
        self._cgroups.tidy({kid.cgroup for kid in self._lives.kids.values() if kid.cgroup})
        self._loop.soon(self._reaper.reap)

    def _take_in(self, kid: Kid) -> None:
        unread = any(f"{kid.name}.{fd}" in self._inherited for fd in kid.logs)
        if kid.gone and kid.acked and not unread:
            return
        entry = read(kid.pid) if kid.boot == boot() else None
        kid.seen = entry is not None and entry.start == kid.start
        kid.own = kid.seen and entry is not None and entry.ppid == os.getpid()
        self._lives.adopt(kid)
        if unread or (kid.boot == boot() and not kid.gone):
            self._lives.reopen(kid)
        if kid.alive and not kid.seen:
            self._orphans.lost(kid)
        elif kid.alive and not kid.own:
            self._orphans.watch(kid)
        elif not kid.alive and not kid.gone:
            self._left(kid)

    def _open_outlets(self, kid: Kid) -> Outlets:
        return Outlets(kid, self._pipes, self._shelf, self._loop, self._inherited)

    # What happens

    def _execute(self, order: Message, reply: Reply) -> None:
        self._orders.execute(order, reply)

    def _tell_capped(self) -> None:
        """Tell what the housekeeper had to delete, whose thread tells nobody."""
        for path, size in self._housekeeper.news().items():
            self._server.tell({"ev": "capped", "path": path, "bytes": size})
        self._loop.later(_CAPPED, self._tell_capped)

    def _reaped(self, pid: int, status: int) -> bool:
        return self._succession.reaped(pid, status) or self._lives.reaped(pid, status)

    def _left(self, kid: Kid) -> None:
        if not kid.asked:
            self._cgroups.expect()  # the daemon may want another in its place
        if kid.boot == boot():
            self._remains.left(kid)
        else:
            self._lives.gone(kid)

    def _idle(self) -> None:
        """End when nobody has needed it for a while: a daemon that comes later starts another.

        Where nobody can come any more, the home being deleted, it is needed only while something of a child is left.
        """
        reachable = os.path.lexists(_SOCKET)
        needed = any(reachable or not kid.gone for kid in self._lives.kids.values())
        unneeded = self._server.alone and not needed and not self._births.busy
        if unneeded and self._unneeded:
            self._quit()
        self._unneeded = unneeded
        self._loop.later(_IDLE, self._idle)

    def _leave(self) -> None:
        """Told to end by somebody who does not know: when nothing is left of any child, so that none is left alone."""
        if self._births.busy or any(not kid.gone for kid in self._lives.kids.values()):
            self._loop.later(1.0, self._leave)
        else:
            self._quit()

    def _quit(self) -> None:
        with suppress(OSError):
            os.unlink(_SOCKET)
        self._cgroups.close()
        self._loop.running = False

    def _depart(self, argv: list[str]) -> bool:
        """Become the next keeper; False as long as that has to wait."""
        if self._births.busy:
            return False
        replace(argv, self.hang_up())
        return True


def main(argv: list[str]) -> int:
    """Run a keeper for the home that is named; returns its exit code."""
    if "--check" in argv:
        return 0  # all of it could be imported
    home = os.path.abspath(argv[0])
    handover = Handover.read(int(argv[2])) if argv[1:2] == ["--inherit"] else _begin(home)
    if handover is None:
        return LOCKED
    log = OwnLog(os.path.join(home, "keeper.log"))
    keeper = None
    while True:
        try:
            keeper = keeper or _Keeper(home, handover, log)
            keeper.run()
            return 0
        except Exception:  # a defect, whatever it is: the children stay, and the next life begins from the journal
            handover = _recover(home, keeper, handover, log)


def _recover(home: str, keeper: _Keeper | None, handover: Handover, log: OwnLog) -> Handover:
    """Begin the next life; returns only where even that cannot be done."""
    import traceback  # costly, and hopefully never needed

    log.write(f"a defect: {traceback.format_exc()}")
    if keeper is not None:
        handover = keeper.hang_up()
    now = time.monotonic()
    handover = handover._replace(faults=[*handover.faults[-20:], now])
    time.sleep(patience(handover.faults, now))
    try:
        replace(command(home), handover)
    except OSError as problem:
        log.write(f"cannot begin anew: {problem}")
    return handover


def _begin(home: str) -> Handover | None:
    """Take hold of a home; None where another keeper has it. Raises OSError."""
    for fd in range(3):
        with suppress(OSError):
            os.fstat(fd)
            continue
        os.open(os.devnull, os.O_RDWR)
    with suppress(OSError):
        os.setsid()
    inheritance = Inheritance.take()
    os.makedirs(home, 0o700, exist_ok=True)
    os.chdir(home)  # as the path of a socket may not be long
    lock = os.open("keeper.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode().strip()
        print(f"cannot keep {home}: another keeper does, with pid {holder}", file=sys.stderr)
        return None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    with suppress(FileNotFoundError):
        os.unlink(_SOCKET)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(_SOCKET)
    os.chmod(_SOCKET, 0o600)
    listening.listen(16)
    return Handover(lock, listening.detach(), {}, inheritance.umask, inheritance.nofile, [])
