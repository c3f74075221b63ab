"""What a client costs that does not read, and what all of them cost, as counts: through the whole daemon, in memory."""

from collections import Counter
from typing import Any
from unittest.mock import patch

from pmdaemon.core.events import ProcessEvent
from pmdaemon.web import channels
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import CLIENT_LIMIT
from tests.web.resuming import EVENT, LOG, MUCH, STATUS, ResumeCase, of, texts
from tests.web.rig import Peer


class SlowClientTests(ResumeCase):
    """[F1]"""

    def stalled(self, *names: str) -> Peer:
        """A client that has subscribed and then reads nothing more."""
        peer = self.watch(*names)
        peer.messages  # noqa: B018  # what came so far
        peer.wire.lags = True
        return peer

    def happen(self, number: int, size: int = 100) -> None:
        process = self.process
        details = {"number": number, "filler": "x" * size}
        event = ProcessEvent(
            event="restarted", process=process.name, id=process.id, app=process.app, instance=0,
            namespace=process.namespace, details=details,
        )  # fmt: skip
        self.world.bus.publish(event, process)
        self.world.pass_time()

    def numbers(self, *peers: Peer) -> list[int]:
        return [each["data"]["details"]["number"] for peer in peers for each in of(peer.messages, EVENT)]

    def test_lines_are_dropped_and_counted_and_events_and_replies_are_kept(self) -> None:
        slow = self.stalled(EVENT, LOG)
        for number in range(30):
            self.world.say(self.process, MUCH)
            self.happen(number)
        slow.send("ping", id="question")
        self.world.pass_time()
        self.assertLess(slow.protocol.outbox.size, CLIENT_LIMIT + 600_000)
        slow.wire.take()
        slow.wire.lags = False
        slow.wire.take()
        self.world.pass_time()
        self.assertEqual(self.numbers(slow), list(range(30)))
        self.assertEqual(len([each for each in slow.messages if each.get("reply_to") == "question"]), 1)
        gaps = [each["data"]["dropped"] for each in of(slow.messages, "log_gap")]
        self.assertTrue(gaps)
        self.assertEqual(len(texts(slow.messages)) + sum(gaps), 30 * 500)
        ids = [each["id"].split(".")[0] for each in slow.messages]
        self.assertEqual(ids, sorted(ids))

    def test_a_filter_holds_for_what_is_counted(self) -> None:
        slow = self.world.connect()
        slow.ask("subscribe", {"events": [LOG], "grep": "7\n".strip(), "stream": "stdout"})
        slow.messages  # noqa: B018
        slow.wire.lags = True
        for _ in range(60):
            self.world.say(self.process, MUCH)
        slow.wire.take()
        slow.wire.lags = False
        slow.wire.take()
        gaps = sum(each["data"]["dropped"] for each in of(slow.messages, "log_gap"))
        self.assertEqual(len(texts(slow.messages)) + gaps, 60 * len([n for n in range(500) if "7" in str(n)]))

    def test_who_is_closed_comes_back_without_a_gap(self) -> None:
        slow = self.stalled(EVENT, STATUS)
        number = 0
        while slow.protocol.state == slow.protocol.STATE_OPEN:
            self.happen(number, size=100_000)
            number += 1
        slow.wire.take()
        self.assertEqual(slow.closed and slow.closed[0], 1013)
        self.happen(number)
        seen = self.numbers(slow)
        self.assertLess(len(seen), number)
        back = self.watch(EVENT, STATUS, since=slow.messages[-1]["id"])
        self.world.pass_time(1)
        self.assertEqual(of(back.messages, "gap"), [])
        self.assertEqual(self.numbers(slow, back), list(range(number + 1)))

    def test_who_takes_nothing_for_120_s_is_closed(self) -> None:
        slow = self.stalled(EVENT, LOG)
        self.world.say(self.process, MUCH)
        self.assertTrue(slow.protocol.outbox.congested)
        self.world.pass_time(119)
        self.assertEqual((slow.protocol.state, slow.pings), (slow.protocol.STATE_OPEN, 0))
        self.world.pass_time(1)
        slow.wire.take()
        self.assertEqual(slow.closed and slow.closed[0], 1008)

    def test_for_all_of_them_the_largest_goes_first(self) -> None:
        self.world.factory.pool._limit = 1_000_000
        small, large = self.stalled(EVENT), self.stalled(EVENT, LOG)
        large.protocol.outbox.write(frame(b'"' + b"x" * 300_000 + b'"'))
        for number in range(9):
            self.happen(number, size=50_000)
        small.wire.take()
        large.wire.take()
        self.assertEqual((small.closed, large.closed and large.closed[0]), (None, 1013))
        self.assertLess(self.world.factory.pool.total, 1_000_000)


class CountTests(ResumeCase):
    """However many clients there are, an event is framed once, and a turn is one write to each."""

    def test_a_known_load(self) -> None:
        peers = [self.watch(EVENT, LOG) for _ in range(20)]
        peers += [self.watch(LOG, grep="1") for _ in range(20)]
        writes: Counter[str] = Counter()
        for peer in [self.witness, *peers]:
            peer.messages  # noqa: B018
            self._count(peer, writes)
        lines = "".join(f"{number}\n" for number in range(100))
        with patch.object(channels, "frame", wraps=channels.frame) as framed:
            for _ in range(5):
                self.world.say(self.process, lines)
        self.assertEqual(framed.call_count, 5 * 100)
        self.assertEqual(writes["write"], 5 * 41)
        self.assertEqual([len(texts(peer.messages)) for peer in peers], [500] * 20 + [5 * 19] * 20)

    def _count(self, peer: Peer, writes: Counter[str]) -> None:
        real: Any = peer.wire.write

        def write(data: bytes) -> None:
            writes["write"] += 1
            real(data)

        peer.wire.write = write  # type: ignore[method-assign]

    def test_nothing_is_asked_of_routes_twice(self) -> None:
        """A (type, process) is looked up once, until a channel comes or goes."""
        self.watch(EVENT, LOG)
        routes: Any = self.world.channels._routes
        with patch.object(routes, "_find", wraps=routes._find) as found:
            for _ in range(5):
                self.world.say(self.process, "line\n")
            self.assertEqual(found.call_count, 1)
            self.watch(LOG, grep="x")
            self.world.say(self.process, "line\n")
        self.assertEqual(found.call_count, 2)
