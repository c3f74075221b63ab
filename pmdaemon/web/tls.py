"""TLS on the port: certificate, key, and whose client certificates are taken; every mistake is one clear line.

What is spoken within, and who may, is decided as it is without TLS.
"""

# mypy: disallow-untyped-calls=False
# (twisted.internet.ssl has few annotations)

from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import Error as OpenSSLError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.ssl import Certificate as TwistedCertificate
from twisted.internet.ssl import CertificateOptions, TLSVersion, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory

from pmdaemon.errors import InvalidConfiguration
from pmdaemon.private import MAX_SIZE, read_private

__all__ = ["load_tls", "secured"]

T = TypeVar("T")

_CERTIFICATE_HINT: Final = "give a file in PEM: the certificate, then those that lead to its authority"
_KEY_HINT: Final = "give the certificate's key in PEM, without a pass phrase, in a file that only you can read"


def load_tls(cert: str | None, key: str | None, client_ca: str | None = None) -> CertificateOptions:
    """Read what ``--tls-cert``, ``--tls-key`` and ``--tls-client-ca`` name.

    With ``client_ca``, only clients with a certificate of one of its authorities can connect. Raises
    InvalidConfiguration.
    """
    if cert is None or key is None:
        raise InvalidConfiguration(
            "cannot use TLS: a certificate and its key are needed", hint="give both --tls-cert and --tls-key"
        )
    chain = _certificates(cert, "TLS certificate")
    authorities = None if client_ca is None else _certificates(client_ca, "TLS client authority")
    options = CertificateOptions(
        privateKey=_key(key, chain[0]),
        certificate=X509.from_cryptography(chain[0]),
        extraCertChain=[X509.from_cryptography(each) for each in chain[1:]],
        trustRoot=None if authorities is None else trustRootFromCertificates(list(map(_as_twisted, authorities))),
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],  # no HTTP/2, on which a WebSocket handshake of ours does not work
    )
    try:
        options.getContext()
    except OpenSSLError as why:
        _refuse("TLS certificate", cert, f"OpenSSL refuses it: {_in_words(why)}", _CERTIFICATE_HINT)
    return options


def secured(factory: Any, options: CertificateOptions, clock: IReactorTime) -> TLSMemoryBIOFactory:
    """``factory`` behind TLS."""
    return TLSMemoryBIOFactory(options, False, factory, clock)


def _certificates(path: str, what: str) -> list[Certificate]:
    def read() -> list[Certificate]:
        with open(path, "rb") as file:
            return load_pem_x509_certificates(file.read(MAX_SIZE))

    return _read(read, what, path, "it is no certificate in PEM", _CERTIFICATE_HINT)


def _key(path: str, certificate: Certificate) -> PKey:
    private = _read(
        lambda: load_pem_private_key(read_private(path), None), "TLS key", path, "it is no key in PEM", _KEY_HINT
    )
    if private.public_key() != certificate.public_key():
        _refuse("TLS key", path, "it is not the certificate's", _KEY_HINT)
    try:
        return PKey.from_cryptography_key(private)  # type: ignore[arg-type]  # it says which kinds it does not take
    except TypeError:
        _refuse("TLS key", path, "it is of a kind that is not taken", _KEY_HINT)


def _read(read: Callable[[], T], what: str, path: str, wrong: str, hint: str) -> T:
    """Return what ``read`` returns, or refuse the file, with ``wrong`` for its content."""
    try:
        return read()
    except OSError as why:
        reason = why.strerror or str(why)
        _refuse(what, path, reason[:1].lower() + reason[1:], hint)
    except TypeError:  # cryptography's word for a key that a pass phrase is needed for
        _refuse(what, path, "it has a pass phrase", hint)
    except (ValueError, UnsupportedAlgorithm):
        _refuse(what, path, wrong, hint)


def _refuse(what: str, path: str, reason: str, hint: str) -> NoReturn:
    raise InvalidConfiguration(f"cannot use the {what} {path}: {reason}", hint=hint) from None


def _as_twisted(certificate: Certificate) -> TwistedCertificate:
    return TwistedCertificate(X509.from_cryptography(certificate))


def _in_words(why: OpenSSLError) -> str:
    """OpenSSL's reasons without the names of its functions."""
    reasons = why.args[0] if why.args and isinstance(why.args[0], list) else []
    return ", ".join(reason[-1] for reason in reasons) or "no reason is given"
