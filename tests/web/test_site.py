"""The one port: what is where, and that the guard is in front of all of it."""

import json

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import resource, server
from zope.interface import alsoProvides

from pmdaemon.web.channel import MAX_BODY
from pmdaemon.web.guard import RefusalLog
from pmdaemon.web.limits import MAX_UNKNOWN
from pmdaemon.web.peer import Peer
from pmdaemon.web.places import Places
from pmdaemon.web.site import GuardedSite, build_site

from .wire import OWN, Answer, arrivals, ask, connect, get, guard, parse

UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Plain(WebSocketServerProtocol):
    """Gives its place back, as ours does."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.visit.over()


class Case(SynchronousTestCase):
    """A whole site in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        factory = WebSocketServerFactory(reactor=self.clock)
        factory.protocol = Plain
        factory.setProtocolOptions(openHandshakeTimeout=0, webStatus=False, allowNullOrigin=False)
        self.site = build_site(self.clock, guard(self.clock), arrivals(), factory, None)

    def refused(self, answer: Answer, status: int, code: str) -> None:
        self.assertEqual(answer.status, status)
        self.assertEqual(answer.headers.getRawHeaders(b"content-type"), [b"application/json"])
        error = json.loads(answer.body)["error"]
        self.assertEqual(sorted(error), ["code", "hint", "message"])
        self.assertEqual(error["code"], code)
        self.assertTrue(error["message"].startswith("cannot "), error)


class RouteTests(Case):
    """What is where."""

    def test_root_leads_to_the_dashboard(self) -> None:
        answer = ask(self.site, get(b"/"))
        self.assertEqual(answer.status, 302)
        self.assertEqual(answer.headers.getRawHeaders(b"location"), [b"/examples/dashboard.html"])

    def test_the_dashboard(self) -> None:
        answer = ask(self.site, get(b"/examples/dashboard.html"))
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers.getRawHeaders(b"content-type"), [b"text/html; charset=utf-8"])
        self.assertIn(b"new WebSocket(", answer.body)

    def test_nothing_else(self) -> None:
        for target in (
            b"/nothing",
            b"/examples",
            b"/examples/",
            b"/examples/nothing.html",
            b"/examples/../guard.py",
            b"/examples/%2e%2e%2fguard.py",
            b"/examples/..%2fguard.py",
            b"/examples/dashboard.html/",
            b"/examples/dashboard.html%00",
            b"/examples/.hidden",
            b"/ws/",
            b"/ws/more",
            b"/www/",
            b"//evil.example/",
            b"http://evil.example/",
            b"*",
            b"/<script>alert(1)</script>",
            b"/%ff%fe",
        ):
            answer = ask(self.site, get(target))
            self.refused(answer, 404, "NOT_FOUND")
            self.assertNotIn(b"script", answer.body)

    def test_head(self) -> None:
        for target in (b"/examples/dashboard.html", b"/nothing", b"/"):
            full, head = ask(self.site, get(target)), ask(self.site, get(target, method=b"HEAD"))
            self.assertEqual((head.status, head.body), (full.status, b""))
            self.assertEqual(head.headers.getRawHeaders(b"content-type"), full.headers.getRawHeaders(b"content-type"))

    def test_other_methods(self) -> None:
        for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"BREW"):
            for target in (b"/", b"/ws", b"/nothing", b"/examples/dashboard.html", b"*"):
                answer = ask(self.site, get(target, method=method))
                self.refused(answer, 405, "METHOD_NOT_ALLOWED")
                self.assertEqual(answer.headers.getRawHeaders(b"allow"), [b"GET, HEAD"])

    def test_headers_of_every_answer(self) -> None:
        for raw in (get(b"/"), get(b"/nothing"), get(b"/examples/dashboard.html"), get(b"/", host=b"evil.example")):
            headers = ask(self.site, raw).headers
            self.assertEqual(headers.getRawHeaders(b"server"), [b"PMDaemon"])
            self.assertEqual(headers.getRawHeaders(b"x-content-type-options"), [b"nosniff"])
            self.assertEqual(headers.getRawHeaders(b"referrer-policy"), [b"no-referrer"])
            self.assertFalse(headers.hasHeader(b"access-control-allow-origin"))

    def test_no_http2(self) -> None:
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_a_defect_is_not_shown(self) -> None:
        class Broken(resource.Resource):
            isLeaf = True

            def render(self, request: server.Request) -> bytes:
                raise ZeroDivisionError("a secret")

        answer = ask(GuardedSite(Broken(), guard(self.clock), arrivals(), self.clock), get(b"/"))
        self.refused(answer, 500, "INTERNAL_ERROR")
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ExamplePolicyTests(Case):
    """The example page may talk to this daemon by the names it may have been opened with."""

    def sockets(self, host: bytes, places: Places | None = None, *, secure: bool = False) -> str:
        factory = WebSocketServerFactory(reactor=self.clock)
        site = build_site(self.clock, guard(self.clock, places), arrivals(), factory, None)
        channel, transport = connect(site)
        if secure:
            alsoProvides(transport, ISSLTransport)
        channel.dataReceived(get(b"/examples/dashboard.html", host=host))
        channel.setTimeout(None)
        policy = transport.value().split(b"connect-src ")[1].split(b";")[0]
        return policy.decode()

    def test_own_names_and_the_port_asked(self) -> None:
        for host in (b"localhost:8080", b"127.0.0.1:8080", b"[::1]:8080"):
            self.assertEqual(self.sockets(host), "'self' ws://localhost:8080 ws://127.0.0.1:8080")

    def test_allowed_host(self) -> None:
        self.assertIn("ws://box.example:1", self.sockets(b"box.example:1", Places(allow_hosts=["box.example"])))

    def test_default_port(self) -> None:
        self.assertIn("ws://localhost:80 ", self.sockets(b"localhost"))
        self.assertIn("wss://localhost:443 ", self.sockets(b"localhost", secure=True))

    def test_only_the_shipped_script_runs(self) -> None:
        answer = ask(self.site, get(b"/examples/dashboard.html"))
        [policy] = answer.headers.getRawHeaders(b"content-security-policy", [])
        self.assertIn(b"script-src 'self' 'sha256-", policy)
        self.assertNotIn(b"unsafe", policy)


