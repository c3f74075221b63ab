"""HTTP connections that are slow, idle, malformed or too large."""

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import resource, server

from pmdaemon.web.channel import DEADLINE, MAX_BODY, DeadlineChannel

from .wire import connect, get


class Page(resource.Resource):
    """Answers at once, but for ``/later``."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[server.Request] = []

    def render(self, request: server.Request) -> bytes | int:
        self.seen.append(request)
        return server.NOT_DONE_YET if request.path == b"/later" else b"page"


class Case(SynchronousTestCase):
    """A site whose connections are DeadlineChannels."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.page = Page()
        self.site = server.Site(self.page, reactor=self.clock, timeout=DEADLINE)
        self.site.protocol = DeadlineChannel
        self.channel, self.transport = connect(self.site)
        self.addCleanup(lambda: self.channel.setTimeout(None))

    def cut(self) -> bool:
        return bool(self.transport.disconnected)


class DeadlineTests(Case):
    """The time to the end of a request."""

    def test_silence(self) -> None:
        self.clock.advance(9.9)
        self.assertFalse(self.cut())
        self.clock.advance(0.1)
        self.assertTrue(self.cut())

    def test_bytes_do_not_extend_it(self) -> None:
        for byte in b"GET / HTTP":
            self.assertFalse(self.cut())
            self.channel.dataReceived(bytes([byte]))
            self.clock.advance(1)
        self.assertTrue(self.cut())

    def test_a_slow_body_is_cut_too(self) -> None:
        self.clock.advance(8)
        self.channel.dataReceived(get(b"/", b"Content-Length: 10") + b"12345")
        self.clock.advance(2)
        self.assertTrue(self.cut())
        self.assertEqual(self.page.seen, [])

    def test_does_not_run_while_the_answer_is_made(self) -> None:
        self.channel.dataReceived(get(b"/later"))
        self.clock.advance(100)
        self.assertFalse(self.cut())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_starts_again_after_an_answer(self) -> None:
        self.clock.advance(9)
        self.channel.dataReceived(get(b"/"))
        self.clock.advance(9)
        self.channel.dataReceived(get(b"/")[:-1])
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)

    def test_lets_the_last_answer_through(self) -> None:
        self.channel.dataReceived(get(b"/"))
        self.clock.advance(10)
        self.assertEqual((self.transport.disconnecting, self.cut()), (True, False))
        self.clock.advance(10)
        self.assertTrue(self.cut())

    def test_a_pipelined_part_does_not_extend_it(self) -> None:
        self.channel.dataReceived(get(b"/") + b"GET")
        self.clock.advance(10)
        self.assertTrue(self.transport.disconnecting)

    def test_bounds_the_reading_of_a_last_answer(self) -> None:
        self.channel.dataReceived(get(b"/", b"Connection: close"))
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.cut())
        self.clock.advance(10)
        self.assertTrue(self.cut())

    def test_ends_with_the_connection(self) -> None:
        self.channel.connectionLost(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BodyTests(Case):
    """Bodies that are not read."""

    def large(self, *headers: bytes, rest: bytes = b"") -> StringTransport:
        self.channel.dataReceived(get(b"/", *headers, method=b"POST") + rest)
        return self.transport

    def test_up_to_the_limit(self) -> None:
        self.large(b"Content-Length: %d" % MAX_BODY, rest=b"x" * MAX_BODY)
        self.assertFalse(hasattr(self.page.seen[0], "too_large"))
        self.assertFalse(self.transport.disconnecting)

    def test_larger(self) -> None:
        transport = self.large(b"Content-Length: %d" % (MAX_BODY + 1))
        self.assertTrue(self.page.seen[0].too_large)
        self.assertTrue(transport.disconnecting)

    def test_chunked(self) -> None:
        self.large(b"Transfer-Encoding: chunked", rest=b"5\r\nhello\r\n0\r\n\r\n")
        self.assertTrue(self.page.seen[0].too_large)
        self.assertEqual(len(self.page.seen), 1)

    def test_the_client_is_not_asked_for_it(self) -> None:
        transport = self.large(b"Content-Length: 9999999", b"Expect: 100-continue")
        self.assertNotIn(b"100 Continue", transport.value())

    def test_nothing_of_it_is_taken_for_a_request(self) -> None:
        self.large(b"Content-Length: 9999999", rest=get(b"/smuggled") * 2000)
        self.channel.dataReceived(get(b"/smuggled"))
        self.assertEqual([request.path for request in self.page.seen], [b"/"])
        self.assertEqual(sum(map(len, self.channel._dataBuffer)), 0)


class MalformedTests(Case):
    """What cannot be parsed is answered once, and closed."""

    def answers(self, raw: bytes) -> list[bytes]:
        self.channel.dataReceived(raw)
        self.assertTrue(self.transport.disconnecting)
        return self.transport.value().split(b"\r\n\r\n")[:-1]

    def test_a_length_beyond_numbers(self) -> None:
        self.assertEqual(self.answers(get(b"/", b"Content-Length: " + b"9" * 5000)), [b"HTTP/1.1 400 Bad Request"])

    def test_nothing_behind_a_bad_header_is_answered(self) -> None:
        raw = get(b"/", b"Content-Length: 0", b"Content-Length: 0", b"X: y") + get(b"/")
        self.assertEqual(self.answers(raw), [b"HTTP/1.1 400 Bad Request"])
        self.assertEqual(self.page.seen, [])

    def test_a_head_without_end(self) -> None:
        self.assertEqual(self.answers(get(b"/", *[b"X: " + b"y" * 1000] * 20)), [b"HTTP/1.1 400 Bad Request"])
