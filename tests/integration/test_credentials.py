"""What a live daemon takes for a credential and what not, and how a connection ends with the one it was opened with."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import trustme
from autobahn.twisted.websocket import WebSocketClientFactory
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates

from tests.integration.harness import PATIENT, Client, LiveDaemon
from tests.integration.program import within
from tests.integration.test_access import AccessCase

KEY, OTHER = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def token(claims: dict[str, Any] | None = None, key: Any = KEY, algorithm: str = "EdDSA", *, drop: str = "") -> str:
    """A JSON Web Token that is good but for what is said."""
    whole = {"exp": time.time() + 1000, "aud": "pmdaemon", "scope": "read", "sub": "ci", **(claims or {})}
    return jwt.encode({name: value for name, value in whole.items() if name != drop}, key, algorithm)


def forged(algorithm: str) -> str:
    """One whose header says another algorithm, signed with what everybody knows: the public key."""
    head = jwt.utils.base64url_encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    rest = token().split(".")[1].encode()
    signature = jwt.get_algorithm_by_name("HS256").sign(head + b"." + rest, PUBLIC) if algorithm == "HS256" else b""
    return (head + b"." + rest + b"." + jwt.utils.base64url_encode(signature)).decode()


class JwtTests(AccessCase):
    """--jwt-key-file."""

    async def begin_with_key(self) -> LiveDaemon:
        file = Path(self.home, "jwt.pem")
        file.write_bytes(PUBLIC)
        file.chmod(0o644)
        return await self.begin("--jwt-key-file", str(file))

    async def test_which_are_taken(self) -> None:
        daemon = await self.begin_with_key()
        for number, (text, status) in enumerate(
            (
                (token(drop="exp"), 401),
                (token(drop="aud"), 401),
                (token(drop="scope"), 401),
                (token({"scope": "admin"}), 401),
                (token({"aud": "other"}), 401),
                (token({"exp": time.time() - 1}), 401),
                (token(key=OTHER), 401),
                (forged("HS256"), 401),
                (forged("none"), 401),
            )
        ):
            headers = {"Authorization": f"Bearer {text}"}
            self.assertEqual(await self.refused(daemon, headers=headers), status, number)
        self.assertIn("TOKEN_EXPIRED", daemon.log)
        self.assertIn("BAD_TOKEN", daemon.log)
        client = await daemon.connect(headers={"Authorization": f"Bearer {token()}"}, origin="https://any.example")
        self.assertEqual((await client.request("get_info"))["type"], "process_info")
        denied = await client.request("command", {"action": "stop", "process": "web-one"})
        self.assertEqual(denied["data"]["code"], "PERMISSION_DENIED")
        for part in token().split("."):
            self.assertNotIn(part, daemon.log, "no token is logged")

    async def test_scopes_and_processes(self) -> None:
        daemon = await self.begin_with_key()
        claims = {"scope": ["read", "operate"], "processes": ["web-*"]}
        client = await daemon.connect(headers={"Authorization": f"Bearer {token(claims)}"})
        await client.command("start", "web-one")
        hidden = await client.request("command", {"action": "start", "process": "secret-base"})
        self.assertEqual(hidden["data"]["code"], "PROCESS_NOT_FOUND")
        fresh = await client.request("command", {"action": "start", "process": "web-x", "config": {"script": "true"}})
        self.assertEqual(fresh["data"]["code"], "PERMISSION_DENIED")

    async def test_its_end_is_that_of_the_connection(self) -> None:
        daemon = await self.begin_with_key()
        claims = {"exp": time.time() + 4}
        client = await daemon.connect(headers={"Authorization": f"Bearer {token(claims)}"})
        self.assertEqual((await client.request("ping"))["type"], "pong")
        self.assertEqual((await client.closed(timeout=30))[0], 4401)


class EndTests(AccessCase):
    """Tokens of the file that are changed while somebody is connected by them."""

    def change(self, **fields: Any) -> None:
        """What an editor may do to the only token there is."""
        path = Path(self.home, "tokens.json")
        content = json.loads(path.read_text())
        (entry,) = content["tokens"]
        entry.update(fields)
        path.write_text(json.dumps(content))

    async def test_taken_back(self) -> None:
        headers = self.token("one", "operate")
        daemon = await self.begin()
        client = await daemon.connect(headers=headers)
        await client.command("start", "web-one")
        self.tokens.revoke("one")
        code, reason = await client.closed(timeout=20)
        self.assertEqual(code, 4401)
        self.assertTrue(reason)

    async def test_narrowed(self) -> None:
        for fields in ({"scope": "read"}, {"processes": ["web-one"]}):
            headers = self.token("one", "start")
            daemon = await self.begin()
            client = await daemon.connect(headers=headers)
            self.assertEqual((await client.request("ping"))["type"], "pong")
            self.change(**fields)
            code, reason = await client.closed(timeout=20)
            self.assertEqual(code, 4403, fields)
            self.assertTrue(reason)
            again = await daemon.connect(headers=headers)
            reply = await again.request("command", {"action": "delete", "process": "web-two"})
            self.assertIn(reply["data"]["code"], ("PERMISSION_DENIED", "PROCESS_NOT_FOUND"))
            self.tokens.revoke("one")
            await daemon.stop()

    async def test_widened(self) -> None:
        """Nobody is thrown out who may do more; what was allowed at the beginning stays what is allowed."""
        headers = self.token("one", "read")
        daemon = await self.begin()
        client = await daemon.connect(headers=headers)
        self.change(scope="start")
        for _ in range(3):
            self.assertEqual((await client.request("get_info"))["type"], "process_info")
        denied = await client.request("command", {"action": "stop", "process": "web-one"})
        self.assertEqual(denied["data"]["code"], "PERMISSION_DENIED")


class ClientCertificateTests(AccessCase):
    """--tls-client-ca."""

    async def begin_with_authorities(self) -> LiveDaemon:
        self.authority, self.clients, self.others = trustme.CA(), trustme.CA(), trustme.CA()
        issued = self.authority.issue_cert("localhost")
        cert, key, clients = (Path(self.home, name) for name in ("cert.pem", "key.pem", "clients.pem"))
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        self.clients.cert_pem.write_to_path(str(clients))
        return await self.begin("--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(clients))

    async def connect(self, daemon: LiveDaemon, issuer: trustme.CA | None) -> Client:
        mine = None
        if issuer is not None:
            issued = issuer.issue_cert("client.example")
            mine = PrivateCertificate.loadPEM(issued.private_key_and_cert_chain_pem.bytes())
        root = Certificate.loadPEM(self.authority.cert_pem.bytes())
        trust = optionsForClientTLS("localhost", trustRootFromCertificates([root]), mine)
        factory = WebSocketClientFactory(f"wss://localhost:{daemon.port}/ws", reactor=reactor)
        factory.protocol = Client
        factory.setProtocolOptions(**PATIENT)
        client: Client = await wrapClientTLS(trust, HostnameEndpoint(reactor, "localhost", daemon.port)).connect(
            factory
        )
        self.addCleanup(client.close)
        await within(20, client._opened, lambda: "the handshake")
        return client

    async def test_which_certificates_are_taken(self) -> None:
        daemon = await self.begin_with_authorities()
        for issuer in (None, self.others, self.authority):
            with self.assertRaises(Exception) as caught:  # whatever the library makes of it, and at once
                await self.connect(daemon, issuer)
            self.assertNotIsInstance(caught.exception, AssertionError)
        client = await self.connect(daemon, self.clients)
        self.assertEqual((await client.request("ping"))["type"], "pong")
        daemon.assert_quiet_log()
