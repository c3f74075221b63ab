"""A supervisor and all that carries out its commands, with children, time and logs that are fakes."""

import os
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.access import Caller
from pmdaemon.core.commands import ACTIONS
from pmdaemon.core.ports import PortPool
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.actions import Actions, Job
from pmdaemon.daemon.launcher import Launcher
from pmdaemon.daemon.operations import Operations
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.store import Store
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import PMDaemonError
from tests.fakes import FakeLogs, FakeWorld


class Supervised(FakeWorld):
    """One daemon's supervisor with the state at *path*; ``taken`` are ports that others listen on."""

    def __init__(self, path: str, *, cores: int = 2) -> None:
        super().__init__()
        self.store = Store(Path(path))
        self.logs = FakeLogs()
        self.taken: set[int] = set()
        self._incarnations = count(1)
        self.ports = PortPool(lambda port: port not in self.taken)
        self.supervisor = Supervisor(self.store, self.logs, cores=cores, now=self.clock.seconds)
        self.launcher = Launcher(
            self.clock,
            spawn=self.children.spawn,
            prober=None,
            ports=self.ports,
            logs=self.logs,
            inherited={"PATH": os.environ["PATH"]},
            run=Path("/nowhere"),
            public_run=Path("/nowhere"),
            incarnation=lambda: next(self._incarnations),
            umask=0o022,
        )
        self.saved = self.supervisor.save
        self.supervisor.means = self.means()
        self.actions = Actions(self.supervisor, Operations(self.supervisor, self.clock), base="/")

    def means(self) -> Any:
        means = super().means()
        means.spawn, means.watch, means.gone = self.launcher.spawn, self.launcher.watch, self.launcher.gone
        return means

    def begin(self, action: str, process: str | int, **fields: Any) -> list[Job]:
        """Begin a command as the dispatcher does."""
        caller = Caller(name="root", kind="user", scope="start")
        return self.actions.begin(ACTIONS[action](process=process, **fields), caller)

    def do(self, action: str, process: str | int, **fields: Any) -> "Deferred[PMDaemonError | None]":
        """Give a command; fires with its first error, or None."""
        try:
            jobs = self.begin(action, process, **fields)
        except PMDaemonError as error:
            refused: Deferred[PMDaemonError | None] = Deferred()
            refused.callback(error)
            return refused
        done = DeferredList([job.done for job in jobs], consumeErrors=True)
        return done.addCallback(_first_error)

    def start(self, name: str = "web", **config: Any) -> "Deferred[PMDaemonError | None]":
        """Start a new app."""
        return self.do("start", name, config={"script": "/bin/sh", **config})

    def process(self, name: str = "web") -> Process:
        (found,) = (each for each in self.supervisor.processes.values() if each.name == name)
        return found

    def statuses(self) -> dict[str, str]:
        return {each.name: each.status for each in self.supervisor.select(None)}

    def pids(self) -> dict[str, int | None]:
        return {each.name: each.pid for each in self.supervisor.select(None)}

    def close(self) -> None:
        self.store.close()


def _first_error(results: list[tuple[bool, Any]]) -> PMDaemonError | None:
    for ok, result in results:
        if not ok:
            assert isinstance(result, Failure)
            if not isinstance(result.value, PMDaemonError):
                result.raiseException()
            return result.value
    return None


class SupervisedTestCase(SynchronousTestCase):
    """Has a daemon in ``self.daemon``; another one on the same state with `next_daemon`."""

    cores = 2

    def setUp(self) -> None:
        self.state = os.path.join(tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp()))), "state.db")
        self.daemon = Supervised(self.state, cores=self.cores)
        self.addCleanup(lambda: self.daemon.close())

    def next_daemon(self, *specs: AppSpec) -> Supervised:
        """End this daemon in good order; another one goes on from its state, with an ecosystem file's *specs*."""
        stopped = self.daemon.supervisor.stop()
        self.daemon.pass_time(60.0)
        self.successResultOf(stopped)
        self.daemon.close()
        self.daemon = Supervised(self.state, cores=self.cores)
        self.daemon.supervisor.load()
        if specs:
            self.daemon.supervisor.configure(specs, "/apps.yaml")
        self.daemon.supervisor.start()
        self.daemon.pass_time()
        return self.daemon

    def succeeds(self, done: "Deferred[PMDaemonError | None]", within: float = 60.0) -> None:
        """The command ends, and well, within that time."""
        self.daemon.pass_time(within)
        self.assertIsNone(self.successResultOf(done))

    def fails(
        self, done: "Deferred[PMDaemonError | None]", code: str, words: str, within: float = 60.0
    ) -> PMDaemonError:
        """The command ends with an error of that code, whose message has these words."""
        self.daemon.pass_time(within)
        error = self.successResultOf(done)
        assert error is not None, "it succeeded"
        self.assertEqual(error.code, code)
        self.assertIn(words, error.message)
        return error
