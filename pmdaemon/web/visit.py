"""One connection's standing: who is calling, whether that still holds, how quick it may be, and the place it takes up.

What lets a caller in is decided in ``guard``, what each may ask in ``core.access``.
"""

from typing import Final

from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.access import Caller
from pmdaemon.core.selection import Selection
from pmdaemon.errors import InternalError, PMDaemonError, RateLimited, Unauthorized
from pmdaemon.web.credentials import SCOPE_WITHDRAWN
from pmdaemon.web.guard import Guard, Refusal
from pmdaemon.web.limits import MessageRate, Place
from pmdaemon.web.peer import Peer

__all__ = ["DEFECT", "NO_TOKEN", "TOO_MANY", "WITHDRAWN", "Visit"]

NO_TOKEN: Final = 4401
WITHDRAWN: Final = 4403
TOO_MANY: Final = 4429
DEFECT: Final = 1011
"""Close codes: the token is no longer good, allows less, or too much was asked; the daemon cannot tell."""


class Visit:
    """The caller at the other end of one connection; ``place`` is given back when it is over."""

    def __init__(self, caller: Caller, peer: Peer, guard: Guard, place: Place, clock: IReactorTime) -> None:
        self.caller = caller
        self._peer = peer
        self._guard = guard
        self._place = place
        self._rate = MessageRate(clock)

    @property
    def within(self) -> Selection | None:
        """The processes that exist for the caller, None for all."""
        return None if self.caller.processes.selectors is None else self.caller.processes

    @property
    def may_end(self) -> bool:
        """Whether the caller's right to be here may come to an end."""
        return self.caller.expires is not None or self.caller.token is not None

    def spend(self) -> int | None:
        """Count one message; returns the code to close with where there were far too many. Raises RateLimited."""
        if self.caller.kind == "user":
            return None
        try:
            self._rate.spend()
        except RateLimited:
            if self._rate.exhausted:
                return TOO_MANY
            raise
        return None

    def recheck(self) -> tuple[int, str] | None:
        """The code and reason to close with where the caller may not stay, or None."""
        refusal = self._guard.recheck(self.caller) if self.may_end else None
        if refusal is None:
            return None
        if refusal == SCOPE_WITHDRAWN:
            return WITHDRAWN, refusal.message
        return (NO_TOKEN if refusal.status == 401 else DEFECT), refusal.message

    def authenticate(self, text: str) -> Caller:
        """Go on as the caller who shows this text. Raises Unauthorized or another PMDaemonError."""
        found = self._guard.authenticate(text, self._peer)
        if isinstance(found, Refusal):
            raise _error(found)
        self.caller = found
        return found

    def over(self) -> None:
        """The connection has ended."""
        self._place.leave()


def _error(refusal: Refusal) -> PMDaemonError:
    kinds: dict[int, type[PMDaemonError]] = {401: Unauthorized, 429: RateLimited}
    details = {"retry_ms": 60_000} if refusal.status == 429 else {}
    return kinds.get(refusal.status, InternalError)(refusal.message, hint=refusal.hint, details=details)
