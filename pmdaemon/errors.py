"""The errors a client can be told of, each with its wire code and its HTTP status.

Facts about children (a crash, a failed check) are events and never appear here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "InternalError",
    "InvalidConfiguration",
    "InvalidJSON",
    "InvalidMessage",
    "LimitExceeded",
    "OperationFailed",
    "PMDaemonError",
    "PermissionDenied",
    "PortInUse",
    "ProcessAlreadyExists",
    "ProcessAlreadyRunning",
    "ProcessNotFound",
    "ProcessStartFailed",
    "RateLimited",
    "TimedOut",
    "Unauthorized",
    "UnknownAction",
    "UnknownType",
]


class PMDaemonError(Exception):
    """An answer of the kind "cannot ...", with what to do about it.

    ``message`` is one plain sentence without a final stop; ``hint`` says what to do next, or is None;
    ``details`` holds JSON values for programs. ``other`` is the name of another app, if any, that these tell in quotes.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
        other: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})
        self.other = other

    def discreet(self) -> "PMDaemonError":
        """Return the same without the name of the other app, for those for whom that does not exist."""
        if self.other is None:
            return self
        name, nameless = f"'{self.other}'", "another app"
        return type(self)(
            self.message.replace(name, nameless),
            hint=self.hint and self.hint.replace(name, nameless),
            details={key: None if value == self.other else value for key, value in self.details.items()},
        )


class InternalError(PMDaemonError):
    """A defect of the daemon; the log holds the traceback, the client never sees it."""


class InvalidJSON(PMDaemonError):
    """The text is not JSON, or is nested too deeply to be read."""

    code, status = "INVALID_JSON", 400


class InvalidMessage(PMDaemonError):
    """The JSON is not a message: a wrong, missing or unknown field."""

    code, status = "INVALID_MESSAGE", 400


class UnknownType(PMDaemonError):
    """The message type is not one of the protocol's."""

    code, status = "UNKNOWN_TYPE", 400


class UnknownAction(PMDaemonError):
    """The command's action is not one of the protocol's."""

    code, status = "UNKNOWN_ACTION", 400


class InvalidConfiguration(PMDaemonError):
    """An app's configuration has a wrong, missing, unknown or duplicate key; ``details["path"]`` says where."""

    code, status = "INVALID_CONFIGURATION", 400


class ProcessNotFound(PMDaemonError):
    """No process matches the selector."""

    code, status = "PROCESS_NOT_FOUND", 404


class ProcessAlreadyExists(PMDaemonError):
    """The name is in use."""

    code, status = "PROCESS_ALREADY_EXISTS", 409


class ProcessAlreadyRunning(PMDaemonError):
    """The process that was to be started runs."""

    code, status = "PROCESS_ALREADY_RUNNING", 409


class ProcessStartFailed(PMDaemonError):
    """The first attempt of a start failed."""

    code, status = "PROCESS_START_FAILED", 500


class PortInUse(PMDaemonError):
    """A port that an app asked for is taken; the message names by whom, where that is known."""

    code, status = "PORT_IN_USE", 409


class OperationFailed(PMDaemonError):
    """A command was superseded by another or could not be carried out."""

    code, status = "OPERATION_FAILED", 500


class TimedOut(PMDaemonError):
    """The command was not done within its ``timeout``; it goes on."""

    code, status = "TIMEOUT", 504


class PermissionDenied(PMDaemonError):
    """The client is known and may not do this."""

    code, status = "PERMISSION_DENIED", 403


class Unauthorized(PMDaemonError):
    """The client is not known."""

    code, status = "UNAUTHORIZED", 401


class RateLimited(PMDaemonError):
    """Too many requests; ``details["retry_ms"]`` says when to come again."""

    code, status = "RATE_LIMITED", 429


class LimitExceeded(PMDaemonError):
    """A bound of the daemon was reached; the message names it."""

    code, status = "LIMIT_EXCEEDED", 413
