"""The composition root: what twistd runs, and the one place where the parts are made and joined.

Nothing is decided here. Whatever can go wrong at the start goes wrong before twistd puts itself in the background, and
ends it with one line.
"""

# mypy: disallow-untyped-calls=False
# (twisted.application has few annotations)

import os
import random
import signal
import socket
import sys
import time
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python import usage

import pmdaemon
from pmdaemon.core.events import Event
from pmdaemon.core.ports import PortPool
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.actions import Actions, read_ecosystem
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.checker import Prober
from pmdaemon.daemon.describe import Describer
from pmdaemon.daemon.dispatch import Dispatcher
from pmdaemon.daemon.home import Home, HomeError
from pmdaemon.daemon.ids import Sequence
from pmdaemon.daemon.invocation import inherited
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.launcher import Launcher
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.means import Means
from pmdaemon.daemon.memory import MemoryLimits
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.portcheck import is_free
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.sampler import Sampler
from pmdaemon.daemon.spawn import spawn
from pmdaemon.daemon.store import Store, StoreError
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import PMDaemonError
from pmdaemon.protocol.codec import encode
from pmdaemon.web.catchup import Archive
from pmdaemon.web.channels import Channels
from pmdaemon.web.guard import Guard
from pmdaemon.web.listen import LOOPBACKS, ListenError, bind
from pmdaemon.web.site import build_site
from pmdaemon.web.websocket import DaemonSocketFactory

__all__ = ["Daemon", "Options", "makeService"]

PORT = 9615
_GOODBYE = 1.0
"""Seconds that clients have to answer the close at the end."""


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return port


