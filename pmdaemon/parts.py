"""The parts of one daemon, made and joined. What starts and stops them is ``service``; nothing is decided here."""

import os
import random
import resource
import time
from functools import partial
from typing import Any

from twisted.logger import Logger

from pmdaemon.core.events import Event
from pmdaemon.core.ports import PortPool
from pmdaemon.daemon.actions import Actions
from pmdaemon.daemon.adoption import Adoption
from pmdaemon.daemon.audit import Audit
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.checker import Prober
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.crashes import Crashes
from pmdaemon.daemon.describe import Describer
from pmdaemon.daemon.dispatch import Dispatcher
from pmdaemon.daemon.flushing import flush_files, flush_kept
from pmdaemon.daemon.history import History
from pmdaemon.daemon.home import Home
from pmdaemon.daemon.ids import Sequence
from pmdaemon.daemon.invocation import inherited
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.keeperlaunch import launch_keeper, socket_path
from pmdaemon.daemon.keeperlink import KeeperLink
from pmdaemon.daemon.kept import Birth, Keeping, Kept
from pmdaemon.daemon.launcher import Launcher
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.logtrouble import LogTrouble
from pmdaemon.daemon.means import Means
from pmdaemon.daemon.memory import MemoryLimits
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.portcheck import is_free
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.questions import Questions
from pmdaemon.daemon.recovery import Recovery
from pmdaemon.daemon.sampler import Sampler
from pmdaemon.daemon.spawn import SpawnError, spawn
from pmdaemon.daemon.store import Store
from pmdaemon.daemon.strays import Strays
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.options import Options
from pmdaemon.protocol.codec import encode
from pmdaemon.tokens import TokenFile
from pmdaemon.web.catchup import Archive
from pmdaemon.web.channels import Channels
from pmdaemon.web.credentials import Credentials
from pmdaemon.web.guard import Guard
from pmdaemon.web.limits import FailedLogins, raise_descriptor_limit
from pmdaemon.web.websocket import DaemonSocketFactory

__all__ = ["Parts"]


