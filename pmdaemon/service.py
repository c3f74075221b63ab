"""The composition root: what twistd runs, and the one place where the parts are made and joined.

Nothing is decided here. Whatever can go wrong at the start goes wrong before twistd puts itself in the background, and
ends it with one line.
"""

# mypy: disallow-untyped-calls=False
# (twisted.application has few annotations)

import os
import random
import resource
import signal
import socket
import sys
import time
from functools import partial
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

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
from pmdaemon.daemon.keeperlink import KeeperError, KeeperLink
from pmdaemon.daemon.kept import Birth, Keeping, Kept
from pmdaemon.daemon.launcher import Launcher
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.means import Means
from pmdaemon.daemon.memory import MemoryLimits
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.portcheck import is_free
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.questions import Questions
from pmdaemon.daemon.sampler import Sampler
from pmdaemon.daemon.spawn import spawn
from pmdaemon.daemon.store import Store
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.daemon.systemd import Systemd
from pmdaemon.options import REFUSALS, Options, names_of, refuse
from pmdaemon.protocol.codec import encode
from pmdaemon.tokens import TokenFile, TokenFileError
from pmdaemon.web.arrival import Arrivals
from pmdaemon.web.catchup import Archive
from pmdaemon.web.channels import Channels
from pmdaemon.web.credentials import Credentials
from pmdaemon.web.guard import Guard
from pmdaemon.web.limits import MAX_PER_SOURCE, RESERVED, Connections, FailedLogins, raise_descriptor_limit
from pmdaemon.web.listen import LOOPBACKS, bind, bind_unix
from pmdaemon.web.peer import Peers
from pmdaemon.web.site import build_site
from pmdaemon.web.tls import secured
from pmdaemon.web.websocket import DaemonSocketFactory

__all__ = ["Daemon", "Options", "makeService"]

_GOODBYE = 1.0
"""Seconds that clients have to answer the close at the end."""

_SAVE_USES = 60.0
"""Seconds between the times at which is written down when tokens were last used."""


def makeService(options: Options) -> "Daemon":
    """Make the daemon with its port bound and its state read; SystemExit with one line where that fails."""
    from twisted.internet import reactor  # the one place; installed only when twistd has chosen it

    home: Home = options["claimed"]
    try:
        store = Store(home.state)
        daemon = Daemon(reactor, home, store, umask=options["umask"], keeper=not options["no-keeper"])
        daemon.supervisor.load()
        if options["config"]:
            daemon.supervisor.configure(options["apps"], os.path.abspath(options["config"]))
        hosts = [options["host"]] if options["host"] else LOOPBACKS
        sockets, missing = bind(hosts, options["port"])
        private = bind_unix(home.socket)
    except REFUSALS as why:
        refuse(why)
    store.close()
    site = build_site(reactor, daemon.guard(options), _arrivals(), daemon.factory, options["www"])
    tls = options["tls"]
    public = site if tls is None else secured(site, tls, reactor)
    scheme = "http" if tls is None else "https"
    name = next(iter(names_of(options["host"])), "localhost")
    url = f"{scheme}://{name}:{sockets[0].getsockname()[1]}/"
    daemon.listen_on([*((each, public) for each in sockets), (private, site)], missing, url)
    return daemon


def _arrivals() -> Arrivals:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Arrivals(Peers().of, Connections(os.geteuid(), max(MAX_PER_SOURCE, descriptors - RESERVED)))


