"""Plain words for why a connection or a request failed."""

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.web.client import RequestTransmissionFailed, ResponseFailed

__all__ = ["plain_reason"]

_WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((CancelledError, ConnectingCancelledError), "given up"),
    ((ConnectionRefusedError,), "connection refused"),
    ((TCPTimedOutError,), "connection timed out"),
    ((NoRouteError,), "no route to that host"),
    ((DNSLookupError,), "the host name cannot be resolved"),
    ((CertificateError, VerificationError), "the certificate is for another host name"),
    ((ConnectionClosed,), "the connection was closed without an answer"),
)


def plain_reason(problem: BaseException) -> str:
    """One clause; for what is not foreseen, the problem's own words."""
    if isinstance(problem, ResponseFailed | RequestTransmissionFailed):
        return _known(problem.reasons[0].value) or "the answer cannot be read as HTTP"
    return _known(problem) or str(problem) or type(problem).__name__


def _known(problem: BaseException) -> str | None:
    if isinstance(problem, SSL.Error):
        return _tls_reason(problem)
    return next((words for types, words in _WORDS if isinstance(problem, types)), None)


def _tls_reason(problem: SSL.Error) -> str:
    """OpenSSL gives a list of library, function and words; the last words are nearest to the cause."""
    queue = problem.args[0] if problem.args and isinstance(problem.args[0], list) else []
    words = queue[-1][-1] if queue else "no reason given"
    return "the certificate is not trusted" if "certificate verify failed" in words else f"TLS failed: {words}"
