"""Runs a script to its end for what it says: its exit and the last of its output."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from pmdaemon.daemon.spawn import spawn
from pmdaemon.keeper.identity import Owner

__all__ = ["ScriptRun"]

_KEPT = 8192  # bytes of output
_numbers = count()


class ScriptRun(ProcessProtocol):
    """One run; ``exit_code`` and ``exit_signal`` are None where they do not apply.

    ``ended`` fires with None when the script and all it started have gone, which is soon after ``timeout`` seconds at
    the latest: then they are killed, as they are when ``ended`` is cancelled.
    """

    exit_code: int | None = None
    exit_signal: int | None = None
    timed_out = False
    _timer: DelayedCall | None = None

    def __init__(self, reactor: Any, timeout: float) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self._kill())
        self._reactor = reactor
        self._timeout = timeout
        self._output = b""

    @classmethod
    def start(
        cls,
        reactor: Any,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        timeout: float,
        umask: int = -1,
        owner: Owner | None = None,
    ) -> "ScriptRun":
        """Start it, with ``umask`` unless that is -1, as ``owner`` unless that is None. Raises SpawnError.

        No shell is involved.
        """
        run = cls(reactor, timeout)
        cookie = ("PMDAEMON_PROBE", f"{os.getpid()}.{reactor.seconds()}.{next(_numbers)}")
        spawn(reactor, run, argv, env=env, cwd=cwd, cookie=cookie, umask=umask, owner=owner)
        return run

    @property
    def output(self) -> str:
        """The last 8 KiB of output and errors, in the order in which they came."""
        return self._output.decode("utf-8", "replace")

    def connectionMade(self) -> None:
        """It runs."""
        self._timer = self._reactor.callLater(self._timeout, self._expire)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the end of it."""
        self._output = (self._output + data)[-_KEPT:]

    def processExited(self, reason: Failure) -> None:
        """The script itself is in time, whatever it leaves behind."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def processEnded(self, reason: Failure) -> None:
        """Nothing of it is left."""
        if isinstance(reason.value, ProcessTerminated):
            self.exit_code, self.exit_signal = reason.value.exitCode, reason.value.signal
        else:
            self.exit_code = 0
        if not self.ended.called:
            self.ended.callback(None)

    def _expire(self) -> None:
        self.timed_out = True
        self._kill()

    def _kill(self) -> None:
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")
