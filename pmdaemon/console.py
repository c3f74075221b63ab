"""What a daemon in the foreground prints: a line for each thing that happened, without the chatter of its libraries.

A log file holds everything, in Twisted's own format; that is twistd's business.
"""

import sys
from typing import IO, Any, Final

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, LogLevel, eventAsText, formatTime
from zope.interface import implementer

__all__ = ["Console", "observer"]

_ESCAPED: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a terminal would act on, whoever made us say it."""


@implementer(ILogObserver)
class Console:
    """Prints to *out* the warnings of everybody and what the daemon itself says, its debugging left out."""

    def __init__(self, out: IO[Any]) -> None:
        self._print = FileLogObserver(out, _line)

    def __call__(self, event: LogEvent) -> None:
        """Take one event."""
        own = str(event.get("log_namespace")).startswith("pmdaemon.")
        if _level(event) >= (LogLevel.info if own else LogLevel.warn):
            self._print(event)


def observer() -> Console:
    """Return the observer that twistd logs to; it knows it by its name."""
    return Console(sys.stdout)


def _level(event: LogEvent) -> Any:
    return event.get("log_level", LogLevel.info)


def _line(event: LogEvent) -> str:
    """Return time and text, a traceback below it; with the level where it is not the usual one."""
    said = eventAsText(event, includeTimestamp=False, includeSystem=False).strip().translate(_ESCAPED)
    text = said.replace("\n", "\n\t")
    prefix = "" if _level(event) is LogLevel.info else f"{_level(event).name}: "
    return f"{formatTime(event.get('log_time'))} {prefix}{text}\n"
