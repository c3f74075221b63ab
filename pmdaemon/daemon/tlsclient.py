"""TLS to a server whose certificate is checked, and plain words for why it did not come about.

This loads OpenSSL (see ``lean``): only who connects with TLS imports it.
"""

from typing import Any

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory

__all__ = ["TLSEndpoint", "tls_reason"]


class TLSEndpoint:
    """A stream client's endpoint that speaks TLS on a connection of another.

    Twisted's ``wrapClientTLS`` is the same, but has OpenSSL loaded with all endpoints, or does not work.
    The certificate has to be of ``host`` and to lead to one of ``trust``, an IOpenSSLTrustRoot; None is for those that
    the system trusts.
    """

    def __init__(self, reactor: Any, endpoint: Any, host: str, trust: Any = None) -> None:
        self._clock = reactor
        self._endpoint = endpoint
        self._options = optionsForClientTLS(host, trustRoot=trust)

    def connect(self, factory: Any) -> "Deferred[Any]":
        """Connect, and return the protocol that ``factory`` made; if TLS fails, it loses its connection by that."""
        tls = TLSMemoryBIOFactory(self._options, True, factory, self._clock)
        connecting: Deferred[Any] = self._endpoint.connect(tls)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def tls_reason(problem: BaseException) -> str | None:
    """One clause for what a connection was lost by; None where that is nothing of TLS.

    OpenSSL gives a list of library, function and words, of which the last words are nearest to the cause.
    """
    if isinstance(problem, CertificateError | VerificationError):
        return "the certificate is for another host name"
    if not isinstance(problem, SSL.Error):
        return None
    queue = problem.args[0] if problem.args and isinstance(problem.args[0], list) else []
    words = queue[-1][-1] if queue else "no reason given"
    return "the certificate is not trusted" if "certificate verify failed" in words else f"TLS failed: {words}"
