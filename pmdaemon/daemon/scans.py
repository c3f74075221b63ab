"""Looks at the process table, shared by all who need one in the same reactor turn: each costs milliseconds."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from pmdaemon.daemon.proctable import cookies, sessions
from pmdaemon.keeper.table import Table, snapshot

__all__ = ["Scans", "Sight"]


class Sight:
    """One look; what nobody asks it for is not read, the rest is read once."""

    def __init__(self) -> None:
        self._cookies: dict[str, dict[str, list[int]]] = {}

    @cached_property
    def sessions(self) -> dict[int, list[int]]:
        """See `proctable.sessions`."""
        return sessions()

    @cached_property
    def table(self) -> Table:
        """See `keeper.table.snapshot`."""
        return snapshot()

    def cookies(self, name: str) -> dict[str, list[int]]:
        """See `proctable.cookies`."""
        if name not in self._cookies:
            self._cookies[name] = cookies(name)
        return self._cookies[name]

    @property
    def taken(self) -> bool:
        """Whether something was read, so that it may be older than what is asked from now on."""
        return bool(self._cookies) or "table" in self.__dict__ or "sessions" in self.__dict__


class Scans:
    """Gives out the looks of one reactor."""

    _shared: ClassVar["WeakKeyDictionary[Any, Scans]"] = WeakKeyDictionary()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._now: Sight | None = None
        self._next = Sight()

    @classmethod
    def of(cls, reactor: Any) -> "Scans":
        """The one of this reactor."""
        if reactor not in cls._shared:
            cls._shared[reactor] = cls(reactor)
        return cls._shared[reactor]

    def now(self) -> Sight:
        """A look taken in this turn."""
        if self._now is None:
            self._now = Sight()
            self._reactor.callLater(0, self._end_turn)
        return self._now

    def next(self, look: Callable[[Sight], None]) -> None:
        """Call ``look`` in the next turn, with a look taken after this call."""
        if self._next.taken:
            self._next = Sight()
        self._reactor.callLater(0, look, self._next)

    def _end_turn(self) -> None:
        self._now = None
