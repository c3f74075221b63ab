"""JSON Web Tokens: only those are taken that the key signed, for us, with a time and a scope."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.selection import Selection
from pmdaemon.errors import InvalidConfiguration
from pmdaemon.web.jwtkey import JwtKey

SECRET = b"0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
CLAIMS = {"exp": 2_000_000_000, "aud": "pmdaemon", "scope": "read operate", "sub": "alice"}


def pem(private: Any) -> bytes:
    key: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key


def private_pem(private: Any) -> bytes:
    key: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key


def signed(claims: object, header: bytes = b'{"alg":"HS256"}', secret: bytes = SECRET) -> str:
    """A token with any header and any claims, signed with HMAC and SHA-256."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    head = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(head, secret)
    return (head + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class LoadTests(SynchronousTestCase):
    """Which keys are taken."""

    def file(self, content: bytes, mode: int = 0o600) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    def refused(self, path: str) -> str:
        refusal = self.assertRaises(InvalidConfiguration, JwtKey.load, path)
        start = f"cannot use the JWT key {path}: "
        self.assertTrue(refusal.message.startswith(start), refusal.message)
        self.assertNotIn("\n", refusal.message)
        return refusal.message.removeprefix(start)

    def test_the_key_decides_on_the_algorithm(self) -> None:
        for content, private, algorithm in (
            (SECRET + b"\n", SECRET, "HS256"),
            (pem(RSA), RSA, "RS256"),
            (pem(P256), P256, "ES256"),
            (pem(ED25519), ED25519, "EdDSA"),
        ):
            key = JwtKey.load(self.file(content))
            self.assertEqual(key.algorithm, algorithm)
            caller = key.caller(jwt.encode(CLAIMS, private, algorithm))
            assert caller is not None, algorithm
            self.assertEqual(caller.name, "alice")

    def test_too_weak(self) -> None:
        self.assertEqual(self.refused(self.file(SECRET[:31] + b"\n")), "it has 31 bytes, 32 are needed")
        self.assertEqual(self.refused(self.file(b"")), "it has 0 bytes, 32 are needed")
        small = pem(rsa.generate_private_key(65537, 1024))
        self.assertEqual(self.refused(self.file(small)), "it is of a kind or a size that is not taken")
        self.assertIn("kind or a size", self.refused(self.file(pem(ec.generate_private_key(ec.SECP521R1())))))

    def test_a_private_key_or_rubbish_in_pem_is_never_taken_for_a_secret(self) -> None:
        for content in (private_pem(RSA), b"-----BEGIN CERTIFICATE-----\n" + SECRET, b"\n" + pem(RSA)[:200]):
            self.assertEqual(self.refused(self.file(content)), "it is not a public key in PEM")

    def test_who_may_read_it(self) -> None:
        JwtKey.load(self.file(pem(RSA), 0o644))
        self.assertIn("others may write it", self.refused(self.file(pem(RSA), 0o664)))
        self.assertIn("others may read or write it", self.refused(self.file(SECRET, 0o640)))

    def test_no_file(self) -> None:
        self.assertEqual(self.refused(self.mktemp()), "no such file or directory")
        os.mkfifo(fifo := self.mktemp())
        self.assertEqual(self.refused(fifo), "it is not an ordinary file")


class CallerTests(SynchronousTestCase):
    """Which tokens are taken, and as what."""

    def setUp(self) -> None:
        self.key = JwtKey(SECRET, "HS256")

    def test_valid(self) -> None:
        caller = self.key.caller(signed({**CLAIMS, "processes": ["web-*"]}))
        assert caller is not None
        self.assertEqual(
            (caller.name, caller.kind, caller.scope, caller.processes, caller.expires, caller.token),
            ("alice", "jwt", "operate", Selection(["web-*"]), 2_000_000_000, None),
        )

    def test_all_processes_where_none_are_named(self) -> None:
        caller = self.key.caller(signed(CLAIMS))
        assert caller is not None
        self.assertEqual(caller.processes, Selection(None))

    def test_scopes(self) -> None:
        for scope, expected in (("start", "start"), (["operate", "x"], "operate"), ("email read", "read")):
            caller = self.key.caller(signed({**CLAIMS, "scope": scope}))
            assert caller is not None
            self.assertEqual(caller.scope, expected)
        for scope in ("", "admin", "reader", [], "START", None, 3):
            self.assertIsNone(self.key.caller(signed({**CLAIMS, "scope": scope})), scope)

    def test_audience(self) -> None:
        self.assertIsNotNone(self.key.caller(signed({**CLAIMS, "aud": ["pmdaemon", "other"]})))
        for audience in ("other", ["other"], [], None, "pmdaemon2", 1):
            self.assertIsNone(self.key.caller(signed({**CLAIMS, "aud": audience})), audience)

    def test_what_must_be_there(self) -> None:
        for claim in ("exp", "aud", "scope"):
            self.assertIsNone(self.key.caller(signed({key: CLAIMS[key] for key in CLAIMS if key != claim})), claim)

    def test_times(self) -> None:
        self.assertIsNotNone(self.key.caller(signed({**CLAIMS, "exp": 1})), "judged by who has a clock")
        self.assertIsNone(self.key.caller(signed({**CLAIMS, "nbf": time.time() + 3600})))
        for raw in (b"NaN", b"Infinity", b"1e400", b'"x"', b"-1", b"true"):
            payload = json.dumps(CLAIMS).encode().replace(b"2000000000", raw)
            self.assertIsNone(self.key.caller(signed(payload)), raw)

    def test_processes_of_a_wrong_kind(self) -> None:
        for processes in ("web", [1], [""], {"web": 1}):
            self.assertIsNone(self.key.caller(signed({**CLAIMS, "processes": processes})), processes)

    def test_names_are_made_for_a_log(self) -> None:
        for subject in ("\x1b[31m", "a\nb", "", "x" * 65):
            caller = self.key.caller(signed({**CLAIMS, "sub": subject}))
            assert caller is not None
            self.assertEqual(caller.name, "jwt")

    def test_the_header_does_not_choose(self) -> None:
        public = JwtKey(RSA.public_key(), "RS256")
        self.assertIsNotNone(public.caller(jwt.encode(CLAIMS, RSA, "RS256")))
        for text in (
            signed(CLAIMS, b'{"alg":"none"}'),
            signed(CLAIMS, b'{"alg":"HS256"}', pem(RSA)),
            jwt.encode(CLAIMS, None, "none"),
            jwt.encode(CLAIMS, ED25519, "EdDSA"),
            jwt.encode(CLAIMS, P256, "ES256"),
            jwt.encode(CLAIMS, rsa.generate_private_key(65537, 2048), "RS256"),
            jwt.encode(CLAIMS, RSA, "RS512"),
            jwt.encode(CLAIMS, RSA, "PS256"),
        ):
            self.assertIsNone(public.caller(text), text)
        self.assertIsNone(self.key.caller(jwt.encode(CLAIMS, SECRET * 2, "HS512")))
        self.assertIsNone(self.key.caller(signed(CLAIMS, secret=SECRET[::-1])))

    def test_a_signature_that_is_missing_or_another_tokens(self) -> None:
        head, payload, signature = signed(CLAIMS).split(".")
        _, more, _ = signed({**CLAIMS, "scope": "start"}).split(".")
        for text in (f"{head}.{payload}.", f"{head}.{payload}", f"{head}.{more}.{signature}", f"{head}..{signature}"):
            self.assertIsNone(self.key.caller(text), text)

    def test_deep_and_odd_json(self) -> None:
        for raw in (b"[" * 5000, b'{"a":' * 5000, b"[]", b"1", b'{"exp":' + b"9" * 5000 + b"}", b"\xff"):
            self.assertIsNone(self.key.caller(signed(raw)), raw[:10])
            self.assertIsNone(self.key.caller(signed(CLAIMS, header=raw)), raw[:10])

    def test_critical_headers_that_nobody_here_knows(self) -> None:
        for header in (b'{"alg":"HS256","b64":false}', b'{"alg":"HS256","b64":false,"crit":["b64"]}'):
            self.assertIsNone(self.key.caller(signed(CLAIMS, header)), header)

    @given(st.text() | st.lists(st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())).map(".".join))
    def test_any_text(self, text: str) -> None:
        self.assertIsNone(self.key.caller(text))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(CLAIMS)), inner),
        ),
        st.booleans(),
    )
    def test_any_claims(self, value: object, spread: bool) -> None:
        claims = {**CLAIMS, **value} if spread and isinstance(value, dict) else value
        caller = self.key.caller(signed(claims))
        self.assertTrue(caller is None or caller.expires is not None)
