"""Reading the Host and Origin headers."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.authority import Authority, Origin, parse_authority, parse_origin


class AuthorityTests(SynchronousTestCase):
    """``host[:port]``."""

    def test_well_formed(self) -> None:
        for raw, host, port in (
            (b"localhost", "localhost", None),
            (b"LocalHost:9615", "localhost", 9615),
            (b"127.0.0.1:0", "127.0.0.1", 0),
            (b"[::1]:65535", "[::1]", 65535),
            (b"[0:0:0::1]", "[::1]", None),
            (b"localhost.:80", "localhost.", 80),
        ):
            self.assertEqual(parse_authority(raw), Authority(host, port), raw)

    def test_malformed(self) -> None:
        for raw in (
            b"",
            b":80",
            b"localhost:",
            b"localhost:65536",
            b"localhost:-1",
            b"localhost:8 0",
            b"localhost:80:80",
            b"localhost,evil",
            b"a@localhost",
            b"localhost/",
            b"local\x00host",
            b"local\nhost",
            b"localhost\n",
            b"::1",
            b"[::1",
            b"[::1%25eth0]",
            b"[:::]",
            b"[127.0.0.1]",
            b"l\xc3\xb6calhost",
            b"a" * 254,
        ):
            self.assertIsNone(parse_authority(raw), raw)

    @given(st.binary() | st.text(alphabet="[]:.0123456789abcdefx@/%", max_size=40).map(str.encode))
    def test_never_raises(self, raw: bytes) -> None:
        parsed = parse_authority(raw)
        if parsed is not None:
            self.assertEqual(parsed.host, parsed.host.lower())


class OriginTests(SynchronousTestCase):
    """``scheme://host[:port]``."""

    def test_well_formed(self) -> None:
        for raw, origin in (
            (b"http://localhost", Origin("http", "localhost", 80)),
            (b"HTTP://LOCALHOST:80", Origin("http", "localhost", 80)),
            (b"https://a.example", Origin("https", "a.example", 443)),
            (b"https://[::1]:9615", Origin("https", "[::1]", 9615)),
            (b"chrome-extension://abcdef", Origin("chrome-extension", "abcdef", None)),
            (b"http://evil@localhost:9615", Origin("http", "evil@localhost", 9615)),
        ):
            self.assertEqual(parse_origin(raw), origin, raw)

    def test_malformed(self) -> None:
        for raw in (
            b"",
            b"null",
            b"localhost",
            b"//localhost",
            b"http:localhost",
            b"http://",
            b"http://localhost/",
            b"http://localhost/path",
            b"http://localhost?q",
            b"http://localhost#f",
            b"http://localhost:9615 http://evil.example",
            b"http://localhost,http://evil.example",
            b"http://a@b@localhost",
            b"http://localhost:99999",
            b"1http://localhost",
            b"http://localhost\r\n",
            b"file://",
        ):
            self.assertIsNone(parse_origin(raw), raw)

    def test_is_written_as_a_browser_writes_it(self) -> None:
        for text in ("http://localhost:9615", "https://a.example", "http://[::1]:443", "vscode-webview://x"):
            self.assertEqual(str(parse_origin(text.encode())), text)

    @given(st.binary() | st.text(alphabet="htps:/[].@#?10ax ", max_size=40).map(lambda t: b"http://" + t.encode()))
    def test_never_raises(self, raw: bytes) -> None:
        parsed = parse_origin(raw)
        if parsed is not None:
            self.assertEqual(parse_origin(str(parsed).encode()), parsed)