class GuardTests(Case):
    """The guard is in front of every path, and a refusal ends the connection."""

    TARGETS = (b"/", b"/ws", b"/www/", b"/examples/dashboard.html", b"/nothing", b"*")

    def test_every_path(self) -> None:
        for target in self.TARGETS:
            answer = ask(self.site, get(target, *UPGRADE, host=b"evil.example"))
            self.refused(answer, 421, "HOST_NOT_ALLOWED")
            self.assertEqual(answer.headers.getRawHeaders(b"connection"), [b"close"])
            for origin in (b"null", b"https://evil.example", b"http://localhost:3000"):
                answer = ask(self.site, get(target, *UPGRADE, b"Origin: " + origin))
                self.refused(answer, 403, "ORIGIN_NOT_ALLOWED")

    def test_headers_twice(self) -> None:
        for header in (b"Host: localhost:9615", b"Host: evil.example"):
            self.refused(ask(self.site, get(b"/ws", header, *UPGRADE)), 400, "INVALID_HOST")
        origin = b"Origin: http://localhost:9615"
        self.refused(ask(self.site, get(b"/ws", origin, origin, *UPGRADE)), 400, "INVALID_ORIGIN")

    def test_other_methods_too(self) -> None:
        self.refused(ask(self.site, get(b"/", method=b"POST", host=b"evil.example")), 421, "HOST_NOT_ALLOWED")

    def test_nothing_behind_a_refusal_is_answered(self) -> None:
        channel, transport = connect(self.site)
        channel.dataReceived(get(b"/", host=b"evil.example") + get(b"/"))
        channel.setTimeout(None)
        self.assertEqual(transport.value().count(b"HTTP/1.1 "), 1)
        self.assertTrue(transport.disconnecting)

    def test_other_answers_keep_the_connection(self) -> None:
        channel, transport = connect(self.site)
        channel.dataReceived(get(b"/nothing") + get(b"/", method=b"POST") + get(b"/"))
        channel.setTimeout(None)
        self.assertEqual(transport.value().count(b"HTTP/1.1 "), 3)
        self.assertFalse(transport.disconnecting)

    def test_is_told_in_the_log(self) -> None:
        told: list[dict[str, object]] = []
        self.site._refusals = RefusalLog(self.clock, Logger(observer=told.append))
        ask(self.site, get(b"/", b"Origin: https://app.example"))
        self.assertIn("--allow-origin https://app.example", str(told[0]["hint"]))

    def test_strangers(self) -> None:
        self.site.arrivals = arrivals(Peer("127.0.0.1", OWN + 1))
        for target in self.TARGETS:
            answer = ask(self.site, get(target, *UPGRADE))
            self.refused(answer, 401, "TOKEN_REQUIRED")
            self.assertEqual(answer.headers.getRawHeaders(b"www-authenticate"), [b"Bearer"])

    def test_room_for_strangers_ends_and_comes_back(self) -> None:
        self.site.arrivals = arrivals(Peer("127.0.0.1", OWN + 1))
        held = [connect(self.site) for _ in range(MAX_UNKNOWN)]
        _, transport = connect(self.site)
        self.refused(parse(transport.value()), 429, "LIMIT_EXCEEDED")
        self.assertTrue(transport.disconnecting)
        held[0][0].connectionLost(Failure(ConnectionError()))
        self.refused(ask(self.site, get(b"/")), 401, "TOKEN_REQUIRED")
        for channel, _ in held[1:]:
            channel.setTimeout(None)


