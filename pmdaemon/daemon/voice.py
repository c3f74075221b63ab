"""How a process tells of itself: its three message types, worded from what it is when it speaks."""

from typing import Any, Protocol

from pmdaemon.core.events import HealthUpdate, ProcessEvent, ProcessStatus
from pmdaemon.core.selection import Identity
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.cause import Cause

__all__ = ["Speaker", "Voice"]


class Speaker(Identity, Protocol):
    """Who speaks: a process."""

    @property
    def instance(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def health(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def port(self) -> int | None: ...
    @property
    def spec(self) -> AppSpec: ...


class Voice:
    """Publishes on *bus*; one without a bus says nothing.

    It remembers the status it told last, and the ``cause`` of what it will tell.
    """

    def __init__(self, bus: EventBus | None) -> None:
        self._bus = bus
        self._told: str | None = None
        self.cause = Cause()

    def status(self, who: Speaker) -> None:
        """Tell the status where it differs from the one told last; the first one has none before it [P7]."""
        if self._bus is None or who.status == self._told:
            return
        previous, self._told = self._told, who.status
        event = ProcessStatus(
            id=who.id,
            name=who.name,
            app=who.app,
            instance=who.instance,
            namespace=who.namespace,
            status=who.status,
            previous_status=previous,
            pid=who.pid,
            port=who.port,
        )
        self._bus.publish(event, who)

    def resume(self, who: Speaker) -> None:
        """Take the status as told: an earlier daemon told it, and it has not changed."""
        self._told = who.status

    def health(self, who: Speaker, previous: str, details: dict[str, Any]) -> None:
        """Tell the health, which was *previous* before [P12]."""
        if self._bus is None or who.spec.check is None:
            return
        event = HealthUpdate(
            process=who.name,
            id=who.id,
            app=who.app,
            instance=who.instance,
            namespace=who.namespace,
            status=who.health,
            previous_status=previous,
            check_type=who.spec.check.check_type,
            details=details,
        )
        self._bus.publish(event, who)

    def event(self, who: Speaker, event: str, details: dict[str, Any]) -> None:
        """Tell a lifecycle event [P10], and what has caused it."""
        cause = self.cause.details(event)
        if self._bus is None:
            return
        told = ProcessEvent(
            event=event,
            process=who.name,
            id=who.id,
            app=who.app,
            instance=who.instance,
            namespace=who.namespace,
            details={**details, **cause},
        )
        self._bus.publish(told, who)
