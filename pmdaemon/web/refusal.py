"""Why a request is not served, and how the operator hears of it.

Which requests these are is decided in ``guard``; how a client is told, in ``answer``.
"""

from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

__all__ = ["Refusal", "RefusalLog", "printable"]


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not served: an HTTP status, a code for programs, a sentence, and what to do about it."""

    status: int
    code: str
    message: str
    hint: str


class RefusalLog:
    """Tells the operator of refusals: each cause once a minute, however often it comes.

    At most ``CAUSES`` causes are remembered; while they are all fresh, further ones are not told.
    """

    SECONDS: Final = 60.0
    CAUSES: Final = 256

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._told: dict[Refusal, float] = {}

    def record(self, refusal: Refusal) -> None:
        """Log ``refusal`` unless the same was logged within the last minute."""
        now = self._clock.seconds()
        self._forget(now)
        if refusal in self._told or len(self._told) >= self.CAUSES:
            return
        self._told[refusal] = now
        self._log.warn(
            "refused a request: {message} ({code}); {hint}",
            message=printable(refusal.message),
            code=refusal.code,
            hint=printable(refusal.hint),
        )

    def _forget(self, now: float) -> None:
        # The clock may be set back; what then lies in the future is as good as old.
        for refusal, told in list(self._told.items()):
            if 0 <= now - told < self.SECONDS:
                break
            del self._told[refusal]


def printable(text: str) -> str:
    """``text`` on one line, with escapes for what a terminal would act on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