class BodyTests(Case):
    """Bodies are bounded before they are read."""

    def test_too_large(self) -> None:
        for header in (b"Content-Length: %d" % (MAX_BODY + 1), b"Transfer-Encoding: chunked"):
            answer = ask(self.site, get(b"/", header, method=b"POST"))
            self.refused(answer, 413, "LIMIT_EXCEEDED")
            self.assertEqual(answer.headers.getRawHeaders(b"connection"), [b"close"])


class HandshakeTests(Case):
    """``/ws``."""

    def test_upgrades(self) -> None:
        for origin in ((), (b"Origin: http://localhost:9615",), (b"Origin: http://127.0.0.1:9615",)):
            self.assertEqual(ask(self.site, get(b"/ws", *UPGRADE, *origin)).status, 101)

    def test_needs_a_handshake(self) -> None:
        for header in (b"X: y", b"Upgrade: h2c", b"Upgrade: websockets"):
            answer = ask(self.site, get(b"/ws", header))
            self.refused(answer, 426, "UPGRADE_REQUIRED")
            self.assertEqual(answer.headers.getRawHeaders(b"upgrade"), [b"websocket"])

    def test_redirects_nobody(self) -> None:
        answer = ask(self.site, get(b"/ws?redirect=https://evil.example&after=0"))
        self.refused(answer, 426, "UPGRADE_REQUIRED")

    def test_lives_on_past_the_deadline(self) -> None:
        channel, transport = connect(self.site)
        channel.dataReceived(get(b"/ws", *UPGRADE))
        self.assertIn(b"101 Switching Protocols", transport.value())
        self.assertIsNot(transport.protocol, channel)
        self.clock.advance(1000)
        self.assertFalse(transport.disconnecting)


class AnyBytesTests(Case):
    """Whatever comes, there is no traceback and no 500."""

    HEADERS = st.sampled_from(
        [b"Host", b"Origin", b"Upgrade", b"Connection", b"Cookie", b"Expect", b"Content-Length", b"Transfer-Encoding"]
    )

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=30), st.lists(st.tuples(HEADERS, st.binary(max_size=30)), max_size=6))
    def test_any(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        channel, transport = connect(self.site)
        lines = [name + b": " + value for name, value in headers]
        channel.dataReceived(get(b"/" + target, *lines))
        channel.setTimeout(None)
        self.assertEqual(self.flushLoggedErrors(), [])
        for first in transport.value().split(b"HTTP/1.1 ")[1:]:
            self.assertLess(int(first[:3]), 500)
