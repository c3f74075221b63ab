"""Which names the daemon goes by, and which pages may use it."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from pmdaemon.errors import InvalidConfiguration
from pmdaemon.web.places import Places
from pmdaemon.web.refusal import Refusal

HOST = b"localhost:9615"


def judge(
    places: Places, *, host: list[bytes] | None = None, origin: list[bytes] | None = None, secure: bool = False
) -> Refusal | None:
    """What is said of these headers."""
    headers = Headers({b"Host": [HOST] if host is None else host, b"Origin": origin or []})
    return places.check_host(headers, secure=secure) or places.check_origin(headers, secure=secure)


class HostTests(SynchronousTestCase):
    """A request must be meant for this daemon."""

    def test_own_names_on_any_port(self) -> None:
        for host in (b"localhost", b"LOCALHOST:8080", b"127.0.0.1:9615", b"[::1]:9615", b"[0::1]"):
            self.assertIsNone(judge(Places(), host=[host]), host)

    def test_other_names(self) -> None:
        for host in (b"evil.example", b"evil.example:9615", b"localhost.", b"localhost.evil.example", b"127.0.0.2"):
            refusal = judge(Places(), host=[host])
            assert refusal is not None
            self.assertEqual((refusal.status, refusal.code), (421, "HOST_NOT_ALLOWED"), host)

    def test_the_refusal_says_how_to_allow_it(self) -> None:
        refusal = judge(Places(), host=[b"Box.example:8080"])
        assert refusal is not None
        self.assertEqual(
            (refusal.message, refusal.hint),
            (
                "cannot answer for the host box.example: it is not a name of this daemon",
                "open http://localhost:8080/ or start the daemon with --allow-host box.example",
            ),
        )

    def test_exactly_one(self) -> None:
        for hosts in ([], [HOST, HOST], [HOST, b"evil.example"]):
            refusal = judge(Places(), host=hosts)
            assert refusal is not None
            self.assertEqual((refusal.status, refusal.code), (400, "INVALID_HOST"), hosts)

    def test_malformed(self) -> None:
        refusal = judge(Places(), host=[b"local\x1bhost\xff"])
        assert refusal is not None
        self.assertEqual((refusal.status, refusal.message), (400, "cannot read the Host header 'local\\x1bhost\\xff'"))

    def test_allowed(self) -> None:
        places = Places(allow_hosts=["Box.example", "[fd00:0::1]"])
        for host in (b"box.example", b"BOX.example:1", b"[fd00::1]:9615", b"localhost"):
            self.assertIsNone(judge(places, host=[host]), host)

    def test_what_cannot_be_allowed(self) -> None:
        for host in ("", "*", "box:9615", "http://box", "::1", "b\u00f6x"):
            self.assertRaises(InvalidConfiguration, Places, allow_hosts=[host])


class OriginTests(SynchronousTestCase):
    """Pages of other sites must not use this daemon."""

    def allowed(self, places: Places, origin: bytes, host: bytes = HOST, *, secure: bool = False) -> bool:
        refusal = judge(places, host=[host], origin=[origin], secure=secure)
        if refusal is not None:
            self.assertEqual((refusal.status, refusal.code), (403, "ORIGIN_NOT_ALLOWED"), origin)
        return refusal is None

    def test_none_is_no_page(self) -> None:
        self.assertIsNone(judge(Places()))

    def test_own_pages(self) -> None:
        for origin in (
            b"http://localhost:9615",
            b"http://LOCALHOST:9615",
            b"http://127.0.0.1:9615",
            b"http://[::1]:9615",
            b"http://[0:0::1]:9615",
        ):
            self.assertTrue(self.allowed(Places(), origin), origin)

    def test_other_pages(self) -> None:
        for origin in (
            b"null",
            b"http://evil.example",
            b"http://evil.example:9615",
            b"https://localhost:9615",
            b"http://localhost",
            b"http://localhost:3000",
            b"http://localhost.:9615",
            b"http://localhost.evil.example:9615",
            b"http://evil@localhost:9615",
            b"ws://localhost:9615",
            b"chrome-extension://abcdef",
        ):
            self.assertFalse(self.allowed(Places(), origin), origin)

    def test_through_a_tunnel(self) -> None:
        self.assertTrue(self.allowed(Places(), b"http://localhost:8080", b"localhost:8080"))
        self.assertFalse(self.allowed(Places(), b"http://localhost:9615", b"localhost:8080"))

    def test_default_ports(self) -> None:
        self.assertTrue(self.allowed(Places(), b"http://localhost", b"localhost"))
        self.assertTrue(self.allowed(Places(), b"http://localhost", b"localhost:80"))
        self.assertTrue(self.allowed(Places(), b"https://localhost", b"localhost", secure=True))
        self.assertFalse(self.allowed(Places(), b"http://localhost", b"localhost", secure=True))
        self.assertFalse(self.allowed(Places(), b"https://localhost", b"localhost:80", secure=True))

    def test_pages_of_allowed_hosts(self) -> None:
        places = Places(allow_hosts=["box.example"])
        self.assertTrue(self.allowed(places, b"http://box.example:9615", b"box.example:9615"))
        self.assertTrue(self.allowed(places, b"http://localhost:9615", b"box.example:9615"))
        self.assertFalse(self.allowed(places, b"http://box.example", b"box.example:9615"))

    def test_allowed(self) -> None:
        places = Places(allow_origins=["https://status.example", "chrome-extension://abcdef"])
        for origin in (b"https://status.example", b"https://STATUS.example:443", b"chrome-extension://abcdef"):
            self.assertTrue(self.allowed(places, origin), origin)
        for origin in (b"http://status.example", b"https://status.example:444", b"https://a.status.example", b"null"):
            self.assertFalse(self.allowed(places, origin), origin)

    def test_the_refusal_says_how_to_allow_it(self) -> None:
        refusal = judge(Places(), host=[b"127.0.0.1:9700"], origin=[b"http://App.example"])
        assert refusal is not None
        self.assertEqual(
            (refusal.message, refusal.hint),
            (
                "cannot let a page of http://app.example use this daemon",
                "open http://localhost:9700/ or start the daemon with --allow-origin http://app.example",
            ),
        )

    def test_a_local_file_is_told_where_to_go(self) -> None:
        refusal = judge(Places(), origin=[b"null"])
        assert refusal is not None
        self.assertIn("http://localhost:9615/www/", refusal.hint)

    def test_a_page_without_an_origin_where_it_is_allowed(self) -> None:
        places = Places(allow_null=True)
        self.assertIsNone(judge(places, origin=[b"null"]))
        self.assertTrue(places.is_nowhere(Headers({b"Origin": [b"null"]})))
        self.assertFalse(places.is_nowhere(Headers({b"Origin": [b"http://localhost:9615"]})))
        self.assertFalse(places.is_nowhere(Headers()))

    def test_malformed(self) -> None:
        for origins in ([b""], [b"localhost"], [b"http://localhost:9615/"], [b"http://localhost:9615"] * 2):
            refusal = judge(Places(), origin=origins)
            assert refusal is not None
            self.assertEqual((refusal.status, refusal.code), (400, "INVALID_ORIGIN"), origins)

    def test_the_host_is_judged_first(self) -> None:
        refusal = judge(Places(), host=[b"evil.example"], origin=[b"http://evil.example"])
        assert refusal is not None
        self.assertEqual(refusal.status, 421)

    def test_what_cannot_be_allowed(self) -> None:
        for origin in ("", "*", "null", "status.example", "https://status.example/", "https://a@status.example"):
            self.assertRaises(InvalidConfiguration, Places, allow_origins=[origin])


class AnyBytesTests(SynchronousTestCase):
    """A malformed header is an answer, never an exception."""

    @given(st.lists(st.binary(), max_size=3), st.lists(st.binary(), max_size=3), st.booleans())
    def test_any(self, hosts: list[bytes], origins: list[bytes], secure: bool) -> None:
        headers = Headers({b"Host": hosts, b"Origin": origins})
        self.check(Places().check_host(headers, secure=secure))
        self.check(Places().check_origin(headers, secure=secure))

    @given(st.text(alphabet="htps:/[].@1locahst\x00\n ", max_size=30).map(str.encode))
    def test_nearly_right(self, origin: bytes) -> None:
        self.check(judge(Places(), origin=[b"http://" + origin]))

    def check(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self.assertIn(refusal.status, (400, 403, 421))
            self.assertTrue((refusal.message + refusal.hint).isprintable())
