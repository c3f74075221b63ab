"""Those who wait for a process to reach a state: each is told once, after the events that belong to it [P11]."""

from collections.abc import Iterable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.lifecycle import State

__all__ = ["Waiters"]


class Waiters:
    """Those who wait for one process; they are told a turn later, on *clock*."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[Deferred[State], frozenset[State]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, now: State, states: Iterable[State]) -> "Deferred[State]":
        """Return a Deferred that fires with the first of *states* that is reached, at once if that is *now*.

        May be cancelled.
        """
        wanted = frozenset(states)
        if now in wanted:
            return succeed(now)
        waiter: Deferred[State] = Deferred(self._forget)
        self._waiting[waiter] = wanted
        return waiter

    def _forget(self, waiter: "Deferred[State]") -> None:
        self._waiting.pop(waiter, None)

    def reached(self, state: State) -> None:
        """Have those told who wait for *state*, whatever state follows before they are."""
        for waiter in [each for each, wanted in self._waiting.items() if state in wanted]:
            del self._waiting[waiter]
            self._clock.callLater(0, _tell, waiter, state)


def _tell(waiter: "Deferred[State]", state: State) -> None:
    if not waiter.called:  # it may have been cancelled meanwhile
        waiter.callback(state)
