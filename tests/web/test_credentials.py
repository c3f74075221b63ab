"""What callers show: where it may stand, whose it is, and that nothing else is let in."""

from base64 import urlsafe_b64encode
from pathlib import Path

import jwt
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from pmdaemon.core.access import Caller, limited
from pmdaemon.core.selection import Selection
from pmdaemon.errors import InvalidConfiguration
from pmdaemon.tokens import TokenFile
from pmdaemon.web.credentials import (
    BAD_TOKEN,
    BEARER_PREFIX,
    SCOPE_WITHDRAWN,
    TOKEN_EXPIRED,
    UNREADABLE,
    Credentials,
    load_api_key,
)
from pmdaemon.web.jwtkey import JwtKey
from pmdaemon.web.refusal import Refusal

API_KEY = "a-key-of-sixteen+"
SECRET = b"0123456789abcdef0123456789abcdef"
START = 1_800_000_000.0


def subprotocol(text: str) -> str:
    """How a browser offers a token."""
    return BEARER_PREFIX + urlsafe_b64encode(text.encode()).decode().rstrip("=")


class Case(SynchronousTestCase):
    """Credentials of every kind, and one token."""

    def setUp(self) -> None:
        self.now = START
        self.path = Path(self.mktemp()) / "tokens.json"
        self.file = TokenFile(self.path, lambda: self.now)
        self.token, self.text = self.file.create("ci", "operate", ("web-*",), 3600.0)
        self.credentials = Credentials(
            TokenFile(self.path, lambda: self.now),
            lambda: self.now,
            api_key=API_KEY,
            jwt_key=JwtKey(SECRET, "HS256"),
        )

    def identify(self, **headers: str | list[str]) -> Caller | Refusal | None:
        """What comes of headers; ``x_api_key`` stands for X-API-Key."""
        values = {name: [value] if isinstance(value, str) else value for name, value in headers.items()}
        raw = {name.replace("_", "-").encode(): [v.encode("latin-1") for v in value] for name, value in values.items()}
        return self.credentials.identify(Headers(raw))

    def name(self, found: Caller | Refusal | None) -> str | None:
        return found.name if isinstance(found, Caller) else None