class Daemon(Service):
    """The parts of one daemon, joined, and the order in which they start and stop."""

    log = Logger()

    def __init__(self, reactor: Any, home: Home, store: Store, *, umask: int, keeper: bool) -> None:
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
        self.logs = Logs(reactor, self.bus, self.journal, home.logs, time.time, writes=not keeper)
        self.supervisor = Supervisor(store, self.logs, cores=os.cpu_count() or 1, now=time.time, keeper=keeper)
        self.sampler = Sampler(reactor, self.supervisor.roots)
        self.keeping = self._keeping() if keeper else None
        self.supervisor.means = self._means(umask)
        self.describer = Describer(
            self.supervisor, self.logs, self.sampler, now=time.time, clients=lambda: len(self.factory.connections)
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
            ),
            describer=self.describer,
            channels=self.channels,
            archive=Archive(self.supervisor, self.logs, self.journal, self.bus),
        )
        self.tokens = TokenFile(home.tokens, time.time)
        self._saving = LoopingCall(self._save_uses)
        self._saving.clock = reactor
        self._served: list[tuple[socket.socket, Any]] = []
        self._ports: list[Any] = []
        self._replacing = False
        self.systemd = Systemd(reactor, os.environ)
        self._umask = umask

    def _keeping(self) -> Keeping:
        # Some are held for each child; the keeper, and so the children, get the limit that was found.
        found, _ = raise_descriptor_limit()
        self._nofile = found, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self._home_fd = os.open(self.home.path, os.O_PATH | os.O_CLOEXEC) if hasattr(os, "O_PATH") else -1
        link = partial(
            KeeperLink,
            self.reactor,
            socket_path(self.home.path, self._home_fd),
            launch=partial(launch_keeper, self.home.path, self._nofile),
            ahead=self.store.commit,
        )
        return Keeping(
            lambda fact, again: link(fact=fact, again=again),
            grown=self.logs.grown,
            as_of=self.bus.as_of,
            pipes=self.home.path / "fifo",
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

    def _means(self, umask: int) -> Means:
        launcher = self.launcher = Launcher(
            self.reactor,
            spawn=partial(spawn_own, self.reactor) if self.keeping is None else self.keeping.spawn,
            prober=Prober(self.reactor, umask=umask),
            ports=PortPool(is_free),
            logs=self.logs,
            inherited=inherited(os.environ),
            run=self.home.run,
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

    def listen_on(self, served: list[tuple[socket.socket, Any]], missing: list[str], url: str) -> None:
        """Serve each socket's site from the start on; *missing* are addresses that this machine does not have."""
        self._served = served
        self._missing = missing
        self._url = url

    def _save_uses(self) -> None:
        """Write down when tokens were last used."""
        try:
            self.tokens.save_uses()
        except TokenFileError as why:
            self.log.warn("{why}", why=str(why))

    def startService(self) -> None:
        """Take up in this process, perhaps forked meanwhile, what was made ready; the reactor starts the rest."""
        super().startService()
        self.home.sign()
        self.store.reopen()
        self._catch_signals()
        self.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        """Announce the daemon only now that a signal ends it in order: the reactor has set its own handlers before."""
        self._catch_signals()
        Deferred.fromCoroutine(self._take_up()).addErrback(self._cannot_begin)

    async def _take_up(self) -> None:
        """Take up the children that are there already, then listen, then start what is missing."""
        if self.keeping is not None:
            kids = Kept.all_of(await self.keeping.link.connect())
            Adoption(self.supervisor, self.keeping, self.launcher, self.logs).take_up(kids)
        if not self.running:
            return
        for each, site in self._served:
            self._ports.append(self.reactor.adoptStreamPort(each.fileno(), each.family, site))
            each.close()
        self.home.socket.chmod(0o600)  # Twisted gives it a mode of its own
        self._saving.start(_SAVE_USES, now=False)
        self._announce()
        self.history.start()
        self.systemd.ready(os.getpid())
        self.supervisor.start()

    def _cannot_begin(self, failure: Failure) -> None:
        """End with a line and an exit code where there is no keeper to be had."""
        if failure.check(KeeperError):
            self.log.critical("{why}", why=str(failure.value))
        else:
            self.log.failure("cannot begin", failure)
        self.reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self._stop_reactor()

    def _announce(self) -> None:
        for host in self._missing:
            self.log.warn("there is no {host} on this machine, listening without it", host=host)
        for port in self._ports:
            host = getattr(port.getHost(), "host", "127.0.0.1")  # a Unix socket has none
            if self._url.startswith("http:") and not ip_address(host.partition("%")[0]).is_loopback:
                self.log.warn("listening on {host} without TLS: tokens can be read on their way", host=host)
        self.log.info("PMDaemon listens on {url} with home {home}", url=self._url, home=str(self.home.path))

    def _catch_signals(self) -> None:
        """Twisted's own handlers would end the process by the signal that it got; ours end it with 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: self.reactor.callFromThread(self._stop_reactor))
        signal.signal(signal.SIGUSR2, lambda *_: self.reactor.callFromThread(self._replace))

    def _replace(self) -> None:
        """Leave the children running and become the daemon that is installed now, by the same pid."""
        if self.keeping is None:
            self.log.warn("cannot be replaced while processes run: it was started with --no-keeper")
            return
        self._replacing = True
        # The next one takes the umask and the limit that it finds for its children's.
        self.reactor.addSystemEventTrigger("after", "shutdown", os.umask, self._umask)
        limit = resource.RLIMIT_NOFILE
        self.reactor.addSystemEventTrigger("after", "shutdown", resource.setrlimit, limit, self._nofile)
        self.reactor.addSystemEventTrigger("after", "shutdown", os.execv, sys.executable, sys.orig_argv)
        self._stop_reactor()

    def _stop_reactor(self) -> None:
        try:
            self.reactor.stop()
        except ReactorNotRunning:
            self.log.info("still waiting: a process has its kill_timeout to end")

    async def _shut(self) -> None:
        self.systemd.stopping(replaced=self._replacing)
        if self._replacing:
            self.log.info("PMDaemon is being replaced, its processes go on")
            children = None
        else:
            self.log.info("PMDaemon is stopping, and waits for its processes to end")
            children = self.supervisor.stop()
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        if children is not None:
            await children
        self.bus.flush()
        if self._saving.running:
            self._saving.stop()
        self._save_uses()
        await self._say_goodbye()
        if self.keeping is not None:
            await self.keeping.leave(end=not self._replacing)
        self.logs.shut()
        self.store.close()
        self.log.info("PMDaemon has stopped")

    async def _say_goodbye(self) -> None:
        if not self.factory.connections:
            return
        everyone_gone = self.factory.leave(restart=self._replacing)
        timer = self.reactor.callLater(_GOODBYE, everyone_gone.cancel)
        try:
            await everyone_gone
        except CancelledError:
            return
        timer.cancel()

    def stopService(self) -> "Deferred[None]":
        """Stop all children, say goodbye to clients, close the files; fires when all of that is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._shut())


def spawn_own(reactor: Any, child: Child, argv: list[str], *, birth: Birth, failed: object, **how: Any) -> Any:
    """Start a child of the daemon itself; whether that succeeds is known at once."""
    return spawn(reactor, child, argv, umask=birth.rights["umask"], **how)


def _encode(event: Event, id_: str, at: float) -> bytes:
    return encode(event.type, event, id=id_, at=at)
