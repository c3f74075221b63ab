"""A real child for a test: what its protocol was told, and that nothing of it is left when the test is over."""

import os
from collections.abc import Callable
from itertools import count
from typing import Any

import psutil
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from pmdaemon.daemon.spawn import SpawnedProcess, spawn
from pmdaemon.keeper.table import read

COOKIE = "PMDAEMON_TEST"
_values = count()


async def until(condition: Callable[[], Any]) -> Any:
    """What ``condition`` returns as soon as it is true; the test's own timeout bounds the waiting."""
    while not (value := condition()):
        await deferLater(reactor, 0.005)
    return value


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped does not."""
    entry = read(pid)
    return entry is not None and not entry.zombie


class Recorder(ProcessProtocol):
    """Keeps the calls in their order: ``("data", fd)`` once for neighbours, names for the others."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.output = {1: b"", 2: b""}
        self.ended: Deferred[None] = Deferred()
        self.exited = False
        self.reason: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.calls.append("makeConnection")
        super().makeConnection(transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output[childFD] += data
        if self.calls[-1] != ("data", childFD):
            self.calls.append(("data", childFD))

    def childConnectionLost(self, childFD: int) -> None:
        self.calls.append(("lost", childFD))

    def processExited(self, reason: Failure) -> None:
        self.calls.append("processExited")
        self.exited = True

    def processEnded(self, reason: Failure) -> None:
        self.calls.append("processEnded")
        self.reason = reason.value
        self.ended.callback(None)

    async def lines(self, number: int) -> list[str]:
        """The first lines of standard output, as soon as there are as many."""
        await until(lambda: self.output[1].count(b"\n") >= number)
        return self.output[1].decode().splitlines()


class ChildTestCase(TestCase):
    """Starts real children, and ends what is left of them."""

    timeout = 20

    def start(
        self, *argv: str, executable: str | None = None, env: dict[str, str] | None = None, cwd: str | None = None
    ) -> tuple[Recorder, SpawnedProcess]:
        protocol = Recorder()
        env = {"PATH": os.environ["PATH"], **(env or {})}
        cookie = (COOKIE, f"{os.getpid()}-{next(_values)}")
        transport = spawn(reactor, protocol, argv, executable=executable, env=env, cwd=cwd, cookie=cookie)
        self.addCleanup(self._end, protocol, transport)
        return protocol, transport

    def sh(self, script: str, **options: Any) -> tuple[Recorder, SpawnedProcess]:
        """A shell that runs ``script``."""
        return self.start("sh", "-c", script, **options)

    async def _end(self, protocol: Recorder, transport: SpawnedProcess) -> None:
        if transport.pid is not None:
            transport.signalProcess("KILL")
            await protocol.ended
        children = psutil.Process().children()
        assert children == [], f"a child survived or was not reaped: {children}"