class PlaceTests(Case):
    """Where a credential may stand."""

    def test_none(self) -> None:
        self.assertIsNone(self.identify())
        self.assertIsNone(self.identify(sec_websocket_protocol="pmdaemon.v1, chat", cookie="token=x"))

    def test_each_place(self) -> None:
        for headers in (
            {"authorization": f"Bearer {self.text}"},
            {"authorization": f"bearer  {self.text} "},
            {"x_api_key": self.text},
            {"sec_websocket_protocol": f"pmdaemon.v1, {subprotocol(self.text)}"},
            {"sec_websocket_protocol": f"{subprotocol(self.text)}==,pmdaemon.v1"},
            {"sec_websocket_protocol": ["chat", "pmdaemon.v1", subprotocol(self.text)]},
        ):
            found = self.identify(**headers)
            assert isinstance(found, Caller), (headers, found)
            self.assertEqual(
                (found.name, found.kind, found.scope, found.processes, found.expires, found.token),
                ("ci", "token", "operate", Selection(["web-*"]), START + 3600, self.token.id),
            )

    def test_two_are_one_too_many(self) -> None:
        bearer = f"Bearer {self.text}"
        for headers in (
            {"authorization": [bearer, bearer]},
            {"authorization": bearer, "x_api_key": self.text},
            {"authorization": bearer, "x_api_key": ""},
            {"x_api_key": [API_KEY, "x"]},
            {"authorization": "Basic eDp5", "sec_websocket_protocol": f"pmdaemon.v1, {subprotocol(self.text)}"},
            {"sec_websocket_protocol": ", ".join(["pmdaemon.v1", *[subprotocol(self.text)] * 2])},
        ):
            found = self.identify(**headers)
            assert isinstance(found, Refusal), headers
            self.assertEqual((found.status, found.code), (400, "INVALID_CREDENTIALS"), headers)
            self.assertIn("the request has 2", found.message)

    def test_a_token_as_the_only_subprotocol(self) -> None:
        found = self.identify(sec_websocket_protocol=subprotocol(self.text))
        assert isinstance(found, Refusal)
        self.assertEqual(
            (found.status, found.code, found.hint), (400, "INVALID_CREDENTIALS", "offer pmdaemon.v1 beside it")
        )

    def test_what_is_shown_and_is_none_is_refused(self) -> None:
        """Never taken as if nothing had been shown: the caller's user does not help then."""
        for headers in (
            {"authorization": ""},
            {"authorization": "Bearer"},
            {"authorization": "Bearer "},
            {"authorization": self.text},
            {"authorization": f"Basic {self.text}"},
            {"authorization": f"Bearer {self.text} {self.text}"},
            {"authorization": f"Bearer {self.text}x"},
            {"authorization": f"Bearer {self.text}, Bearer {self.text}"},
            {"authorization": f"Bearer\t{self.text}"},
            {"x_api_key": ""},
            {"x_api_key": "\xff"},
            {"x_api_key": f"Bearer {self.text}"},
            {"sec_websocket_protocol": f"pmdaemon.v1, {BEARER_PREFIX}"},
            {"sec_websocket_protocol": f"pmdaemon.v1, {BEARER_PREFIX}%%%"},
            {"sec_websocket_protocol": f"pmdaemon.v1, {BEARER_PREFIX}A"},
            {"sec_websocket_protocol": f"pmdaemon.v1, {BEARER_PREFIX}{self.text}"},
            {"sec_websocket_protocol": f"pmdaemon.v1, {subprotocol('Bearer ' + self.text)}"},
        ):
            self.assertEqual(self.identify(**headers), BAD_TOKEN, headers)

    @given(st.binary() | st.binary().map(lambda raw: b"Bearer " + raw), st.sampled_from(["authorization", "x-api-key"]))
    def test_any_bytes(self, value: bytes, header: str) -> None:
        self.assertEqual(self.credentials.identify(Headers({header.encode(): [value]})), BAD_TOKEN)

    @given(st.lists(st.binary() | st.binary().map(lambda raw: BEARER_PREFIX.encode() + raw)))
    def test_any_subprotocols(self, values: list[bytes]) -> None:
        found = self.credentials.identify(Headers({b"sec-websocket-protocol": values}))
        self.assertFalse(isinstance(found, Caller))


class KindTests(Case):
    """Whose it is."""

    def test_the_api_key(self) -> None:
        found = self.credentials.verify(API_KEY)
        self.assertEqual(found, Caller(name="api-key", kind="key", scope="start"))
        self.assertEqual(self.credentials.verify(API_KEY + "x"), BAD_TOKEN)

    def test_a_jwt(self) -> None:
        claims = {"exp": START + 60, "aud": "pmdaemon", "scope": "read", "sub": "alice"}
        self.assertEqual(self.name(self.credentials.verify(jwt.encode(claims, SECRET))), "alice")
        self.now += 60
        self.assertEqual(self.credentials.verify(jwt.encode(claims, SECRET)), TOKEN_EXPIRED)

    def test_only_what_is_configured(self) -> None:
        plain = Credentials(self.file, lambda: self.now)
        claims = {"exp": START + 60, "aud": "pmdaemon", "scope": "read"}
        for text in (API_KEY, jwt.encode(claims, SECRET), ""):
            self.assertEqual(plain.verify(text), BAD_TOKEN)
        self.assertEqual(self.name(plain.verify(self.text)), "ci")

    def test_an_expired_token(self) -> None:
        self.now += 3599.9
        self.assertEqual(self.name(self.credentials.verify(self.text)), "ci")
        self.now += 0.1
        self.assertEqual(self.credentials.verify(self.text), TOKEN_EXPIRED)

    def test_a_revoked_token(self) -> None:
        self.assertEqual(self.name(self.credentials.verify(self.text)), "ci")
        self.file.revoke("ci")
        self.assertEqual(self.credentials.verify(self.text), BAD_TOKEN)

    def test_only_what_was_let_in_counts_as_used(self) -> None:
        tokens = self.credentials._tokens
        self.credentials.verify(self.text + "x")
        self.now += 4000
        self.credentials.verify(self.text)
        tokens.save_uses()
        self.assertIsNone(self.file.all()[0].last_used)
        self.now = START + 9
        self.credentials.verify(self.text)
        tokens.save_uses()
        self.assertEqual(self.file.all()[0].last_used, START + 9)

    def test_what_is_endless_is_not_looked_at(self) -> None:
        claims = {"exp": START + 60, "aud": "pmdaemon", "scope": "read", "more": "x" * 6144}
        self.assertEqual(self.credentials.verify(jwt.encode(claims, SECRET)), BAD_TOKEN)

    def test_a_token_file_that_cannot_be_read(self) -> None:
        said: list[str] = []
        self.patch(self.credentials, "_log", Logger(observer=lambda event: said.append(formatEvent(event))))
        self.path.write_bytes(b"{")
        for _ in range(3):
            self.assertEqual(self.credentials.verify(self.text), UNREADABLE)
        self.assertEqual(len(said), 1, "told once")
        self.assertIn(f"cannot read the token file {self.path}: it is not whole; ", said[0])
        self.assertNotIn(str(self.path), UNREADABLE.message)
        self.assertIsInstance(self.credentials.verify(API_KEY), Caller)


