"""Health checks by https, of a daemon that loads OpenSSL only for them."""

from pathlib import Path
from typing import Any

import trustme
from twisted.internet import reactor
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import PrivateCertificate
from twisted.trial.unittest import TestCase
from twisted.web.server import Site
from twisted.web.static import Data
from zope.interface import implementer

from tests.integration.harness import LiveDaemon, Message


@implementer(IOpenSSLContextFactory)
class Certified:
    """What listenSSL takes; each connection gets the certificate of ``authority`` as it is then."""

    def __init__(self, authority: trustme.CA) -> None:
        self.authority = authority

    def getContext(self) -> Any:
        issued = self.authority.issue_cert("localhost")
        pem = issued.private_key_pem.bytes() + b"".join(each.bytes() for each in issued.cert_chain_pems)
        return PrivateCertificate.loadPEM(pem).options().getContext()


class HttpsCheckTests(TestCase):
    timeout = 60

    async def test_trusted_and_not(self) -> None:
        known = trustme.CA()
        file = Path(self.mktemp()).absolute()
        file.write_bytes(known.cert_pem.bytes())
        daemon = await LiveDaemon.start(self, env={"SSL_CERT_FILE": str(file)})
        client = await daemon.connect()
        loaded = Path(f"/proc/{daemon.program.pid}/maps")
        self.assertNotIn("/cryptography/", loaded.read_text())

        page = Data(b"well", "text/plain")
        page.isLeaf = True
        site: Any = Site(page)
        site.noisy = False
        certified: Any = Certified(known)
        port: Any = reactor.listenSSL(0, site, certified, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://localhost:{port.getHost().port}/"
        check = {"check_type": "http", "url": url, "interval": 0.2, "retries": 1}
        config = {"script": "/bin/sleep", "args": ["1000"], "health_check": check}
        await client.request("subscribe", {"events": ["process_event"]})
        reply = await client.command("start", "web", config=config)
        self.assertEqual(reply["processes"][0]["health"], "healthy")
        self.assertIn("/cryptography/", loaded.read_text())

        certified.authority = trustme.CA()

        def failed(message: Message) -> bool:
            return message["type"] == "process_event" and message["data"]["event"] == "health_check_failed"

        details = (await client.expect(failed, what="health_check_failed"))["data"]["details"]
        self.assertEqual(details["error"], "the certificate is not trusted")
