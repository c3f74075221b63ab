"""Who may ask, and what: the policy, cell by cell, in memory; over a real port it is in tests.integration."""

import os
from base64 import urlsafe_b64encode
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from pmdaemon.core.access import Caller, Scope
from pmdaemon.tokens import TokenFile
from pmdaemon.web.credentials import BEARER_PREFIX, Credentials
from pmdaemon.web.guard import Guard, Refusal
from pmdaemon.web.limits import FAILURES, FailedLogins
from pmdaemon.web.peer import Peer
from pmdaemon.web.places import Places

OWN = 1000
HERE = "127.0.0.1"
PEERS = {
    "own": Peer(HERE, OWN),
    "other": Peer(HERE, 1001),
    "root": Peer(HERE, 0),
    "unknown": Peer(HERE, None),
    "remote": Peer("192.0.2.7", None),
    "own, Unix": Peer("", OWN),
    "root, Unix": Peer("", 0),
    "other, Unix": Peer("", 1001),
}
LET_IN = {"own", "own, Unix", "root, Unix"}


class Case(SynchronousTestCase):
    """Has a token file with a token of each scope."""

    def setUp(self) -> None:
        self.clock = Clock()
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        self.tokens = TokenFile(directory / "tokens.json", self.clock.seconds)
        self.guard = self.make(Places())

    def make(self, places: Places, *, read_only: bool = False) -> Guard:
        credentials = Credentials(self.tokens, self.clock.seconds, api_key="a-key-of-sixteen-or-more")
        return Guard(places, credentials, FailedLogins(self.clock), own=OWN, read_only=read_only)

    def judge(
        self, peer: str = "own", *, token: str | None = None, origin: str | None = None, host: str = "localhost:9615"
    ) -> str:
        """The scope that is given, or status and code of the refusal."""
        headers = Headers({b"host": [host.encode()]})
        if token is not None:
            headers.addRawHeader(b"authorization", b"Bearer " + token.encode())
        if origin is not None:
            headers.addRawHeader(b"origin", origin.encode())
        return said(self.guard.judge(headers, PEERS[peer], secure=False))

    def token(self, scope: Scope, lifetime: float | None = None) -> str:
        return self.tokens.create(None, scope, lifetime=lifetime)[1]


def said(judged: Caller | Refusal) -> str:
    return judged.scope if isinstance(judged, Caller) else f"{judged.status} {judged.code}"


class GuardTests(Case):
    """In the order of the checks."""

    def test_without_a_token_only_the_own_user_and_root_on_the_unix_socket(self) -> None:
        for peer in PEERS:
            for origin in (None, "http://localhost:9615"):
                expected = "start" if peer in LET_IN else "401 TOKEN_REQUIRED"
                self.assertEqual(self.judge(peer, origin=origin), expected, (peer, origin))

    def test_other_pages(self) -> None:
        for peer in PEERS:
            for origin in ("https://evil.example", "null", "http://localhost:3000", "http://evil@localhost:9615"):
                self.assertEqual(self.judge(peer, origin=origin), "403 ORIGIN_NOT_ALLOWED", (peer, origin))

    def test_a_name_that_is_not_ours_is_refused_before_anything_else_but_on_the_unix_socket(self) -> None:
        token = self.token("start")
        for peer in PEERS:
            for shown in (None, token, "wrong"):
                found = self.judge(peer, token=shown, host="evil.example")
                if not PEERS[peer].unix:
                    self.assertEqual(found, "421 HOST_NOT_ALLOWED", (peer, shown))
        self.assertEqual(self.judge("own, Unix", host="evil.example"), "start")

    def test_a_token_gives_its_scope_to_anybody_from_any_page(self) -> None:
        for scope in ("read", "operate", "start"):
            token = self.token(scope)
            for peer in PEERS:
                for origin in (None, "null", "https://evil.example"):
                    self.assertEqual(self.judge(peer, token=token, origin=origin), scope, (peer, origin))

    def test_a_wrong_one_is_not_made_good_by_who_shows_it(self) -> None:
        expired = self.token("start", lifetime=10)
        self.clock.advance(11)
        for peer in PEERS:
            self.assertEqual(self.judge(peer, token="pmd_wrong"), "401 BAD_TOKEN", peer)
            self.assertEqual(self.judge(peer, token=expired), "401 TOKEN_EXPIRED", peer)

    def test_as_a_subprotocol(self) -> None:
        offered = BEARER_PREFIX + urlsafe_b64encode(self.token("read").encode()).decode().rstrip("=")
        headers = Headers({b"host": [b"localhost"], b"sec-websocket-protocol": [f"pmdaemon.v1, {offered}".encode()]})
        self.assertEqual(said(self.guard.judge(headers, PEERS["remote"], secure=True)), "read")

    def test_the_api_key(self) -> None:
        headers = Headers({b"host": [b"localhost"], b"x-api-key": [b"a-key-of-sixteen-or-more"]})
        self.assertEqual(said(self.guard.judge(headers, PEERS["remote"], secure=True)), "start")

    def test_two_tokens(self) -> None:
        headers = Headers({b"host": [b"localhost"], b"authorization": [b"Bearer a", b"Bearer b"]})
        self.assertEqual(said(self.guard.judge(headers, PEERS["own"], secure=False)), "400 INVALID_CREDENTIALS")

    def test_pages_without_an_origin_may_look_where_that_is_allowed(self) -> None:
        self.guard = self.make(Places(allow_null=True))
        self.assertEqual(self.judge("own", origin="null"), "read")
        self.assertEqual(self.judge("other", origin="null"), "401 TOKEN_REQUIRED")
        self.assertEqual(self.judge("own", origin="null", token=self.token("operate")), "operate")

    def test_read_only_is_for_everybody(self) -> None:
        self.guard = self.make(Places(), read_only=True)
        token = self.token("start")
        for peer in LET_IN:
            self.assertEqual(self.judge(peer), "read")
        self.assertEqual(self.judge("remote", token=token), "read")
        self.assertEqual(said(self.guard.authenticate(token, PEERS["own"])), "read")

    def test_too_many_wrong_tokens(self) -> None:
        token = self.token("read")
        for _ in range(FAILURES):
            self.assertEqual(self.judge("other", token="wrong"), "401 BAD_TOKEN")
        self.assertEqual(self.judge("other", token="wrong"), "429 RATE_LIMITED")
        self.assertEqual(self.judge("other", token=token), "429 RATE_LIMITED", "a right one is not looked at either")
        self.assertEqual(said(self.guard.authenticate(token, PEERS["other"])), "429 RATE_LIMITED")
        self.assertEqual(self.judge("other"), "401 TOKEN_REQUIRED")
        self.assertEqual(self.judge("remote", token=token), "read", "who is somebody else")
        self.clock.advance(60)
        self.assertEqual(self.judge("other", token=token), "read")

    def test_a_token_file_that_cannot_be_read_lets_nobody_in(self) -> None:
        token = self.token("start")
        os.chmod(self.tokens.path, 0o644)
        self.tokens.path.write_text("{")
        self.assertEqual(self.judge("own", token=token), "500 INTERNAL_ERROR")
        self.assertEqual(self.judge("own"), "start")
