"""What a daemon tells of itself: a line for each thing that happened, without the chatter of its libraries.

In the foreground it is printed, in the background it goes to a file; who could make it say anything can forge neither
a line of it nor what a terminal would act on.
"""

# mypy: disallow-untyped-calls=False
# (twisted.python.logfile has no annotations)

import os
import signal
import sys
from typing import IO, Any, Final

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, LogLevel, eventAsText, formatTime
from twisted.python.logfile import LogFile
from zope.interface import implementer

__all__ = ["MAX_FILES", "MAX_SIZE", "Console", "name_for", "observer"]

MAX_SIZE: Final = 10 * 1024 * 1024
"""Bytes of the file, about; then it is put aside as ``.1``, and another begun."""

MAX_FILES: Final = 5
"""Files put aside."""

_destination: dict[str, str] = {}

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


def name_for(path: str | None) -> str:
    """Return the name of ``observer``, which is all that twistd takes; *path* is the file that it is to write to.

    None is for standard output.
    """
    _destination.clear()
    if path is not None:
        _destination["path"] = path
    return f"{__name__}.{observer.__name__}"


def observer() -> Console:
    """Return the observer that twistd logs to; it knows it by its name."""
    path = _destination.get("path")
    return Console(sys.stdout if path is None else _open(path))


class _File(LogFile):
    """Has another begun when it is large, and when we get SIGUSR1, as twistd's own would."""

    due = False

    def shouldRotate(self) -> bool:
        """Whether the next line goes to another file."""
        return self.due or bool(super().shouldRotate())

    def rotate(self) -> None:
        """Begin another."""
        self.due = False
        super().rotate()


def _open(path: str) -> Any:
    directory, name = os.path.split(os.path.abspath(path))
    file = _File(name, directory, rotateLength=MAX_SIZE, maxRotatedFiles=MAX_FILES, defaultMode=0o600)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(file, "due", True))
    return file


def _level(event: LogEvent) -> Any:
    return event.get("log_level", LogLevel.info)


def _line(event: LogEvent) -> str:
    """Return time and text, a traceback below it; with the level where it is not the usual one."""
    said = eventAsText(event, includeTimestamp=False, includeSystem=False).strip().translate(_ESCAPED)
    text = said.replace("\n", "\n\t").encode("utf-8", "backslashreplace").decode("utf-8")
    prefix = "" if _level(event) is LogLevel.info else f"{_level(event).name}: "
    return f"{formatTime(event.get('log_time'))} {prefix}{text}\n"
