"""What a daemon loads, and what it can do all the same; each in a fresh interpreter."""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.program import ROOT

_DAEMON = "import sys, pmdaemon.service\nfrom twisted.internet import reactor\n"
_LOADED = 'print(*sorted({"OpenSSL", "cryptography", "yaml", "jwt", "service_identity"} & sys.modules.keys()))'


def said(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, text=True)
    return done.stdout.strip() + done.stderr


class LeanTests(SynchronousTestCase):
    """The daemon of those who do not use TLS."""

    def test_no_openssl(self) -> None:
        self.assertEqual(said(f"{_DAEMON}{_LOADED}"), "")

    def test_a_request_by_http_needs_none(self) -> None:
        asking = """
from twisted.internet.defer import Deferred
from pmdaemon.daemon.httpstatus import http_status
asked = Deferred.fromCoroutine(http_status(reactor, "http://127.0.0.1:1/"))
asked.addErrback(lambda failure: print(failure.value)).addCallback(lambda _: reactor.stop())
reactor.run()
"""
        self.assertEqual(
            said(f"{_DAEMON}{asking}{_LOADED}"), "Connection was refused by other side: 111: Connection refused."
        )

    def test_openssl_is_there_for_who_asks(self) -> None:
        self.assertEqual(said(f"{_DAEMON}import OpenSSL, autobahn.wamp.auth\n{_LOADED}"), "OpenSSL cryptography")

    def test_too_late(self) -> None:
        self.assertEqual(
            said(f"from twisted.internet import reactor\n{_DAEMON}{_LOADED}"), "OpenSSL cryptography service_identity"
        )

    def test_a_version_that_needs_it(self) -> None:
        """Such as an Autobahn whose WebSocket would not load without the logins of WAMP."""
        needing = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "autobahn.twisted.websocket":
            from autobahn.wamp.auth import generate_wcs
sys.meta_path.insert(0, Finder())
"""
        self.assertIn("cryptography", said(f"{needing}{_DAEMON}{_LOADED}"))
        self.assertNotIn("Traceback", said(f"{needing}{_DAEMON}{_LOADED}"))
