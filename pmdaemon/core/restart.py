"""How an end of a child is judged: done, try again, or give up, and after what delay [P9], [P14].

Time and randomness are arguments; nothing here looks at a clock.
"""

from collections import deque

from msgspec import Struct

from pmdaemon.core.lifecycle import Input
from pmdaemon.core.spec import AppSpec

__all__ = ["BACKOFF_CAP", "STABLE_AFTER", "UNSTARTED_DELAY", "End", "RestartPolicy", "Verdict"]

BACKOFF_CAP = 15.0
"""Seconds: the exponential back-off grows no further."""

STABLE_AFTER = 60.0
"""Seconds online after which the back-off starts anew."""

UNSTARTED_DELAY = 1.0
"""Seconds at least from a start that never came to a child to the next: nothing tells when that may go better."""

_JITTER = 0.25


class End(Struct, frozen=True, kw_only=True):
    """How a child ended.

    ``exit_code`` is None when a signal ended it or nothing is known; ``uptime`` is in seconds; ``failed`` names what
    made the daemon end it (``unhealthy``, ``memory_limit``, ``not_ready``) or is None; ``ready`` tells whether it had
    come online, ``started`` whether there was a child at all.
    """

    exit_code: int | None
    exit_signal: str | None = None
    uptime: float = 0.0
    ready: bool = True
    failed: str | None = None
    started: bool = True


class Verdict(Struct, frozen=True, kw_only=True):
    """What follows an end: ``input`` for the state machine, the ``delay`` in seconds, and why, in one word."""

    input: Input
    delay: float = 0.0
    reason: str = "exit"


class RestartPolicy:
    """One process's memory of its failures.

    The window slides over *active* seconds: waiting in a delay or a back-off does not age it [P14].
    """

    def __init__(self) -> None:
        self._failures: deque[float] = deque()
        self._waited = 0.0
        self.attempt = 0

    def reset(self) -> None:
        """Forget all failures, as after a command of the user."""
        self._failures.clear()
        self.attempt = 0

    def saved(self) -> list[float]:
        """Return what has to be kept for a later daemon to go on counting."""
        return [float(self.attempt), self._waited, *self._failures] if self._failures or self.attempt else []

    def restore(self, saved: list[float]) -> None:
        """Go on from what ``saved`` gave."""
        if len(saved) >= 2:
            self.attempt, self._waited, self._failures = int(saved[0]), saved[1], deque(saved[2:])

    def judge(self, end: End, spec: AppSpec, now: float, random: float) -> Verdict:
        """Judge an unasked-for *end* at *now* (seconds); *random* in [0, 1) spreads the back-off."""
        good = end.failed is None and end.exit_code == 0
        reason = end.failed or ("exit" if good else "crash")
        if end.failed is None and end.exit_code in spec.stop_exit_codes:
            return Verdict(input=Input.DONE)
        if not spec.autorestart:
            return Verdict(input=Input.DONE if good else Input.GIVE_UP, reason=reason)
        if end.uptime >= STABLE_AFTER:
            self.attempt = 0
        early = not end.ready or end.uptime < spec.timing.min_uptime
        if early or not good:
            self.attempt += 1
            if self._exhausted(spec, now - self._waited):
                return Verdict(input=Input.GIVE_UP, reason=reason)
        delay = max(self._delay(spec, random), 0.0 if end.started else UNSTARTED_DELAY)
        self._waited += delay
        return Verdict(input=Input.RETRY, delay=delay, reason=reason)

    def _exhausted(self, spec: AppSpec, active_now: float) -> bool:
        if self._failures and self._failures[-1] > active_now:  # the clock was set back: what was is no longer known
            self._failures.clear()
        self._failures.append(active_now)
        while self._failures and self._failures[0] <= active_now - spec.timing.restart_window:
            self._failures.popleft()
        return len(self._failures) > spec.max_restarts

    def _delay(self, spec: AppSpec, random: float) -> float:
        first = spec.timing.exp_backoff_restart_delay
        if not first or not self.attempt:
            return spec.timing.restart_delay
        grown = min(BACKOFF_CAP, first * 2.0 ** min(self.attempt - 1, 60))
        return max(spec.timing.restart_delay, min(BACKOFF_CAP, grown * (1 - _JITTER + 2 * _JITTER * random)))
