"""Why something happens to a process: who ordered it, or which rule of the daemon did; told with the event [R11].

An order is carried out later than it is given, often by a turn that has nothing to do with it. So who gave it is a
context variable, and a queue runs each order in the context that it was given in.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from pmdaemon.core.restart import End

__all__ = ["CAUSE", "Cause"]

CAUSE: Final[ContextVar[Mapping[str, Any] | None]] = ContextVar("cause", default=None)
"""What is being carried out: ``client`` and ``action``."""

_RULES: Final = {
    "not_ready": "not ready within listen_timeout",
    "not_started": "could not be started",
    "port_in_use": "its port was in use",
}

_CAUSED = frozenset({"started", "restarted", "stopped", "gave_up"})
_DIRECT = frozenset({"created", "reloaded", "scaled", "deleted"})


class Cause:
    """What led to the state that a process is about to reach."""

    def __init__(self) -> None:
        self._cause: Mapping[str, Any] | None = None

    def order(self) -> None:
        """Take what is being carried out now for the cause of what follows."""
        self._cause = CAUSE.get()

    def rule(self, rule: str) -> None:
        """Take a rule, in words, for the cause of what follows."""
        self._cause = {"rule": rule}

    def end(self, end: End) -> None:
        """Take how a child ended for the cause of what follows, unless a rule had ended it."""
        if end.failed is None:
            known = end.exit_signal is not None or end.exit_code is not None
            how = f"signal {end.exit_signal}" if end.exit_signal else f"exit code {end.exit_code}"
            self.rule(how if known else "ended, how is not known")
        elif end.failed in _RULES:
            self.rule(_RULES[end.failed])

    def details(self, event: str) -> dict[str, Any]:
        """Return what an event says of its cause: nothing where none is known, or none is needed."""
        cause = CAUSE.get() if event in _DIRECT else self._cause if event in _CAUSED else None
        return {} if cause is None else {"cause": dict(cause)}