class Parts:
    """Everything a daemon of *home* is made of, none of it running yet.

    ``nofile`` are the soft and the hard limit of descriptors that were found, which the children get.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, home: Home, store: Store, *, umask: int, keeper: bool, log_cap: int | None
    ) -> None:
        self.reactor = reactor
        self.home = home
        self.store = store
        self.journal = Journal(store)
        self.bus = EventBus(
            reactor,
            now=time.time,
            sequence=Sequence(store.epoch),
            journal=self.journal,
            commit=self._commit,
            encode=_encode,
        )
        store.written = self.bus.soon
        self.rebuilt = [process.id for process in store.processes()] if store.fresh else []
        self.logs = Logs(reactor, self.bus, self.journal, home.logs, time.time, writes=not keeper)
        self.supervisor = Supervisor(store, self.logs, cores=os.cpu_count() or 1, now=time.time, keeper=keeper)
        self.recovery = Recovery(reactor, store, self.supervisor, self.journal, self.bus)
        self.sampler = Sampler(reactor, self.supervisor.roots)
        # Some are held for each child and each client; the keeper, and so the children, get the limit that was found.
        found, _ = raise_descriptor_limit()
        self.nofile = found, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.keeping = self._keeping(log_cap) if keeper else None
        self.supervisor.means = self._means(umask)
        self.describer = Describer(
            self.supervisor,
            self.logs,
            self.sampler,
            now=time.time,
            clients=lambda: len(self.factory.connections),
            trouble=lambda: store.trouble,
        )
        flush = flush_files if self.keeping is None else partial(flush_kept, self.keeping.link.order)
        operations = Operations(self.supervisor, reactor, flush)
        actions = Actions(self.supervisor, operations, base=os.getcwd())
        self.channels = Channels(
            stamp=self.bus.stamp,
            settle=self.bus.flush,
            sampler=self.sampler,
            measure=self.describer.metrics,
            follow_logs=self.logs.follow,
        )
        self.logs.wants = self.channels.wants_log
        self.bus.add(self.channels)
        questions = self._questions()
        self.factory = DaemonSocketFactory(
            reactor,
            bus=self.bus,
            dispatcher=Dispatcher(
                self.supervisor,
                actions,
                self.describer,
                Audit(home.audit, time.time),
                reactor,
                questions.answers,
                remembered=self._remembered,
            ),
            describer=self.describer,
            channels=self.channels,
            archive=Archive(self.supervisor, self.logs, self.journal, self.bus),
        )
        self.tokens = TokenFile(home.tokens, time.time)

    def _keeping(self, log_cap: int | None) -> Keeping:
        self._home_fd = os.open(self.home.path, os.O_PATH | os.O_CLOEXEC) if hasattr(os, "O_PATH") else -1
        link = partial(
            KeeperLink,
            self.reactor,
            socket_path(self.home.path, self._home_fd),
            launch=partial(launch_keeper, self.home.path, self.nofile),
            ahead=self.store.commit,
        )
        return Keeping(
            lambda fact, again: link(fact=fact, again=again),
            grown=self.logs.grown,
            as_of=self.bus.as_of,
            pipes=self.home.path / "fifo",
            total=log_cap,
            other=LogTrouble(self.supervisor, self.bus.now).told,
        )

    def _questions(self) -> Questions:
        self.history = History(self.reactor, self.sampler, now=time.time, uptimes=self.supervisor.uptimes)
        self.sampler.watched = self.history.watched
        find, begun = self.supervisor.processes.get, self.launcher.begun
        crashes = Crashes(self.store, self.logs, self.history, find=find, begun=begun)
        for sink in (self.history, crashes):
            self.bus.add(sink)
        return Questions(
            self.reactor, self.supervisor, self.bus, self.journal, self.logs, crashes=crashes, history=self.history
        )

    def _commit(self) -> None:
        """Before anybody is told: make last what was done, and let the keeper have its orders."""
        self.store.commit()
        if self.keeping is not None:
            self.keeping.link.flush()

    def _remembered(self) -> str | None:
        """Make last what was done; return why that is impossible, if it is."""
        self.bus.flush()
        return self.store.trouble

    def _means(self, umask: int) -> Means:
        launcher = self.launcher = Launcher(
            self.reactor,
            spawn=partial(_spawn_own, self.reactor, self.nofile) if self.keeping is None else self.keeping.spawn,
            prober=Prober(self.reactor, umask=umask),
            ports=PortPool(is_free),
            logs=self.logs,
            inherited=inherited(os.environ),
            run=self.home.run,
            public_run=self.home.public_run,
            incarnation=self.store.new_incarnation,
            umask=umask,
        )
        limits = MemoryLimits(self.reactor, self.sampler)

        def changed(process: Process) -> None:
            self.supervisor.save(process)
            limits.changed(process)

        return Means(
            clock=self.reactor,
            now=time.time,
            random=random.random,
            bus=self.bus,
            spawn=launcher.spawn,
            watch=launcher.watch,
            wrote=launcher.wrote,
            gone=launcher.gone,
            changed=changed,
            last_lines=launcher.last_lines,
        )

    async def adopt(self) -> None:
        """Take up the children that the keeper has, as soon as there is one, and end others. Raises KeeperError."""
        if self.keeping is not None:
            state = await self.keeping.connect()
            known = [(int(kid["id"]), int(kid["inc"])) for kid in state["kids"] if kid["id"].isdecimal()]
            self.store.reserve(*(max(numbers) for numbers in zip(*known, (-1, -1), strict=True)))
            Adoption(self.supervisor, self.keeping, self.launcher, self.logs).take_up(Kept.all_of(state))
            self.keeping.tell_troubles(state)
        await Strays(self.reactor, str(self.home.path)).end(self.supervisor.processes.values())
        self._tell_rebuilt()

    async def reopen_logs(self) -> list[str]:
        """Begin another file for each log that was moved away; return which cannot be. Raises KeeperError."""
        return self.logs.reopen() if self.keeping is None else await self.keeping.reopen()

    def _tell_rebuilt(self) -> None:
        """Say that the state was gone, and of which processes that is known all the same."""
        aside = None if self.store.set_aside is None else str(self.store.set_aside)
        if aside is not None:
            self.log.critical(
                "the state {path} was damaged ({damage}) and is kept as {aside}; {count} processes are known from what "
                "can be read of it and from the keeper",
                path=str(self.store.path),
                damage=self.store.damage,
                aside=aside,
                count=len(self.rebuilt),
            )
        elif self.rebuilt:
            self.log.critical(
                "there was no state {path}; the {count} processes that the keeper runs are known from it",
                path=str(self.store.path),
                count=len(self.rebuilt),
            )
        for id_ in self.rebuilt:
            if id_ in self.supervisor.processes:
                self.supervisor.processes[id_].tell("rebuilt", {"damage": self.store.damage, "set_aside": aside})

    def guard(self, options: Options) -> Guard:
        """Make the guard of this daemon's home."""
        credentials = Credentials(self.tokens, time.time, api_key=options["api_key"], jwt_key=options["jwt_key"])
        return Guard(
            options["places"],
            credentials,
            FailedLogins(self.reactor),
            own=os.geteuid(),
            read_only=bool(options["read-only"]),
        )


def _spawn_own(
    reactor: Any, nofile: tuple[int, int], child: Child, argv: list[str], *, birth: Birth, failed: object, **how: Any
) -> Any:
    """Start a child of the daemon itself; whether that succeeds is known at once. Raises SpawnError."""
    if {"user", "group"} & birth.rights.keys():  # kept from when there was a keeper; never as ourselves instead
        raise SpawnError("to run it as another user needs the keeper", 0)
    return spawn(reactor, child, argv, umask=birth.rights["umask"], nofile=nofile, **how)


def _encode(event: Event, id_: str, at: float) -> bytes:
    return encode(event.type, event, id=id_, at=at)
