"""One HTTP request, without the pages Twisted would write for what it cannot serve."""

# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server

from pmdaemon.core.access import Caller
from pmdaemon.web.answer import answer
from pmdaemon.web.guard import Refusal

__all__ = ["Request"]

FAILED: Final = Refusal(500, "INTERNAL_ERROR", "cannot answer: a defect of the daemon", "the daemon's log says more")


class Request(server.Request):
    """Routes every target through the site, and answers a defect in JSON without its traceback."""

    log = Logger()
    defaultContentType = None
    channel: Any
    too_large = False
    """Whether the body was not read, for its size; set by the channel."""
    caller: Caller | None = None
    """Who asks; set by the guard."""

    def process(self) -> None:
        """Called when the request is complete."""
        if self.path == b"*":
            self.path = b"/*"  # Twisted would answer it without asking the site
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Called with what a resource raised."""
        self.log.failure("cannot answer a request for {path!r}", failure=reason, path=self.path)
        if self.startedWriting:
            self.loseConnection()
        else:
            self.write(answer(self, FAILED))
            self.finish()
        return reason
