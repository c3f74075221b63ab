"""One client's sending side, in memory [F1]."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.outbox import CLIENT_LIMIT, Frame, Kind, Outbox, Pool

from .slow import SlowTransport

MANY = 10**9


def gap(process: str, dropped: int, seq: int) -> bytes:
    return f"<gap {process} {dropped} {seq}>".encode()


class Case(SynchronousTestCase):
    """An outbox whose client reads nothing."""

    room = 0

    def setUp(self) -> None:
        self.clock = Clock()
        self.pool = Pool()
        self.transport, self.outbox = self.client()

    def client(self) -> tuple[SlowTransport, Outbox]:
        self.closed: list[tuple[int, str]] = []
        transport = SlowTransport(self.room)
        outbox = Outbox(
            transport, self.clock, self.pool, encode_gap=gap, close=lambda code, why: self.closed.append((code, why))
        )
        return transport, outbox

    def congest(self) -> None:
        self.outbox.write(b"x" * 70_000)
        self.assertTrue(self.outbox.congested)
        self.transport.writes.clear()

    def codes(self) -> list[int]:
        return [code for code, _ in self.closed]


class FastTests(Case):
    """While the client reads."""

    room = MANY

    def test_takes_the_place_of_the_http_channel(self) -> None:
        self.assertIs(self.transport.producer, self.outbox)

    def test_writes_through(self) -> None:
        self.outbox.write(b"one")
        self.outbox.write(b"two")
        self.assertEqual(self.transport.writes, [b"one", b"two"])
        self.assertFalse(self.outbox.congested)
        self.assertEqual(self.outbox.size, 0)

    def test_offers_are_joined(self) -> None:
        self.outbox.offer([Frame(kind, "a", b"%d" % n) for n in range(4) for kind in Kind])
        self.assertEqual(self.transport.writes, [b"000111222333"])

    def test_nothing_offered(self) -> None:
        self.outbox.offer([])
        self.assertEqual((self.transport.writes, self.clock.getDelayedCalls()), ([], []))


class CongestedTests(Case):
    """While it does not."""

    def test_a_little_may_wait_in_the_transport(self) -> None:
        self.outbox.write(b"x" * 60_000)
        self.assertFalse(self.outbox.congested)
        self.assertEqual((self.outbox.size, self.pool.total), (60_000, 60_000))

    def test_nothing_more_is_written(self) -> None:
        self.congest()
        self.outbox.write(b"reply")
        self.outbox.offer([Frame(Kind.KEPT, "", b"event"), Frame(Kind.LOG, "web", b"line", 1)])
        self.assertEqual(self.transport.writes, [])

    def test_catches_up_in_one_write(self) -> None:
        self.congest()
        self.outbox.offer([Frame(Kind.METRICS, "m", b"<m1>"), Frame(Kind.KEPT, "", b"<status>")])
        self.outbox.write(b"<reply>")
        self.outbox.offer([Frame(Kind.LOG, "web", b"<line>", 7), Frame(Kind.METRICS, "m", b"<m2>")])
        self.outbox.offer([Frame(Kind.LOG, "web", b"<last>", 9)])
        self.transport.take()
        self.assertEqual(self.transport.writes, [b"<status><reply><line><m2><last>"])
        self.assertFalse(self.outbox.congested)
        self.transport.take()
        self.outbox.write(b"next")
        self.assertEqual(self.transport.writes[1:], [b"next"])

    def test_congested_again_by_what_waited(self) -> None:
        self.congest()
        self.outbox.write(b"y" * 100_000)
        self.transport.take()
        self.assertTrue(self.outbox.congested)
        self.outbox.write(b"z")
        self.transport.take()
        self.assertEqual([write[:1] for write in self.transport.writes], [b"y", b"z"])

    def test_a_large_offer_stops_where_the_client_does(self) -> None:
        self.outbox.offer(Frame(Kind.LOG, "web", b"x" * 1000, seq) for seq in range(20_000))
        self.assertTrue(self.outbox.congested)
        written = sum(map(len, self.transport.writes))
        self.assertLess(written, 200_000)
        self.assertLess(self.outbox.size, 200_000)
        self.transport.take()
        sent = written // 1000
        self.assertEqual(self.transport.writes[-1], b"<gap web %d %d>" % (20_000 - sent, sent))

    def test_a_burst_of_lines_is_not_lost(self) -> None:
        """Ten thousand of the usual size, whatever the client does meanwhile."""
        lines = [b"%0260d" % seq for seq in range(10_000)]
        self.outbox.offer(Frame(Kind.LOG, "web", line, seq) for seq, line in enumerate(lines))
        self.outbox.offer([Frame(Kind.KEPT, "", b"event")])
        self.assertGreater(self.outbox.size, 2_000_000)
        while self.outbox.congested:
            self.transport.take()
        self.assertEqual(b"".join(self.transport.writes), b"".join(lines) + b"event")

    def test_no_more_is_written_than_is_taken(self) -> None:
        """The transport drops nothing: for what is its own, a client that is slow but reads would be given up."""
        self.congest()
        self.outbox.offer(Frame(Kind.LOG, "web", b"x" * 1000, seq) for seq in range(3_900))
        self.transport.take()
        self.assertTrue(self.outbox.congested)
        self.assertLess(sum(map(len, self.transport.writes)), 100_000)
        self.outbox.offer(Frame(Kind.LOG, "web", b"y" * 1000, seq) for seq in range(3_900, 8_000))
        self.assertEqual(self.closed, [])
        while self.outbox.congested:
            self.transport.take()
        told = b"".join(self.transport.writes)
        self.assertTrue(
            told.endswith(b"<gap web %d %d>" % (8_000 - told.count(b"x") // 1000, told.count(b"x") // 1000))
        )

    def test_lines_go_before_anything_else_does(self) -> None:
        self.congest()
        half = CLIENT_LIMIT // 2
        self.outbox.offer([Frame(Kind.LOG, "web", b"x" * half, 5), Frame(Kind.KEPT, "", b"<one>")])
        self.outbox.write(b"y" * half)
        self.assertLess(self.outbox.size, half + 100_000)
        self.transport.take()
        self.assertEqual(self.transport.writes[0][:17], b"<gap web 1 5><one>"[:17])
        self.assertEqual(self.codes(), [])

    def test_tells_when_the_client_has_caught_up(self) -> None:
        drained: list[bool] = []
        self.outbox._drained = lambda: drained.append(self.outbox.congested)
        self.congest()
        self.outbox.write(b"y" * 100_000)
        self.transport.take()
        self.assertEqual(drained, [])
        self.transport.take()
        self.assertEqual(drained, [False])
        self.congest()
        self.outbox.stop()
        self.transport.take()
        self.assertEqual(drained, [False])

    def test_catching_up_with_nothing(self) -> None:
        self.congest()
        self.transport.take()
        self.assertFalse(self.outbox.congested)
        self.assertEqual((self.outbox.size, self.pool.total, self.clock.getDelayedCalls()), (0, 0, []))


class BoundTests(Case):
    """What a client may cost."""

    def test_too_much_kept(self) -> None:
        self.congest()
        for _ in range(100):
            self.outbox.offer([Frame(Kind.KEPT, "", b"x" * 50_000)])
            self.assertLessEqual(self.outbox.size, CLIENT_LIMIT + 70_000)
        self.assertEqual(self.codes(), [1013])
        self.assertEqual((self.pool.total, self.clock.getDelayedCalls()), (0, []))

    def test_too_much_in_one_offer(self) -> None:
        self.congest()
        taken = []
        self.outbox.offer(taken.append(n) or Frame(Kind.KEPT, "", b"x" * 50_000) for n in range(1000))
        self.assertEqual(self.codes(), [1013])
        self.assertLess(len(taken), 100)

    def test_too_much_in_one_write(self) -> None:
        self.outbox.write(b"x" * (CLIENT_LIMIT + 1))
        self.assertEqual(self.codes(), [1013])

    def test_small_frames_count_for_what_they_cost(self) -> None:
        self.congest()
        for _ in range(30_000):
            self.outbox.write(b"x")
        self.assertEqual(self.codes(), [1013])

    def test_what_others_write_counts(self) -> None:
        self.congest()
        self.transport.write(b"pong" * CLIENT_LIMIT)
        self.assertEqual(self.codes(), [])
        self.clock.advance(10)
        self.assertEqual(self.codes(), [1013])

    def test_logs_and_metrics_close_nobody(self) -> None:
        self.congest()
        for seq in range(1000):
            self.outbox.offer([Frame(Kind.LOG, "web", b"x" * 65_000, seq), Frame(Kind.METRICS, "m", b"x" * 65_000)])
            self.assertLessEqual(self.outbox.size, CLIENT_LIMIT)
        self.assertEqual(self.codes(), [])
        self.assertLess(self.outbox.size, 200_000)

    def test_nothing_is_sent_once_given_up(self) -> None:
        self.test_too_much_kept()
        self.outbox.write(b"x")
        self.outbox.offer([Frame(Kind.KEPT, "", b"x")])
        self.transport.take()
        self.outbox.overflow()
        self.outbox.pauseProducing()
        self.clock.advance(1000)
        self.assertEqual((self.transport.writes, self.codes()), ([], [1013]))

    def test_a_reason_fits_a_close_frame(self) -> None:
        self.test_too_much_kept()
        self.assertLess(len(self.closed[0][1].encode()), 123)


class PoolTests(Case):
    """What all clients may cost together."""

    def test_the_largest_is_closed_first(self) -> None:
        self.pool = Pool(limit=250_000)
        small, large, third = self.client(), self.client(), self.client()
        closed: list[int] = []
        for number, (_, outbox) in enumerate((small, large, third)):
            outbox._close = lambda code, why, number=number: closed.append(number)
            outbox.write(b"x" * 70_000)
        large[1].write(b"x" * 20_000)
        self.assertEqual(closed, [])
        third[1].write(b"x" * 30_000)
        self.assertEqual(closed, [2])
        self.assertEqual(self.pool.total, small[1].size + large[1].size)

    def test_lines_go_before_anybody_does(self) -> None:
        self.pool = Pool(limit=270_000)
        clients = [self.client() for _ in range(3)]
        for _, outbox in clients:
            outbox.write(b"x" * 66_000)
            self.assertTrue(outbox.congested)
            outbox.offer([Frame(Kind.LOG, "web", b"x" * 20_000, 1), Frame(Kind.LOG, "web", b"y" * 10_000, 2)])
        self.assertEqual((self.closed, self.pool.total <= 270_000), ([], True))
        for transport, _ in clients:
            transport.take()
        told = [transport.writes[-1][:1] for transport, _ in clients]
        self.assertEqual((sorted(told), self.closed), ([b"<", b"x", b"x"], []))


class StalledTests(Case):
    """A client that takes nothing."""

    def test_given_up_after_120_s(self) -> None:
        self.congest()
        for _ in range(119):
            self.clock.advance(1)
        self.assertEqual(self.codes(), [])
        self.clock.advance(1)
        self.assertEqual(self.codes(), [1008])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whoever_takes_something_is_slow_and_stays(self) -> None:
        self.congest()
        for _ in range(60):
            self.clock.pump([10] * 10)
            self.transport.take(1)
            self.outbox.offer([Frame(Kind.METRICS, "m", b"m")])
        self.assertEqual(self.codes(), [])
        self.clock.pump([10] * 13)
        self.assertEqual(self.codes(), [1008])

    def test_starts_anew_with_each_congestion(self) -> None:
        for _ in range(3):
            self.congest()
            self.clock.pump([10] * 11)
            self.transport.take()
        self.assertEqual(self.codes(), [])

    def test_an_uncongested_client_is_not_looked_at(self) -> None:
        self.outbox.write(b"x" * 60_000)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StopTests(Case):
    """A connection that is lost."""

    def test_frees_everything(self) -> None:
        self.congest()
        self.outbox.write(b"x")
        self.outbox.stopProducing()
        self.outbox.stop()
        self.assertEqual((self.pool.total, self.clock.getDelayedCalls(), self.codes()), (0, [], []))
