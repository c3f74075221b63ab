"""Probes a process once, by HTTP, by script or by TCP, and says in plain words what was wrong.

When to probe is `monitor`'s, what the results make of a process is `core.health`'s.
"""

import os
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from signal import strsignal
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.python.failure import Failure

from pmdaemon.core import redact
from pmdaemon.core.health import DETAILS
from pmdaemon.core.spec import HealthCheck
from pmdaemon.daemon.httpstatus import http_status
from pmdaemon.daemon.reason import plain_reason
from pmdaemon.daemon.scriptrun import ScriptRun
from pmdaemon.daemon.touch import touch
from pmdaemon.keeper.identity import Owner

__all__ = ["ProbeResult", "Prober"]

T = TypeVar("T")


class ProbeResult(msgspec.Struct, frozen=True):
    """What one probe found; ``details`` has every key of `DETAILS`, ``error`` is plain words, None when all is well."""

    ok: bool
    details: dict[str, Any]
    error: str | None


class Prober:
    """Probes; ``umask`` is that of the scripts, -1 for ours, ``trust`` whose certificates are taken (`http_status`)."""

    def __init__(self, reactor: Any, trust: Any = None, *, umask: int = -1) -> None:
        self._reactor = reactor
        self._umask = umask
        self._trust = trust

    def probe(
        self, check: HealthCheck, *, cwd: str, env: Mapping[str, str], owner: Owner | None = None
    ) -> "Deferred[ProbeResult]":
        """Probe once; a script runs in ``cwd``, with ``env`` for its whole environment, as ``owner`` or as we do.

        The Deferred never fails, and fires when nothing of the probe is left: no connection, no process. It does so
        soon after the check's timeout at the latest, or after it was cancelled.
        """
        kinds: dict[str, _Ask] = {"http": self._http, "script": partial(self._script, owner), "tcp": self._tcp}
        ask = kinds[check.check_type]
        return Deferred.fromCoroutine(self._probe(check, ask, cwd, env))

    async def _probe(self, check: HealthCheck, ask: "_Ask", cwd: str, env: Mapping[str, str]) -> ProbeResult:
        details: dict[str, Any] = dict.fromkeys(DETAILS[check.check_type])
        try:
            error = await ask(check, details, cwd, env)
        except Exception as problem:  # whatever a server or a script makes of a probe is what the probe found
            error = plain_reason(problem)
        if "error" in details:
            details["error"] = error
        return ProbeResult(error is None, details, error)

    async def _http(self, check: HealthCheck, details: dict[str, Any], cwd: str, env: Mapping[str, str]) -> str | None:
        url = str(check.url)
        details["url"] = redact.url(url)
        status, took = await self._in_time(check, http_status(self._reactor, url, self._trust))
        details.update(status_code=status, response_time=round(took * 1000))
        return None if 200 <= status < 300 else f"HTTP status {status}"

    async def _tcp(self, check: HealthCheck, details: dict[str, Any], cwd: str, env: Mapping[str, str]) -> str | None:
        host, port = check.host or "localhost", int(check.port or 0)
        details.update(host=host, port=port)
        took = await self._in_time(check, touch(self._reactor, HostnameEndpoint(self._reactor, host, port)))
        details["response_time"] = round(took * 1000)
        return None

    async def _script(
        self, owner: Owner | None, check: HealthCheck, details: dict[str, Any], cwd: str, env: Mapping[str, str]
    ) -> str | None:
        argv = _argv(str(check.script), cwd)
        timeout = check.timing.timeout
        how: dict[str, Any] = {"timeout": timeout, "umask": self._umask, "owner": owner}
        run = ScriptRun.start(self._reactor, argv, cwd=cwd, env=env, **how)
        await run.ended
        details.update(exit_code=run.exit_code, output=run.output)
        if run.timed_out:
            return f"the script did not end within {timeout:g} s and was killed"
        if run.exit_signal is not None:
            return f"the script was ended by signal {run.exit_signal} ({strsignal(run.exit_signal)})"
        return f"the script ended with exit code {run.exit_code}" if run.exit_code else None

    async def _in_time(self, check: HealthCheck, asking: "Coroutine[Deferred[Any], Any, T]") -> T:
        def late(result: object, timeout: float) -> Failure:
            return Failure(TimeoutError(f"no answer within {timeout:g} s"))

        return await Deferred.fromCoroutine(asking).addTimeout(check.timing.timeout, self._reactor, late)


_Ask = Callable[[HealthCheck, dict[str, Any], str, Mapping[str, str]], Awaitable[str | None]]


def _argv(script: str, cwd: str) -> list[str]:
    """The words of a script, split as a shell would unless it is a file; a file of ``cwd`` comes before one of PATH."""
    words = [script] if os.path.isfile(os.path.join(cwd, script)) else shlex.split(script) or [script]
    path = os.path.join(cwd, words[0])
    return [path, *words[1:]] if os.path.isfile(path) else words