class Options(usage.Options):
    """What ``twistd pmdaemon`` takes."""

    synopsis = "[options]"
    optParameters = [  # noqa: RUF012  # twisted reads it so
        ["port", "p", PORT, "port of the WebSocket API and the pages; 0 takes a free one", _port],
        ["host", None, None, "address to listen on (default: 127.0.0.1 and ::1)"],
        ["home", None, None, "directory of state and logs (default: $PMDAEMON_HOME or ~/.pmdaemon)"],
        ["config", "c", None, "ecosystem file whose apps to run (JSON, YAML or TOML)"],
        ["www", None, None, "directory of your own pages, served at /www/"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["allow_host"] = []
        self["allow_origin"] = []

    def opt_allow_host(self, host: str) -> None:
        """Another name of this machine that requests may be sent to; may be given several times."""
        self["allow_host"].append(host)

    def opt_allow_origin(self, origin: str) -> None:
        """Another page that may connect, such as https://example.org; may be given several times."""
        self["allow_origin"].append(origin)

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"pmdaemon {pmdaemon.__version__}\n")
        raise SystemExit(0)

    def postOptions(self) -> None:
        """Claim the home before twistd looks for a pid file, which belongs there unless another was asked for."""
        path = self["home"] or os.environ.get("PMDAEMON_HOME") or "~/.pmdaemon"
        try:
            home = self["claimed"] = Home.claim(path)
        except HomeError as why:
            raise SystemExit(f"pmdaemon: {why}") from None
        if self.parent is not None and self.parent.get("pidfile") == "twistd.pid":
            self.parent["pidfile"] = str(home.pidfile)


def makeService(options: Options) -> "Daemon":
    """Make the daemon with its port bound and its files read; SystemExit with one line where that fails."""
    from twisted.internet import reactor  # the one place; installed only when twistd has chosen it

    home: Home = options["claimed"]
    try:
        guard = Guard(options["allow_host"], options["allow_origin"])
        specs = read_ecosystem(options["config"]) if options["config"] else []
        www = _directory(options["www"])
        store = Store(home.state)
        daemon = Daemon(reactor, home, store)
        if options["config"]:
            daemon.supervisor.load()
            daemon.configure(specs, os.path.abspath(options["config"]))
        else:
            daemon.supervisor.load()
        sockets, missing = bind([options["host"]] if options["host"] else LOOPBACKS, options["port"])
    except PMDaemonError as why:
        raise SystemExit(f"pmdaemon: {why.message}" + (f"; {why.hint}" if why.hint else "")) from None
    except (ListenError, StoreError, NotADirectoryError) as why:
        raise SystemExit(f"pmdaemon: {why}") from None
    daemon.listen_on(sockets, missing, guard, www)
    return daemon


def _directory(path: str | None) -> str | None:
    if path is not None and not os.path.isdir(path):
        raise NotADirectoryError(f"cannot serve --www {path}: it is not a directory")
    return path


class Daemon(Service):
    """The parts of one daemon, joined, and the order in which they start and stop."""

    log = Logger()

    def __init__(self, reactor: Any, home: Home, store: Store) -> None:
        self.reactor = reactor
        self.home = home
        self.store = store
        self.journal = Journal(store)
        self.bus = EventBus(
            reactor,
            now=time.time,
            sequence=Sequence(store.epoch),
            journal=self.journal,
            commit=store.commit,
            encode=_encode,
        )
        store.written = self.bus.soon
        self.logs = Logs(reactor, self.bus, self.journal, home.logs, time.time)
        self.supervisor = Supervisor(store, self.logs, cores=os.cpu_count() or 1, now=time.time)
        self.sampler = Sampler(reactor, self.supervisor.roots)
        self.supervisor.means = self._means()
        self.describer = Describer(
            self.supervisor, self.logs, self.sampler, now=time.time, clients=lambda: len(self.factory.connections)
        )
        operations = Operations(self.supervisor, reactor)
        actions = Actions(self.supervisor, operations, base=os.getcwd())
        self.channels = Channels(
            stamp=self.bus.stamp,
            settle=self.bus.flush,
            sampler=self.sampler,
            measure=self.describer.metrics,
            logs_wanted=self.logs.wanted,
        )
        self.bus.add(self.channels)
        self.factory = DaemonSocketFactory(
            reactor,
            bus=self.bus,
            dispatcher=Dispatcher(self.supervisor, actions, self.describer, reactor),
            describer=self.describer,
            channels=self.channels,
            archive=Archive(self.supervisor, self.logs, self.journal, self.bus),
        )
        self._sockets: list[socket.socket] = []
        self._ports: list[Any] = []

    def _means(self) -> Means:
        start = partial(spawn, self.reactor)
        launcher = Launcher(
            self.reactor,
            spawn=start,
            prober=Prober(self.reactor),
            ports=PortPool(is_free),
            logs=self.logs,
            inherited=inherited(os.environ),
            run=self.home.run,
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

    def configure(self, specs: list[AppSpec], source: str) -> None:
        """Take up the apps of an ecosystem file. Raises PMDaemonError."""
        self.supervisor.configure(specs, source)
        self.store.commit()

    def listen_on(self, sockets: list[socket.socket], missing: list[str], guard: Guard, www: str | None) -> None:
        """Serve on *sockets* from the start on; *missing* are addresses that this machine does not have."""
        self._sockets = sockets
        self._missing = missing
        self._site = build_site(self.reactor, guard, self.factory, www)

    def startService(self) -> None:
        """Listen, and start what is wanted."""
        super().startService()
        self.home.sign()
        for each in self._sockets:
            self._ports.append(self.reactor.adoptStreamPort(each.fileno(), each.family, self._site))
        port = self._sockets[0].getsockname()[1]
        for each in self._sockets:
            each.close()
        for host in self._missing:
            self.log.warn("{host} is not there on this machine, listening without it", host=host)
        self.log.info(
            "PMDaemon listens on http://localhost:{port}/ with home {home}", port=port, home=str(self.home.path)
        )
        self.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.reactor.callFromThread(self._stop_reactor))
        self.supervisor.start()

    def _stop_reactor(self) -> None:
        """Twisted's own handler would end the process by the same signal; ours ends it with 0."""
        try:
            self.reactor.stop()
        except ReactorNotRunning:
            self.log.info("still stopping, children have their kill_timeout")

    async def _shut(self) -> None:
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports])
        await self.supervisor.stop()
        self.bus.flush()
        await self._say_goodbye()
        self.logs.shut()
        self.store.close()
        self.home.release()

    async def _say_goodbye(self) -> None:
        if not self.factory.connections:
            return
        everyone_gone = self.factory.leave()
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


def _encode(event: Event, id_: str, at: float) -> bytes:
    return encode(event.type, event, id=id_, at=at)
