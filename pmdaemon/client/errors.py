"""What goes wrong beside what the daemon itself says: no daemon, a broken connection, a reply nobody understands."""

from typing import ClassVar

from pmdaemon.errors import PMDaemonError

__all__ = ["ConnectionLost", "NoDaemon", "ProtocolError"]


class NoDaemon(PMDaemonError):
    """Nobody answers at the address."""

    code: ClassVar[str] = "NO_DAEMON"
    status: ClassVar[int] = 503


class ConnectionLost(PMDaemonError):
    """The connection broke before the reply came; whether the request was carried out is not known."""

    code: ClassVar[str] = "CONNECTION_LOST"
    status: ClassVar[int] = 503


class ProtocolError(PMDaemonError):
    """What came is not what this client understands: no daemon of this kind, or one of another age."""

    code: ClassVar[str] = "PROTOCOL_ERROR"
    status: ClassVar[int] = 502
