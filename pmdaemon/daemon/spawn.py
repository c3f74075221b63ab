"""A child process as a Twisted transport: in a session of its own, and never ended before its whole tree has gone.

`reactor.spawnProcess` makes no session, cannot tell a failed exec, and forks slowly when it is given a directory.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.process import registerReapProcessHandler, unregisterReapProcessHandler
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pmdaemon.daemon.launch import SpawnError, launch
from pmdaemon.daemon.leftovers import Leftovers
from pmdaemon.daemon.pipes import OutputPipe
from pmdaemon.daemon.unheard import Unheard
from pmdaemon.keeper.identity import Owner

__all__ = ["SpawnError", "SpawnedProcess", "spawn"]

_DRAIN = 1 << 20  # bytes of each pipe; whoever is left may write for ever


def spawn(
    reactor: Any,
    protocol: ProcessProtocol,
    argv: Sequence[str],
    *,
    executable: str | None = None,
    env: Mapping[str, str],
    cwd: str | None,
    cookie: tuple[str, str],
    umask: int = -1,
    owner: Owner | None = None,
    nofile: tuple[int, int] | None = None,
) -> "SpawnedProcess":
    """Start a program; ``cookie`` is a variable, its value unique, by which the tree is known among all processes.

    The environment is ``env`` and the cookie, nothing else; ``umask``, ``owner`` and ``nofile`` are as of ``launch``.
    Returns when exec has succeeded; raises SpawnError.

    The protocol is called in this order: ``makeConnection``, before this returns; ``childDataReceived`` with 1 for
    standard output and 2 for errors; ``processExited`` once, after all that was in the pipes when the process ended,
    up to 1 MiB of each; when nothing is left of the tree, ``childConnectionLost`` of 1 and of 2 and ``processEnded``.
    """
    whole = {**env, cookie[0]: cookie[1]}
    popen = launch(argv, executable=executable, env=whole, cwd=cwd, umask=umask, owner=owner, nofile=nofile)
    return SpawnedProcess(reactor, protocol, popen, cookie)


@implementer(IProcessTransport)
class SpawnedProcess(Unheard):
    """The transport of one child; ``pid`` is None from just before ``processEnded`` is called."""

    pid: int | None

    def __init__(
        self, reactor: Any, protocol: ProcessProtocol, popen: "subprocess.Popen[bytes]", cookie: tuple[str, str]
    ) -> None:
        self.pid = popen.pid
        self._reactor = reactor
        self._protocol = protocol
        self._popen = popen
        self._reason = Failure(ProcessDone(0))  # until it is known
        self._exit_told = False
        self._leftovers = Leftovers(reactor, popen.pid, cookie, self._all_gone)
        outputs = {1: popen.stdout, 2: popen.stderr}
        self._pipes = {
            fd: OutputPipe(reactor, file, partial(self._receive, fd)) for fd, file in outputs.items() if file
        }
        try:
            protocol.makeConnection(self)
        finally:
            registerReapProcessHandler(popen.pid, self)

    def signalProcess(self, signalID: str | int) -> None:
        """Ask the process to stop, by name ("TERM", "SIGTERM") or number: its whole group, or what is left of it.

        "KILL" ends the whole tree, whatever group or session its members made. Others of the tree get the signal
        when the main process has ended, and time until the next. Raises ProcessExitedAlready when nothing is left,
        ValueError for an unknown signal, PermissionError when the process became another user's.
        """
        number = _signal_number(signalID)
        with self._exited_if_gone():
            self._leftovers.stop(number)

    def relay_signal(self, signalID: str | int) -> None:
        """Send a signal that is not meant to stop it to the process and its group; raises as `signalProcess`."""
        number = _signal_number(signalID)
        with self._exited_if_gone() as pid:
            if self._popen.returncode is not None:
                raise ProcessExitedAlready
            os.killpg(pid, number)

    def loseConnection(self) -> None:
        """Read no more of its output; it lives on, and gets SIGPIPE when it writes."""
        for fd in self._pipes:
            self.closeChildFD(fd)

    def closeChildFD(self, descriptor: int) -> None:
        """As `loseConnection`, for one of 1 and 2; ``childConnectionLost`` is called at the end all the same."""
        if descriptor in self._pipes:
            self._pipes[descriptor].close()

    def reapProcess(self) -> None:
        """Called by Twisted at each SIGCHLD."""
        pid, status = os.waitpid(self._popen.pid, os.WNOHANG)
        if pid:
            unregisterReapProcessHandler(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:
        """Called when it was reaped, perhaps before the constructor returns: so the protocol is told a turn later."""
        code = os.waitstatus_to_exitcode(status)
        self._popen.returncode = code
        if code:
            terminated = ProcessTerminated(max(code, 0) or None, max(-code, 0) or None, status)
            self._reason = Failure(terminated)
        else:
            self._reason = Failure(ProcessDone(status))
        self._reactor.callLater(0, self._tell_exit)
        self._leftovers.clear()

    def _tell_exit(self) -> None:
        if self._exit_told:
            return
        self._exit_told = True
        self._drain()
        self._protocol.processExited(self._reason)

    def _all_gone(self) -> None:
        self._tell_exit()
        self._drain()  # what those who were left wrote meanwhile
        self.pid = None
        for pipe in self._pipes.values():
            pipe.close()
        for fd in self._pipes:
            self._protocol.childConnectionLost(fd)
        self._protocol.processEnded(self._reason)

    def _drain(self) -> None:
        for pipe in self._pipes.values():
            pipe.drain(_DRAIN)

    def _receive(self, fd: int, data: bytes) -> None:
        self._protocol.childDataReceived(fd, data)

    @contextmanager
    def _exited_if_gone(self) -> Iterator[int]:
        if self.pid is None:
            raise ProcessExitedAlready
        try:
            yield self.pid
        except ProcessLookupError:
            raise ProcessExitedAlready from None


def _signal_number(name: str | int) -> int:
    if isinstance(name, str):
        name = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}", 0)
    if name not in signal.valid_signals():
        raise ValueError("not a signal")
    return name
