"""How a command of the console script fails: its exit codes, and what is said on standard error."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from pmdaemon.errors import PMDaemonError

__all__ = ["Exit", "Failure", "exit_of", "failure_of"]


class Exit(IntEnum):
    """The codes that the script ends with: one a kind of error."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 10
    EXISTS = 11
    START_FAILED = 12
    STOP_FAILED = 13
    RESTART_FAILED = 14
    INVALID = 20
    UNREADABLE = 21
    UNPARSABLE = 22
    PORT_IN_USE = 30
    TIMEOUT = 40
    UNHEALTHY = 41
    WEB_PORT = 50
    NO_DAEMON = 51
    DENIED = 60
    REFUSED = 61
    INTERRUPTED = 130


class Failure(Exception):
    """A command could not do it: what and why in one sentence, what to do next, and the exit code."""

    def __init__(self, message: str, *hints: str, exit: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hints = hints
        self.exit = exit


_EXITS: Final[Mapping[str, Exit]] = {
    "PROCESS_NOT_FOUND": Exit.NOT_FOUND,
    "PROCESS_ALREADY_EXISTS": Exit.EXISTS,
    "PROCESS_ALREADY_RUNNING": Exit.EXISTS,
    "PROCESS_START_FAILED": Exit.START_FAILED,
    "INVALID_CONFIGURATION": Exit.INVALID,
    "PORT_IN_USE": Exit.PORT_IN_USE,
    "TIMEOUT": Exit.TIMEOUT,
    "NO_DAEMON": Exit.NO_DAEMON,
    "UNAUTHORIZED": Exit.REFUSED,
    "PERMISSION_DENIED": Exit.REFUSED,
}
_OF_ACTION: Final[Mapping[tuple[str, str], Exit]] = {
    ("stop", "OPERATION_FAILED"): Exit.STOP_FAILED,
    ("restart", "OPERATION_FAILED"): Exit.RESTART_FAILED,
    ("restart", "PROCESS_START_FAILED"): Exit.RESTART_FAILED,
    ("reload", "OPERATION_FAILED"): Exit.RESTART_FAILED,
    ("reload", "PROCESS_START_FAILED"): Exit.RESTART_FAILED,
}


def exit_of(error: PMDaemonError, action: str = "") -> Exit:
    """Return the exit code of an error, of a command's *action* where that makes a difference."""
    return _OF_ACTION.get((action, error.code)) or _EXITS.get(error.code, Exit.FAILED)


def failure_of(error: PMDaemonError, action: str = "", *, home: str | None = None) -> Failure:
    """Return an error of the daemon or the client as what is told the user; *home* is the one that was looked in."""
    hints = [error.hint] if error.hint else []
    if error.code == "NO_DAEMON":
        where = f" --home {home}" if home else ""
        hints = [f"start one: twistd pmdaemon{where}", f"or with your first program: pmdaemon start SCRIPT{where}"]
    elif error.code == "PROCESS_NOT_FOUND":
        near = error.details.get("matches") or []
        hints = [f"did you mean: {', '.join(near)}"] if near else []
        hints.append("see all: pmdaemon list")
    return Failure(error.message, *hints, exit=exit_of(error, action))
