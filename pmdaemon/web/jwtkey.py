"""JSON Web Tokens of another issuer: who signed with the one key may say what a caller is allowed.

The key alone decides on the algorithm; what a token says of that is only compared.
"""

from typing import Annotated, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Meta, Struct

from pmdaemon.core.access import Caller, widest
from pmdaemon.core.selection import Selection
from pmdaemon.errors import InvalidConfiguration
from pmdaemon.private import read_private

__all__ = ["AUDIENCE", "JwtKey"]

AUDIENCE: Final = "pmdaemon"
"""What the ``aud`` claim must be, or have in it."""

_MIN_SECRET: Final = 32
_MIN_RSA: Final = 2048
_HINT: Final = (
    "give a public key in PEM (RSA of 2048 bits or more, P-256 or Ed25519), or at least 32 bytes of secret for HS256"
)

_PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class _Claims(Struct, frozen=True):
    exp: Annotated[float, Meta(ge=0, le=2**40)]
    scope: str | list[str]
    sub: str = ""
    processes: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=1000)] | None = None


class JwtKey:
    """The key that tokens must be signed with, and its algorithm; make one with ``load``."""

    def __init__(self, key: _PublicKey | bytes, algorithm: str) -> None:
        self._key = key
        self.algorithm = algorithm

    @classmethod
    def load(cls, path: str) -> "JwtKey":
        """Read a key from a file. Raises InvalidConfiguration, with the reason in its message."""
        try:
            content = read_private(path, public=True)
            if content.lstrip().startswith(b"-----BEGIN"):
                return cls(*_public(content))
            return cls(_secret(read_private(path)), "HS256")
        except (OSError, ValueError) as why:
            reason = getattr(why, "strerror", None) or str(why)
            raise InvalidConfiguration(
                f"cannot use the JWT key {path}: {reason[:1].lower()}{reason[1:]}", hint=_HINT
            ) from why

    def caller(self, text: str) -> Caller | None:
        """The caller that a token makes, whose time may be over already; None where it is not valid."""
        try:
            claims = msgspec.convert(self._decoded(text), _Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError, RecursionError, OverflowError):
            return None
        scope = widest(claims.scope.split() if isinstance(claims.scope, str) else claims.scope)
        if scope is None:
            return None
        return Caller(
            name=claims.sub if claims.sub.isprintable() and 0 < len(claims.sub) <= 64 else "jwt",
            kind="jwt",
            scope=scope,
            processes=Selection(claims.processes),
            expires=claims.exp,
        )

    def _decoded(self, text: str) -> object:
        return jwt.decode(
            text,
            self._key,
            algorithms=[self.algorithm],
            audience=AUDIENCE,
            options={"require": ["exp", "aud"], "verify_exp": False},  # whether it is over is judged by our own clock
        )


def _public(content: bytes) -> tuple[_PublicKey, str]:
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is not a public key in PEM") from None
    if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA:
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, Ed25519PublicKey):
        return key, "EdDSA"
    raise ValueError("it is of a kind or a size that is not taken")


def _secret(content: bytes) -> bytes:
    secret = content.rstrip(b"\r\n")
    if len(secret) < _MIN_SECRET:
        raise ValueError(f"it has {len(secret)} bytes, {_MIN_SECRET} are needed")
    return secret
