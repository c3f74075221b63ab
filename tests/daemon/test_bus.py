"""The bus: one stamp for each event, committed before it leaves, and nobody keeps another from hearing it."""

import json
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import Struct
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.events import LogMessage, ProcessEvent, SystemMetrics
from pmdaemon.daemon import bus as module
from pmdaemon.daemon.bus import EventBus, Message
from pmdaemon.daemon.ids import Sequence
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.store import Store


class Who(Struct, frozen=True):
    id: int = 1
    name: str = "web"
    app: str = "web"
    namespace: str = "blue"


def event(what: str) -> ProcessEvent:
    return ProcessEvent(event=what, process="web", id=1, app="web", instance=0, namespace="blue", details={})


def line(text: str) -> LogMessage:
    return LogMessage(
        process="web",
        id=1,
        app="web",
        instance=0,
        namespace="blue",
        level="info",
        message=text,
        stream="stdout",
        offset=0,
    )


class Listener:
    """A sink that notes what it hears, and what was committed by then."""

    def __init__(self, story: list[Any]) -> None:
        self.story = story
        self.heard: list[Message] = []

    def offer(self, message: Message) -> None:
        self.heard.append(message)

    def flush(self) -> None:
        self.story.append(("flush", len(self.heard)))


class BusCase(SynchronousTestCase):
    def setUp(self) -> None:
        path = Path(tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp()))), "state.db")
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.store = Store(path)
        self.addCleanup(lambda: self.store.db.close())
        self.journal = Journal(self.store)
        self.story: list[Any] = []
        self.encoded: list[str] = []
        self.bus = EventBus(
            self.clock,
            now=self.clock.seconds,
            sequence=Sequence(1),
            journal=self.journal,
            commit=self._commit,
            encode=self._encode,
        )
        self.store.written = self.bus.soon
        self.listener = Listener(self.story)
        self.bus.add(self.listener)

    def _commit(self) -> None:
        self.story.append("commit")
        self.store.commit()

    def _encode(self, event: Any, id_: str, at: float) -> bytes:
        self.encoded.append(id_)
        return json.dumps({"id": id_, "at": at, "type": event.type}).encode()


