"""Writes the whole state anew after it could not be written, as soon as it can be: the disk was full, say."""

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.store import Store
from pmdaemon.daemon.supervisor import Supervisor

__all__ = ["Recovery"]

_RETRY = 2.0


class Recovery:
    """Tries every 2 s, from the first write that fails on. What was told meanwhile is not in the journal: a gap."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, store: Store, supervisor: Supervisor, journal: Journal, bus: EventBus
    ) -> None:
        self._clock = clock
        self._store = store
        self._supervisor = supervisor
        self._journal = journal
        self._bus = bus
        self._timer: IDelayedCall | None = None
        store.failed = self._begin

    def stop(self) -> None:
        """Try a last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._store.mend(self._rewrite)

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(_RETRY, self._try)

    def _try(self) -> None:
        self._timer = None
        if self._store.mend(self._rewrite):
            self._log.info("the state {path} can be written again, nothing of it is lost", path=str(self._store.path))
        else:
            self._begin()

    def _rewrite(self) -> None:
        self._supervisor.save_all()
        self._journal.lose(self._bus.last)