class RecheckTests(Case):
    """Those who are in already."""

    def setUp(self) -> None:
        super().setUp()
        caller = self.credentials.verify(self.text)
        assert isinstance(caller, Caller)
        self.caller = caller

    def test_all_is_well(self) -> None:
        self.assertIsNone(self.credentials.recheck(self.caller))
        self.assertIsNone(self.credentials.recheck(limited(self.caller, "read", "")))

    def test_revoked(self) -> None:
        self.file.revoke("ci")
        self.assertEqual(self.credentials.recheck(self.caller), BAD_TOKEN)

    def test_over(self) -> None:
        self.now += 3600
        self.assertEqual(self.credentials.recheck(self.caller), TOKEN_EXPIRED)

    def test_withdrawn(self) -> None:
        content = self.path.read_text()
        for old, new in (('"operate"', '"read"'), ("web-*", "web-1")):
            self.path.write_text(content.replace(old, new))
            self.assertEqual(self.credentials.recheck(self.caller), SCOPE_WITHDRAWN)
        self.path.write_text(content.replace('"operate"', '"start"'))
        self.assertIsNone(self.credentials.recheck(self.caller))

    def test_the_file_cannot_be_read(self) -> None:
        self.path.write_bytes(b"{")
        self.assertEqual(self.credentials.recheck(self.caller), UNREADABLE)

    def test_those_without_a_token(self) -> None:
        self.path.unlink()
        self.assertIsNone(self.credentials.recheck(Caller(name="root", kind="user", scope="start")))


class ApiKeyTests(SynchronousTestCase):
    """Where the API key comes from."""

    def file(self, content: bytes, mode: int = 0o600) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def test_where_it_comes_from(self) -> None:
        environment = {"PMDAEMON_API_KEY": API_KEY}
        self.assertEqual(load_api_key(None, environment), API_KEY)
        self.assertEqual(load_api_key(self.file(b"of-a-file-0123456\r\n"), environment), "of-a-file-0123456")
        self.assertIsNone(load_api_key(None, {}))
        self.assertIsNone(load_api_key(None, {"PMDAEMON_API_KEY": ""}))

    def test_what_is_no_key(self) -> None:
        for content in (
            b"",
            b"\n",
            b"short",
            b"two words of a key",
            b"one-line-of-a-key\nmore",
            b"\xff" * 20,
            b"\0" * 20,
        ):
            self.assertRaises(InvalidConfiguration, load_api_key, self.file(content), {})
        refusal = self.assertRaises(InvalidConfiguration, load_api_key, None, {"PMDAEMON_API_KEY": "short"})
        self.assertEqual(
            refusal.message,
            "cannot use the API key of PMDAEMON_API_KEY: it must be one word of 16 or more characters",
        )

    def test_a_file_that_cannot_be_used(self) -> None:
        for path, reason in (
            (self.mktemp(), "no such file"),
            (self.file(API_KEY.encode(), 0o644), "others may read or write it"),
        ):
            refusal = self.assertRaises(InvalidConfiguration, load_api_key, path, {})
            self.assertIn(f"cannot use the API key {path}: {reason}", refusal.message)

    def test_it_is_told_nowhere(self) -> None:
        refusal = self.assertRaises(InvalidConfiguration, load_api_key, self.file(b"s3cret word of mine"), {})
        self.assertNotIn("s3cret", f"{refusal.message} {refusal.hint} {refusal.details}")
