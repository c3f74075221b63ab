"""Plain words for why a connection failed."""

from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)

__all__ = ["plain_reason"]

_WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((CancelledError, ConnectingCancelledError), "given up"),
    ((ConnectionRefusedError,), "connection refused"),
    ((TCPTimedOutError,), "connection timed out"),
    ((NoRouteError,), "no route to that host"),
    ((DNSLookupError,), "the host name cannot be resolved"),
    ((ConnectionClosed,), "the connection was closed without an answer"),
)


def plain_reason(problem: BaseException, unforeseen: str | None = None) -> str:
    """One clause; for what is not foreseen here ``unforeseen``, or else the problem's own words."""
    known = next((words for types, words in _WORDS if isinstance(problem, types)), None)
    return known or unforeseen or str(problem) or type(problem).__name__
