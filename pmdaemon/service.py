"""What twistd runs: the order in which a daemon's parts start and stop.

The parts are made and joined in ``parts``. Whatever can go wrong at the start goes wrong before twistd puts itself in
the background, and ends it with one line.
"""

# mypy: disallow-untyped-calls=False
# (twisted.application has few annotations)

import os
import resource
import signal
import socket
import sys
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

import pmdaemon.lean  # noqa: F401  # before anything imports the reactor
from pmdaemon.daemon.home import Home
from pmdaemon.daemon.keeperlink import KeeperError
from pmdaemon.daemon.rebuild import rebuild
from pmdaemon.daemon.store import Store
from pmdaemon.daemon.systemd import Systemd
from pmdaemon.options import REFUSALS, Options, names_of, refuse
from pmdaemon.parts import Parts
from pmdaemon.tokens import TokenFileError
from pmdaemon.web.arrival import Arrivals
from pmdaemon.web.limits import MAX_PER_SOURCE, RESERVED, Connections
from pmdaemon.web.listen import LOOPBACKS, bind, bind_unix
from pmdaemon.web.peer import Peers
from pmdaemon.web.site import build_site

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
        if store.fresh and not options["no-keeper"]:
            rebuild(store, home.path / "keeper.jsonl")
        store.settle()
        parts = Parts(
            reactor,
            home,
            store,
            umask=options["umask"],
            keeper=not options["no-keeper"],
            log_cap=options["log_cap"] or None,
        )
        parts.supervisor.load()
        if options["config"]:
            parts.supervisor.configure(options["apps"], os.path.abspath(options["config"]))
        hosts = [options["host"]] if options["host"] else LOOPBACKS
        sockets, missing = bind(hosts, options["port"])
        private = bind_unix(home.socket)
    except REFUSALS as why:
        refuse(why)
    store.close()
    site = build_site(reactor, parts.guard(options), _arrivals(), parts.factory, options["www"])
    public: Any = site
    if options["tls"] is not None:
        from pmdaemon.web.tls import secured  # with OpenSSL, see lean

        public = secured(site, options["tls"], reactor)
    scheme = "http" if public is site else "https"
    name = next(iter(names_of(options["host"])), "localhost")
    url = f"{scheme}://{name}:{sockets[0].getsockname()[1]}/"
    daemon = Daemon(reactor, parts, options["umask"])
    daemon.listen_on([*((each, public) for each in sockets), (private, site)], missing, url)
    return daemon


def _arrivals() -> Arrivals:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Arrivals(Peers().of, Connections(os.geteuid(), max(MAX_PER_SOURCE, descriptors - RESERVED)))


class Daemon(Service):
    """The parts of one daemon, joined, and the order in which they start and stop."""

    log = Logger()

    def __init__(self, reactor: Any, parts: Parts, umask: int) -> None:
        self.reactor = reactor
        self.parts = parts
        self._umask = umask
        self._saving = LoopingCall(self._save_uses)
        self._saving.clock = reactor
        self._served: list[tuple[socket.socket, Any]] = []
        self._ports: list[Any] = []
        self._replacing = False
        self.systemd = Systemd(reactor, os.environ)

    def listen_on(self, served: list[tuple[socket.socket, Any]], missing: list[str], url: str) -> None:
        """Serve each socket's site from the start on; *missing* are addresses that this machine does not have."""
        self._served = served
        self._missing = missing
        self._url = url

    def _save_uses(self) -> None:
        """Write down when tokens were last used."""
        try:
            self.parts.tokens.save_uses()
        except TokenFileError as why:
            self.log.warn("{why}", why=str(why))

    def startService(self) -> None:
        """Take up in this process, perhaps forked meanwhile, what was made ready; the reactor starts the rest."""
        super().startService()
        self.parts.home.sign()
        self.parts.store.reopen()
        self._catch_signals()
        self.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        """Announce the daemon only now that a signal ends it in order: the reactor has set its own handlers before."""
        self._catch_signals()
        Deferred.fromCoroutine(self._take_up()).addErrback(self._cannot_begin)

    async def _take_up(self) -> None:
        """Take up the children that are there already, then listen, then start what is missing."""
        await self.parts.adopt()
        if not self.running:
            return
        for each, site in self._served:
            self._ports.append(self.reactor.adoptStreamPort(each.fileno(), each.family, site))
            each.close()
        self.parts.home.socket.chmod(0o600)  # Twisted gives it a mode of its own
        self._saving.start(_SAVE_USES, now=False)
        self._announce()
        self.parts.history.start()
        self.systemd.ready(os.getpid())
        self.parts.supervisor.start()

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
        self.log.info("PMDaemon listens on {url} with home {home}", url=self._url, home=str(self.parts.home.path))

    def _catch_signals(self) -> None:
        """Twisted's own handlers would end the process by the signal that it got; ours end it with 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: self.reactor.callFromThread(self._stop_reactor))
        signal.signal(signal.SIGUSR2, lambda *_: self.reactor.callFromThread(self._replace))
        signal.signal(signal.SIGUSR1, lambda *_: self.reactor.callFromThread(self._reopen_logs))

    def _reopen_logs(self) -> None:
        """Turn to new files where the processes' logs were moved away, by logrotate say."""

        def done(failed: list[str]) -> None:
            self.log.info("the logs that were moved away are begun anew")
            for each in failed:
                self.log.error("cannot begin a log anew: {which}", which=each)

        reopened = Deferred.fromCoroutine(self.parts.reopen_logs())
        reopened.addCallbacks(done, lambda why: self.log.error("cannot reopen the logs: {why}", why=str(why.value)))

    def _replace(self) -> None:
        """Leave the children running and become the daemon that is installed now, by the same pid."""
        if self.parts.keeping is None:
            self.log.warn("cannot be replaced while processes run: it was started with --no-keeper")
            return
        self._replacing = True
        # The next one takes the umask and the limit that it finds for its children's.
        self.reactor.addSystemEventTrigger("after", "shutdown", os.umask, self._umask)
        limit = resource.RLIMIT_NOFILE
        self.reactor.addSystemEventTrigger("after", "shutdown", resource.setrlimit, limit, self.parts.nofile)
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
            children = self.parts.supervisor.stop()
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        if children is not None:
            await children
        self.parts.bus.flush()
        if self._saving.running:
            self._saving.stop()
        self._save_uses()
        await self._say_goodbye()
        if self.parts.keeping is not None:
            await self.parts.keeping.leave(end=not self._replacing)
        self.parts.logs.shut()
        self.parts.recovery.stop()
        self.parts.store.close()
        self.log.info("PMDaemon has stopped")

    async def _say_goodbye(self) -> None:
        if not self.parts.factory.connections:
            return
        everyone_gone = self.parts.factory.leave(restart=self._replacing)
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
