"""When a running process is probed, and which results count [P8]; whoever owns it is told of changes only."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pmdaemon.core.health import DETAILS, HealthTracker
from pmdaemon.core.spec import HealthCheck
from pmdaemon.daemon.checker import ProbeResult

__all__ = ["HealthMonitor"]

_EAGER = 1.0  # seconds between probes, at most, until it was healthy once


class HealthMonitor:
    """Probes one child from `start` to `stop`, once each; never twice at the same time.

    From the start of a probe to the next one's are ``check.timing.interval`` seconds, at most 1 s until the first
    success; more where a probe takes longer. Failures before the first success and those of probes that began within
    ``start_period`` do not count. It goes on from a *status* of healthy; no other one lasts. ``on_change`` gets the
    previous status, the new one, the result and the failures in a row.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        check: HealthCheck,
        probe: "Callable[[], Deferred[ProbeResult]]",
        on_change: Callable[[str, str, ProbeResult, int], None],
        status: str = "unknown",
    ) -> None:
        self._clock = clock
        self._check = check
        self._timing = check.timing
        self._probe = probe
        self._on_change = on_change
        self._tracker = HealthTracker(check.retries, "healthy" if status == "healthy" else "unknown")
        self._was_healthy = status == "healthy"
        self._stopped = False
        self._started = 0.0
        self._timer: IDelayedCall | None = None
        self._probing: Deferred[None] | None = None

    @property
    def status(self) -> str:
        """One of unknown, healthy and unhealthy."""
        return self._tracker.status

    def start(self) -> None:
        """Probe now, and from now on."""
        self._started = self._clock.seconds()
        self._begin()

    def stop(self) -> None:
        """Probe no more; a probe that runs is cancelled and has no effect."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._probing is not None:
            self._probing.cancel()

    def _begin(self) -> None:
        begun = self._clock.seconds()
        probing = self._probe().addErrback(self._defect).addCallback(self._done, begun)
        self._probing = probing.addErrback(self._told_in_vain)

    def _done(self, result: ProbeResult, begun: float) -> None:
        if self._stopped:
            return
        counts = self._was_healthy and begun - self._started >= self._timing.start_period
        self._was_healthy = self._was_healthy or result.ok
        previous = self.status
        status = self._tracker.record(result.ok, counts)
        self._schedule(begun)
        if status is not None:
            self._on_change(previous, status, result, self._tracker.failures)

    def _schedule(self, begun: float) -> None:
        interval = self._timing.interval
        period = interval if self._was_healthy else min(interval, _EAGER)
        gone = max(self._clock.seconds() - begun, 0.0)  # the clock may have been set back
        self._timer = self._clock.callLater(max(period - gone, 0.0), self._begin)

    def _defect(self, failure: Failure) -> ProbeResult:
        """A probe reports what went wrong and never fails, unless it was cancelled or is defective itself."""
        if not self._stopped:
            self._log.failure("cannot probe", failure)
        return ProbeResult(False, dict.fromkeys(DETAILS[self._check.check_type]), "the probe failed")

    def _told_in_vain(self, failure: Failure) -> None:
        self._log.failure("cannot tell of a change of health", failure)
