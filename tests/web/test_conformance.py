"""The Autobahn cases for WebSocket servers (RFC 6455), against the daemon's own protocol behind its own site.

Kosoku runs them, as a program of its own. Left out are 9 (how long large messages take: those of more than 1 MiB are
refused), 12 and 13 (compression, which is never agreed on).
"""

import json
import os
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from pmdaemon.web.frames import frame
from pmdaemon.web.site import build_site
from pmdaemon.web.websocket import DaemonProtocol, DaemonSocketFactory
from tests.integration.program import missing

from .wire import arrivals, guard

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
RUN = """
import asyncio, json, os, sys
from kosoku import FailureError, run_fuzzingclient

async def main():
    try:
        results = await run_fuzzingclient(sys.argv[1], json.loads(sys.argv[2]), concurrency=8)
    except FailureError as error:
        print(json.dumps([0, [repr(each) for each in error.results]]))
    else:
        print(json.dumps([len(results), []]))

asyncio.run(main())
sys.stdout.flush()
os._exit(0)  # the threads of the runner do not always survive the interpreter's end
"""


class Echo(DaemonProtocol):
    """Says back what it hears, a text in a frame of the daemon's own making."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.sendMessage(payload, isBinary=True)
        else:
            self.outbox.write(frame(payload))


class ConformanceTests(TestCase):
    timeout = 180

    async def test_all(self) -> None:
        if find_spec("kosoku") is None:
            missing(self, "kosoku is not installed, which brings the Autobahn cases")
        nobody: Any = SimpleNamespace(bus=None, gone=lambda member: None)
        factory = DaemonSocketFactory(
            reactor, bus=nobody, dispatcher=nobody, describer=nobody, channels=nobody, archive=nobody
        )
        factory.protocol = Echo  # type: ignore[assignment]
        site = build_site(reactor, guard(reactor), arrivals(), factory, None)  # type: ignore[arg-type]
        port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.addCleanup(self.stop_timers)
        url = f"ws://127.0.0.1:{port.getHost().port}/ws"
        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", RUN, url, json.dumps(CASES)], env=dict(os.environ)
        )
        self.assertEqual((err, code), (b"", 0))
        ran, failed = json.loads(out)
        self.assertEqual(failed, [])
        self.assertGreater(ran, 200)

    def stop_timers(self) -> None:
        """Cancel Autobahn's, of handshakes that are over."""
        for call in reactor.getDelayedCalls():  # type: ignore[attr-defined]
            if "_BatchedTimer" in str(call):
                call.cancel()