class PublishTests(BusCase):
    def test_what_is_published_in_a_turn_leaves_together_after_the_commit(self) -> None:
        for what in ("a", "b", "c"):
            self.bus.publish(event(what), Who())
        self.assertEqual((len(self.listener.heard), self.story), (3, []))
        self.clock.advance(0)
        self.assertEqual(self.story, ["commit", ("flush", 3)])
        self.clock.advance(10)
        self.assertEqual(self.story, ["commit", ("flush", 3)])

    def test_at_once_where_a_reply_follows(self) -> None:
        """[P11]"""
        self.bus.publish(event("a"), Who())
        self.bus.flush()
        self.assertEqual(self.story, ["commit", ("flush", 1)])
        self.assertFalse(self.store.db.in_transaction)

    def test_one_stamp_for_all(self) -> None:
        """[E1], [E3]"""
        other = Listener(self.story)
        self.bus.add(other)
        self.bus.publish(event("a"), Who())
        reply, at = self.bus.stamp()
        self.bus.publish(event("b"), Who())
        self.assertIs(self.listener.heard[0], other.heard[0])
        first, second = self.listener.heard
        self.assertEqual(json.loads(first.payload), {"id": "0000010000000001", "at": 1000.0, "type": "process_event"})
        self.assertEqual((reply, at, second.seq), ("0000010000000002", 1000.0, (1 << 40) + 3))
        self.assertEqual(self.bus.last, second.seq)

    def test_encoded_once_and_only_where_somebody_wants_it(self) -> None:
        self.bus.publish(event("a"), Who())
        for _ in range(3):
            self.assertTrue(self.listener.heard[0].payload)
        self.bus.publish_lines([line("x")], Who(), stream="stdout", start=0, end=2, line=0)
        self.assertEqual(len(self.encoded), 1)

    def test_what_is_kept(self) -> None:
        """[S7]: events whole, of lines where they are."""
        self.bus.publish(event("a"), Who())
        self.bus.publish(SystemMetrics(cpu=None, memory=None, load=None), Who())
        self.bus.publish_lines([line("x"), line("y")], Who(), stream="stdout", start=3, end=7, line=1)
        (kept,) = self.journal.events(0, 10)
        self.assertEqual((kept.body, kept.namespace, kept.at), (self.listener.heard[0].payload, "blue", 1000.0))
        (mark,) = self.journal.marks(0, 10)
        self.assertEqual((mark.seq, mark.pieces, mark.last), ((1 << 40) + 3, 2, (1 << 40) + 4))
        self.assertEqual((mark.start, mark.end, mark.line, mark.namespace), (3, 7, 1, "blue"))
        self.assertEqual([each.seq - (1 << 40) for each in self.listener.heard], [1, 2, 3, 4])

    def test_a_write_to_the_store_is_committed_in_its_turn(self) -> None:
        self.store.new_process_id()
        self.clock.advance(0)
        self.assertEqual(self.story[0], "commit")
        self.assertFalse(self.store.db.in_transaction)

    def test_a_listener_that_fails_keeps_nobody_from_hearing_it(self) -> None:
        broken, last = Listener(self.story), Listener(self.story)
        self.patch(broken, "offer", lambda message: 1 / 0)
        self.patch(broken, "flush", lambda: 1 / 0)
        self.bus.add(broken)
        self.bus.add(last)
        self.bus.publish(event("a"), Who())
        self.bus.flush()
        self.assertEqual((len(last.heard), self.story), (1, ["commit", ("flush", 1), ("flush", 1)]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class TurnTests(BusCase):
    """How long a turn is."""

    def spend(self, seconds: float) -> None:
        """Have each flush take that long."""
        self.listener.flush = lambda: (  # type: ignore[method-assign]
            self.story.append(self.clock.seconds() - 1000.0),
            self.clock.advance(seconds),
        )

    def flushes(self, count: int) -> list[float]:
        """Publish something new each 0.1 ms, and return when that left, in ms."""
        self.story.clear()
        while len(self.story) < 2 * count:
            self.bus.publish(event("a"), Who())
            self.clock.advance(0.0001)
        return [round(1000 * (at - self.story[1]), 1) for at in self.story[1::2]]

    def test_what_costs_nothing_leaves_at_once(self) -> None:
        self.spend(0.0)
        self.assertEqual(self.flushes(4), [0.0, 0.1, 0.2, 0.3])

    def test_what_costs_more_is_gathered_for_a_millisecond_or_two(self) -> None:
        for cost, apart in ((0.0005, 1.5), (0.0015, 3.0), (0.005, 7.0)):
            self.spend(cost)
            self.flushes(1)
            told = self.flushes(4)
            for earlier, later in pairwise(told):
                self.assertTrue(1000 * cost < later - earlier <= apart + 0.2, (cost, told))
                self.assertTrue(later - earlier >= apart - 0.2, (cost, told))

    def test_a_commit_that_takes_long_draws_nothing_out(self) -> None:
        """Only to send is cheaper together; a process that has crashed is not to wait for it."""
        self.spend(0.0)
        self.bus._commit = lambda: self.clock.advance(0.005)
        for _ in range(3):
            self.story.clear()
            self.bus.publish(event("a"), Who())
            self.clock.advance(0)
            self.assertEqual(len(self.story), 1)

    def test_after_a_pause_it_leaves_at_once_again(self) -> None:
        self.spend(0.005)
        self.flushes(3)
        self.clock.advance(1)
        self.story.clear()
        self.bus.publish(event("a"), Who())
        self.clock.advance(0)
        self.assertEqual(len(self.story), 2)

    def test_a_reply_waits_for_nothing(self) -> None:
        self.spend(0.005)
        self.flushes(3)
        self.bus.publish(event("a"), Who())
        self.story.clear()
        now = self.clock.seconds() - 1000.0
        self.bus.flush()
        self.assertEqual(self.story[:2], ["commit", now])

    def test_a_flush_of_nothing_tells_nothing(self) -> None:
        self.spend(0.0015)
        self.flushes(2)
        self.listener.flush = lambda: None  # type: ignore[method-assign]
        self.bus.flush()
        self.spend(0.0015)
        self.assertGreater(self.flushes(3)[1], 2.5)


class TimeTests(BusCase):
    def test_when_an_id_was_given_out(self) -> None:
        ids = []
        for _ in range(50):
            self.bus.stamp()
            ids.append((self.bus.last, self.clock.seconds()))
            self.clock.advance(0.03)
        for seq, at in ids:
            known = self.bus.time_of(seq)
            assert known is not None
            self.assertTrue(at - 0.1 <= known <= at, (known, at))

    def test_from_the_journal_where_it_is_long_ago(self) -> None:
        self.patch(module, "_MAX_TIMES", 10)
        self.bus.publish(event("a"), Who())
        kept = self.bus.last
        for _ in range(30):
            self.clock.advance(1)
            self.bus.stamp()
        self.assertEqual(self.bus.time_of(kept + 3), 1000.0)
        self.assertIsNone(self.bus.time_of(kept - 1))
        self.assertEqual(self.bus.time_of(self.bus.last), self.clock.seconds())
        self.assertLessEqual(len(self.bus._seqs), 10)
