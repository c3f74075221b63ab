"""Who may ask, and what: judges a request before anything else looks at it.

Every path passes here, pages and the WebSocket handshake alike. Where a request comes from is judged by ``places``,
what it shows by ``credentials``, who is at the other end of its connection by ``peer``.
"""

from collections.abc import Callable
from typing import Final

from twisted.web.http_headers import Headers

from pmdaemon.core.access import Caller, limited
from pmdaemon.web.credentials import TOKEN_REQUIRED, Credentials
from pmdaemon.web.limits import FailedLogins, source
from pmdaemon.web.peer import Peer
from pmdaemon.web.places import Places
from pmdaemon.web.refusal import Refusal, RefusalLog

__all__ = ["Guard", "Refusal", "RefusalLog"]

_READ_ONLY: Final = "the daemon was started with --read-only"
_NOWHERE: Final = "a page without an origin may only read; let it send a token, or open it at the daemon's address"


class Guard:
    """Lets in who shows a credential, and the user ``own``, whose daemon this is; ``read_only`` is for everybody."""

    def __init__(
        self, places: Places, credentials: Credentials, logins: FailedLogins, *, own: int, read_only: bool = False
    ) -> None:
        self._places = places
        self._credentials = credentials
        self._logins = logins
        self._own = own
        self._read_only = read_only

    def judge(self, headers: Headers, peer: Peer, *, secure: bool) -> Caller | Refusal:
        """The caller, or why a request is not served; ``secure`` tells whether it came by TLS. Never raises.

        A credential that is wrong is never made good by who the peer is; a right one is, unlike a user's being logged
        in, nothing that a page of somebody else's could have on its side: so then the page does not matter.
        """
        refusal = None if peer.unix else self._places.check_host(headers, secure=secure)
        if refusal is not None:
            return refusal
        shown = self._known(peer, lambda: self._credentials.identify(headers))
        if shown is not None:
            return shown
        refusal = self._places.check_origin(headers, secure=secure)
        if refusal is not None:
            return refusal
        if peer.uid is None or (peer.uid != self._own and not (peer.unix and peer.uid == 0)):
            return TOKEN_REQUIRED
        caller = self._limited(Caller(name=f"uid:{peer.uid}", kind="user", scope="start"))
        return limited(caller, "read", _NOWHERE) if self._places.is_nowhere(headers) else caller

    def authenticate(self, text: str, peer: Peer) -> Caller | Refusal:
        """The caller who shows this text, a token or a key of another kind; or why there is none."""
        shown = self._known(peer, lambda: self._credentials.verify(text))
        return TOKEN_REQUIRED if shown is None else shown

    def recheck(self, caller: Caller) -> Refusal | None:
        """Why a caller who was let in may not stay, or None."""
        return self._credentials.recheck(caller)

    def _known(self, peer: Peer, look: Callable[[], Caller | Refusal | None]) -> Caller | Refusal | None:
        """What ``look`` finds, unless the peer has shown too much that was wrong."""
        found = look()
        if found is None:
            return None
        who = source(peer)
        blocked = self._logins.refusal(who)
        if blocked is not None:
            return blocked
        if isinstance(found, Caller):
            return self._limited(found)
        if found.status == 401:
            self._logins.failed(who)
        return found

    def _limited(self, caller: Caller) -> Caller:
        return limited(caller, "read", _READ_ONLY) if self._read_only else caller
