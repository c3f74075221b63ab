"""TLS: which files are taken, and what is spoken with them."""

import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

import trustme
from autobahn.twisted.websocket import WebSocketServerFactory
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.errors import InvalidConfiguration
from pmdaemon.web.limits import MAX_UNKNOWN
from pmdaemon.web.peer import Peer
from pmdaemon.web.site import build_site
from pmdaemon.web.tls import load_tls, secured
from tests.web.wire import OWN, arrivals, guard

AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost", "127.0.0.1")
CERT = b"".join(each.bytes() for each in SERVER.cert_chain_pems)
KEY = SERVER.private_key_pem.bytes()


class Echo(Protocol):
    """Says back what it hears."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Socket(StringTransport):
    """As TCP, of which TLS below HTTP takes it that it is."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It delays nothing."""


class Files(SynchronousTestCase):
    """Files to name."""

    def file(self, content: bytes, mode: int = 0o600) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)


class LoadTests(Files):
    """Which files are taken."""

    def refused(self, cert: str | None, key: str | None, client_ca: str | None = None) -> str:
        refusal = self.assertRaises(InvalidConfiguration, load_tls, cert, key, client_ca)
        self.assertTrue(refusal.message.startswith("cannot use "), refusal.message)
        self.assertNotIn("\n", refusal.message)
        assert refusal.hint
        return refusal.message

    def test_halves(self) -> None:
        cert, key = self.file(CERT), self.file(KEY)
        for halves in ((cert, None), (None, key), (None, None, cert)):
            self.assertEqual(self.refused(*halves), "cannot use TLS: a certificate and its key are needed")

    def test_both_in_one_file(self) -> None:
        both = self.file(KEY + CERT)
        self.assertIsNotNone(load_tls(both, both))

    def test_missing(self) -> None:
        cert, key, missing = self.file(CERT), self.file(KEY), self.mktemp()
        for arguments, what in (
            ((missing, key), "TLS certificate"),
            ((cert, missing), "TLS key"),
            ((cert, key, missing), "TLS client authority"),
        ):
            self.assertEqual(self.refused(*arguments), f"cannot use the {what} {missing}: no such file or directory")

    def test_not_what_they_should_be(self) -> None:
        cert, key = self.file(CERT), self.file(KEY)
        for content in (b"", b"rubbish", KEY[:-300], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
            wrong = self.file(content)
            self.assertIn(f"certificate {wrong}: it is no certificate in PEM", self.refused(wrong, key))
            self.assertIn(f"key {wrong}: it is no key in PEM", self.refused(cert, wrong))
            self.assertIn(f"authority {wrong}: it is no certificate in PEM", self.refused(cert, key, wrong))

    def test_a_key_that_others_may_read(self) -> None:
        for mode in (0o640, 0o604, 0o644):
            self.assertIn("others may read or write it", self.refused(self.file(CERT), self.file(KEY, mode)))
        self.assertIsNotNone(load_tls(self.file(CERT, 0o644), self.file(KEY, 0o400)))

    def test_another_certificates_key(self) -> None:
        other = self.file(AUTHORITY.issue_cert("localhost").private_key_pem.bytes())
        self.assertIn(f"key {other}: it is not the certificate's", self.refused(self.file(CERT), other))

    def test_one_that_openssl_does_not_take(self) -> None:
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([])
        weak = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
            .sign(key, SHA256())
        )
        cert = self.file(weak.public_bytes(Encoding.PEM))
        private = self.file(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.assertIn(f"certificate {cert}: OpenSSL refuses it: ", self.refused(cert, private))

    def test_a_pass_phrase(self) -> None:
        private = load_pem_private_key(KEY, None)
        locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        self.assertIn("it has a pass phrase", self.refused(self.file(CERT), self.file(locked)))

    def test_a_fifo_is_not_waited_for(self) -> None:
        os.mkfifo(fifo := self.mktemp(), 0o600)
        self.assertIn("it is not an ordinary file", self.refused(self.file(CERT), fifo))


class SpeakingTests(Files):
    """What is spoken."""

    def options(self, client_ca: str | None = None) -> CertificateOptions:
        return load_tls(self.file(CERT), self.file(KEY), client_ca)

    def client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        AUTHORITY.configure_trust(context)
        return context

    def talk(self, context: ssl.SSLContext, options: CertificateOptions) -> ssl.SSLObject:
        """Shake hands with the server and have one word echoed; raises SSLError."""
        clock = Clock()
        server = secured(Factory.forProtocol(Echo), options, clock).buildProtocol(None)
        transport = StringTransport()
        server.makeConnection(transport)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def pump() -> None:
            server.dataReceived(outgoing.read())
            clock.advance(0)
            incoming.write(transport.value())
            transport.clear()

        for _ in range(5):
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                pump()
            else:
                break
        client.write(b"word")
        pump()
        self.assertEqual(client.read(100), b"word")
        return client

    def test_the_newest_version_and_http_1(self) -> None:
        context = self.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        client = self.talk(context, self.options())
        self.assertEqual((client.version(), client.selected_alpn_protocol()), ("TLSv1.3", "http/1.1"))

    def test_a_client_without_alpn(self) -> None:
        self.assertIsNone(self.talk(self.client(), self.options()).selected_alpn_protocol())

    def test_who_finds_no_room_is_told_nothing_in_plain(self) -> None:
        """Nor may TLS, which nobody has agreed on yet, keep the connection."""
        clock, factory = Clock(), WebSocketServerFactory()
        site = build_site(clock, guard(clock), arrivals(Peer("127.0.0.1", OWN + 1)), factory, None)
        server = secured(site, self.options(), clock)
        transports = [Socket() for _ in range(MAX_UNKNOWN + 1)]
        for transport in transports:
            server.buildProtocol(None).makeConnection(transport)
        self.assertEqual([each.disconnected for each in transports], [False] * MAX_UNKNOWN + [True])
        self.assertNotIn(b"HTTP", transports[-1].value())

    def test_http_2_is_never_chosen(self) -> None:
        context = self.client()
        context.set_alpn_protocols(["h2"])
        self.assertRaises(ssl.SSLError, self.talk, context, self.options())

    def test_versions(self) -> None:
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            context = self.client()
            context.minimum_version = context.maximum_version = version
            self.assertEqual(self.talk(context, self.options()).version(), name)

    def test_old_versions_are_refused(self) -> None:
        context = self.client()
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assertRaises(ssl.SSLError, self.talk, context, self.options())

    def test_they_are_switched_off_and_not_only_too_weak(self) -> None:
        switched_off = self.options().getContext().set_options(0)
        for flag in (SSL.OP_NO_SSLv3, SSL.OP_NO_TLSv1, SSL.OP_NO_TLSv1_1):
            self.assertTrue(switched_off & flag)

    def test_the_chain_is_sent(self) -> None:
        between = AUTHORITY.create_child_ca()
        leaf = between.issue_cert("localhost")
        chain = self.file(b"".join(each.bytes() for each in leaf.cert_chain_pems))
        options = load_tls(chain, self.file(leaf.private_key_pem.bytes()))
        assert options is not None
        self.talk(self.client(), options)

    def test_client_certificates(self) -> None:
        trusted, other = trustme.CA(), trustme.CA()
        options = self.options(self.file(trusted.cert_pem.bytes()))
        context = self.client()
        trusted.issue_cert("client").configure_cert(context)
        self.talk(context, options)
        self.assertRaises(ssl.SSLError, self.talk, self.client(), options)
        stranger = self.client()
        other.issue_cert("client").configure_cert(stranger)
        self.assertRaises(ssl.SSLError, self.talk, stranger, options)
