"""What callers show to be let in: where it stands in a request, and whose it is.

What a caller without a credential may do is decided in ``guard``.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger
from twisted.web.http_headers import Headers

from pmdaemon.core.access import Caller, covers
from pmdaemon.core.selection import Selection
from pmdaemon.errors import InvalidConfiguration
from pmdaemon.private import read_private
from pmdaemon.tokens import Token, TokenFile, TokenFileError
from pmdaemon.web.refusal import Refusal

if TYPE_CHECKING:
    from pmdaemon.web.jwtkey import JwtKey

__all__ = [
    "BAD_TOKEN",
    "BEARER_PREFIX",
    "SCOPE_WITHDRAWN",
    "SUBPROTOCOL",
    "TOKEN_EXPIRED",
    "TOKEN_REQUIRED",
    "UNREADABLE",
    "Credentials",
    "load_api_key",
]

SUBPROTOCOL: Final = "pmdaemon.v1"
BEARER_PREFIX: Final = "base64url.bearer.authorization.pmdaemon."
"""How a browser, which can send no header, offers a token: as a subprotocol, its base64url behind this."""

_CREATE: Final = "pmdaemon token create"
TOKEN_REQUIRED: Final = Refusal(
    401,
    "TOKEN_REQUIRED",
    "cannot let you in without a token: this daemon belongs to another user",
    f"send Authorization: Bearer TOKEN; the daemon's user makes one: {_CREATE}",
)
BAD_TOKEN: Final = Refusal(
    401,
    "BAD_TOKEN",
    "cannot accept this token: it is none of this daemon's, or it was revoked",
    f"the daemon's user makes another: {_CREATE}",
)
TOKEN_EXPIRED: Final = Refusal(
    401, "TOKEN_EXPIRED", "cannot accept this token: its time is over", f"the daemon's user makes another: {_CREATE}"
)
SCOPE_WITHDRAWN: Final = Refusal(
    403, "SCOPE_WITHDRAWN", "cannot go on: the token allows less than it did", "connect anew with what is left"
)
UNREADABLE: Final = Refusal(
    500, "INTERNAL_ERROR", "cannot check the token: the daemon cannot read its token file", "the daemon's log says why"
)
_ALONE: Final = Refusal(
    400,
    "INVALID_CREDENTIALS",
    "cannot take a token as the only subprotocol: a client expects to hear which of its subprotocols is spoken",
    f"offer {SUBPROTOCOL} beside it",
)

_PREFIX: Final = BEARER_PREFIX.encode()
_MAX_LENGTH: Final = 8192
_MIN_API_KEY: Final = 16
_TEXT: Final = re.compile(rb"[!-~]+")


class Credentials:
    """Knows whose a credential is; ``now`` gives unix seconds."""

    _log = Logger()

    def __init__(
        self,
        tokens: TokenFile,
        now: Callable[[], float],
        *,
        api_key: str | None = None,
        jwt_key: "JwtKey | None" = None,
    ) -> None:
        self._tokens = tokens
        self._now = now
        self._api_key = None if api_key is None else _digest(api_key)
        self._jwt_key = jwt_key
        self._told = ""

    def identify(self, headers: Headers) -> Caller | Refusal | None:
        """The caller whose credential is in a request, why it is refused, or None where there is none."""
        offered = _offered(headers)
        bearers = [each for each in offered if each.startswith(_PREFIX)]
        shown = [
            *map(_bearer, headers.getRawHeaders(b"authorization", ())),
            *map(_text, headers.getRawHeaders(b"x-api-key", ())),
            *map(_decoded, bearers),
        ]
        if not shown:
            return None
        if len(shown) > 1:
            return Refusal(
                400,
                "INVALID_CREDENTIALS",
                f"cannot tell which token counts: the request has {len(shown)}",
                "send one, as Authorization: Bearer TOKEN, as X-API-Key, or as a subprotocol",
            )
        if bearers and SUBPROTOCOL.encode() not in offered:
            return _ALONE
        return BAD_TOKEN if shown[0] is None else self.verify(shown[0])

    def verify(self, text: str) -> Caller | Refusal:
        """The caller who shows this text: a token, the API key or a JWT."""
        try:
            caller = self._caller(text) if len(text) <= _MAX_LENGTH else None
        except TokenFileError as why:
            return self._unreadable(why)
        if caller is None:
            return BAD_TOKEN
        if self._is_over(caller):
            return TOKEN_EXPIRED
        if caller.token is not None:
            self._tokens.used(caller.token)
        return caller

    def recheck(self, caller: Caller) -> Refusal | None:
        """Why a caller who was let in may not stay, or None; as cheap as asking whether a file has changed."""
        if self._is_over(caller):
            return TOKEN_EXPIRED
        if caller.token is None:
            return None
        try:
            token = self._tokens.get(caller.token)
        except TokenFileError as why:
            return self._unreadable(why)
        if token is None:
            return BAD_TOKEN
        kept = covers(token.scope, caller.scope) and Selection(token.processes) == caller.processes
        return None if kept else SCOPE_WITHDRAWN

    def _caller(self, text: str) -> Caller | None:
        if self._api_key is not None and hmac.compare_digest(_digest(text), self._api_key):
            return Caller(name="api-key", kind="key", scope="start")
        token = self._tokens.find(text) if text.startswith("pmd_") else None
        if token is not None:
            return _of_token(token)
        return None if self._jwt_key is None else self._jwt_key.caller(text)

    def _is_over(self, caller: Caller) -> bool:
        return caller.expires is not None and caller.expires <= self._now()

    def _unreadable(self, why: TokenFileError) -> Refusal:
        if str(why) != self._told:
            self._told = str(why)
            self._log.error("{why}; {hint}", why=str(why), hint=why.hint)
        return UNREADABLE


def load_api_key(path: str | None, environment: Mapping[str, str]) -> str | None:
    """The static key of a file or, without one, of PMDAEMON_API_KEY; None where there is none.

    Raises InvalidConfiguration where it cannot be read or is no key.
    """
    if path is None:
        source, content = "PMDAEMON_API_KEY", environment.get("PMDAEMON_API_KEY", "").encode()
        if not content:
            return None
    else:
        source = path
        try:
            content = read_private(path).rstrip(b"\r\n")
        except OSError as why:
            reason = why.strerror or str(why)
            raise InvalidConfiguration(
                f"cannot use the API key {path}: {reason[:1].lower()}{reason[1:]}",
                hint="give a file with one line that only you can read",
            ) from why
    if not _TEXT.fullmatch(content) or not _MIN_API_KEY <= len(content) <= _MAX_LENGTH:
        raise InvalidConfiguration(
            f"cannot use the API key of {source}: it must be one word of {_MIN_API_KEY} or more characters",
            hint="make one: openssl rand -hex 32",
        )
    return content.decode("ascii")


def _of_token(token: Token) -> Caller:
    return Caller(
        name=token.name,
        kind="token",
        scope=token.scope,
        processes=Selection(token.processes),
        expires=token.expires,
        token=token.id,
    )


def _offered(headers: Headers) -> list[bytes]:
    """The subprotocols of a handshake."""
    lines = headers.getRawHeaders(b"sec-websocket-protocol", ())
    return [each.strip() for line in lines for each in line.split(b",")]


def _bearer(value: bytes) -> str | None:
    scheme, _, text = value.strip().partition(b" ")
    return _text(text) if scheme.lower() == b"bearer" else None


def _decoded(offered: bytes) -> str | None:
    coded = offered.removeprefix(_PREFIX)
    if not re.fullmatch(rb"[A-Za-z0-9_-]+={0,2}", coded):
        return None
    try:
        return _text(urlsafe_b64decode(coded.rstrip(b"=") + b"=" * (-len(coded.rstrip(b"=")) % 4)))
    except ValueError:
        return None


def _text(value: bytes) -> str | None:
    word = value.strip()
    return word.decode("ascii") if _TEXT.fullmatch(word) else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
