"""All who want the same are one channel: an event costs what it must for those who get it, and nothing for others."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.commands import Subscribe
from pmdaemon.core.events import LogMessage, ProcessEvent, SystemMetrics
from pmdaemon.core.samples import Sample
from pmdaemon.core.selection import Selection
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.sampler import Sampler
from pmdaemon.protocol.subscription import Subscription
from pmdaemon.web import routes as module
from pmdaemon.web.channels import Channel, Channels
from pmdaemon.web.outbox import CHUNK, Frame, Kind
from pmdaemon.web.routes import Routes

EVENT, LOG, STATUS = "process_event", "log_message", "process_status"


class Who(Struct, frozen=True):
    id: int = 1
    name: str = "web"
    app: str = "web"
    namespace: str = "default"


WEB = Who()


def to(*events: str, **more: Any) -> Subscription:
    return Subscription().with_added(Subscribe(events=list(events), **more))[0]


class Box:
    """An outbox that notes what it gets."""

    ready = False
    send_now = waits = None

    def __init__(self) -> None:
        self.congested = False
        self.written: list[bytes] = []
        self.offered: list[Frame] = []

    def write(self, blob: bytes) -> None:
        self.written.append(blob)

    def offer(self, frames: list[Frame]) -> None:
        self.offered.extend(frames)


class Reader:
    """A member."""

    def __init__(self) -> None:
        self.outbox = Box()

    def read(self) -> list[str]:
        """The texts of what was written since the last time."""
        blobs, self.outbox.written = self.outbox.written, []
        return [blob[2:].decode() for blob in blobs]


class ChannelsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.followed: list[tuple[Selection, tuple[str, ...]]] = []
        self.settled: list[None] = []
        self.encoded: list[int] = []
        sampler = Sampler(self.clock, dict, system=lambda: None)
        self.channels = Channels(
            stamp=lambda: ("17", 0.0),
            settle=lambda: self.settled.append(None),
            sampler=sampler,
            measure=lambda selection, now, before: None,
            follow_logs=lambda selection, streams: self.followed.append((selection, tuple(streams))),
        )

    def publish(self, text: str, who: Who = WEB, type_: str = EVENT) -> Message:
        if type_ == LOG:
            fields = {"level": "info", "message": text, "stream": "stdout", "offset": 0}
            event: Any = LogMessage(process=who.name, id=who.id, app=who.app, instance=0, namespace="x", **fields)
        else:
            event = ProcessEvent(
                event=text, process=who.name, id=who.id, app=who.app, instance=0, namespace="x", details={}
            )
        seq = len(self.encoded) + 100

        def encode(event: object, id_: str, at: float) -> bytes:
            self.encoded.append(seq)
            return text.encode()

        message = Message(seq, 0.0, event, who, encode)
        self.channels.offer(message)
        return message

    def readers(self, count: int, subscription: Subscription) -> list[Reader]:
        readers = [Reader() for _ in range(count)]
        for reader in readers:
            self.channels.join(reader, subscription)
        return readers


class FanOutTests(ChannelsCase):
    def test_one_write_to_each_for_all_of_a_turn(self) -> None:
        same = self.readers(3, to(EVENT))
        other = self.readers(2, to(EVENT, processes=["web"]))
        nobody = self.readers(1, to(EVENT, processes=["job"]))
        self.publish("a")
        self.publish("b")
        self.assertEqual([each.outbox.written for each in same], [[], [], []])
        self.channels.flush()
        self.assertEqual([each.outbox.written for each in same + other], [[b"\x81\x01a\x81\x01b"]] * 5)
        self.assertEqual((nobody[0].outbox.written, len(self.encoded)), ([], 2))
        self.channels.flush()
        self.assertEqual(len(same[0].outbox.written), 1)

    def test_encoded_for_nobody_not_at_all(self) -> None:
        self.readers(1, to(STATUS))
        self.readers(1, to(LOG, grep="x"))
        self.publish("a")
        self.publish("b", type_=LOG)
        self.assertEqual(self.encoded, [])

    def test_kinds_of_frames(self) -> None:
        """[F1]"""
        (slow,) = self.readers(1, to(EVENT, LOG, "system_metrics"))
        slow.outbox.congested = True
        self.publish("event")
        line = self.publish("line", type_=LOG)
        self.channels.flush()
        self.assertEqual(
            [(each.kind, each.key, each.seq) for each in slow.outbox.offered],
            [(Kind.KEPT, "", 0), (Kind.LOG, "web", line.seq)],
        )
        self.channels._deliver("system_metrics", {}, list(self.channels._channels.values()))
        self.assertEqual((slow.outbox.offered[-1].kind, slow.outbox.offered[-1].key), (Kind.METRICS, "system_metrics"))
        self.assertEqual(len(self.settled), 1, "what was published before it is told before it")

    def test_much_at_once_is_written_64_kib_at_a_time(self) -> None:
        (reader,) = self.readers(1, to(LOG))
        for _ in range(3):
            self.publish("x" * (CHUNK // 2), type_=LOG)
        self.channels.flush()
        self.assertEqual([len(blob) // (CHUNK // 2) for blob in reader.outbox.written], [2, 1])

    def test_who_is_not_meant_is_not_asked(self) -> None:
        """However many channels there are."""
        self.readers(1, to(EVENT, processes=["web"]))
        for number in range(500):
            self.readers(1, to(EVENT, LOG, processes=[f"job-{number}", number + 1000]))
        asked: list[object] = []
        contains = Selection.__contains__
        self.patch(Selection, "__contains__", lambda self, who: asked.append(who) or contains(self, who))
        for _ in range(10):
            self.publish("a")
        self.channels.flush()
        self.assertEqual((asked, len(self.encoded)), ([], 10))


class MembershipTests(ChannelsCase):
    def test_equal_subscriptions_are_one_channel(self) -> None:
        readers = self.readers(1000, to(LOG, processes=["web"]))
        self.assertEqual(len(self.channels._channels), 1)
        self.assertEqual(self.followed, [(Selection(["web"]), ("stdout", "stderr"))], "the logs were looked at once")
        for reader in readers:
            self.channels.gone(reader)
        self.assertEqual((self.channels._channels, len(self.followed)), ({}, 1))

    def test_from_one_to_another(self) -> None:
        (reader,) = self.readers(1, to(EVENT))
        self.channels.join(reader, to(EVENT, processes=["job"]))
        self.publish("web")
        self.publish("job", Who(2, "job", "job"))
        self.channels.flush()
        self.assertEqual(reader.read(), ["job"])
        self.channels.join(reader, Subscription())
        self.publish("job", Who(2, "job", "job"))
        self.channels.flush()
        self.assertEqual((reader.read(), self.channels._channels), ([], {}))

    def test_one_that_goes_in_the_middle_of_a_turn(self) -> None:
        one, other = self.readers(2, to(EVENT))
        self.publish("a")
        self.channels.gone(one)
        self.channels.flush()
        self.assertEqual((one.read(), other.read()), ([], ["a"]))
        self.publish("b")
        self.channels.gone(other)
        self.channels.flush()

    def test_held_ones_get_nothing_but_their_logs_are_followed(self) -> None:
        (reader,) = self.readers(1, to(EVENT))
        begun: list[Channel] = []
        held = self.channels.hold(
            reader,
            to(EVENT, LOG, stream="stderr"),
            lambda channel: begun.append(channel) or self.assertEqual(self.followed, []),
        )
        self.assertEqual((begun, self.followed), ([held], [(Selection(None), ("stderr",))]))
        self.assertEqual([self.channels.wants_log(WEB, stream) for stream in ("stdout", "stderr")], [False, True])
        self.publish("a")
        self.channels.flush()
        self.assertEqual((reader.read(), self.channels._channels), ([], {}))
        self.channels.join(reader, held.subscription)
        self.publish("b")
        self.channels.flush()
        self.assertEqual((reader.read(), self.channels._held), (["b"], {}))
        self.assertTrue(self.channels.wants_log(WEB, "stderr"))
        self.channels.gone(reader)
        self.assertFalse(self.channels.wants_log(WEB, "stderr"))

    def test_held_again_and_gone(self) -> None:
        (reader,) = self.readers(1, Subscription())
        for _ in range(3):
            self.channels.hold(reader, to(LOG), lambda channel: None)
        self.channels.gone(reader)
        self.assertFalse(self.channels.wants_log(WEB, "stdout"))


class FiguresTests(ChannelsCase):
    def test_one_measurement_for_channels_that_share_it(self) -> None:
        measured: list[tuple[Selection, Sample | None]] = []

        def measure(selection: Selection, now: Sample, before: Sample | None) -> SystemMetrics:
            measured.append((selection, before))
            return SystemMetrics(None, None, None)

        self.channels._figures._measure = measure
        readers = [
            *self.readers(2, to("process_metrics")),
            *self.readers(1, to("process_metrics", EVENT)),
            *self.readers(1, to("process_metrics", processes=["web"])),
            *self.readers(1, to("process_metrics", interval=2000)),
        ]
        self.clock.pump([0.5] * 4)
        told = [len(each.read()) for each in readers]
        self.assertEqual(told, [2, 2, 2, 2, 1])
        self.assertEqual(len(measured), 2 + 2 + 1)
        self.assertNotIn(None, [before for _, before in measured], "each over its interval [P5]")
        for reader in readers:
            self.channels.gone(reader)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_another_subscription_with_the_same_figures_goes_on_as_before(self) -> None:
        (reader,) = self.readers(1, to("process_metrics"))
        self.clock.advance(0.9)
        self.channels.join(reader, to("process_metrics", EVENT))
        self.clock.advance(0.11)
        self.assertEqual(len(reader.read()), 1)


selectors = st.one_of(
    st.integers(0, 2), st.sampled_from(["0", "1", "a", "a-0", "a-*", "*", "ns:x", "ns:*", "all", "b?", "nothing"])
)
subscriptions = st.builds(
    lambda events, processes: to(*events, processes=processes),
    st.lists(st.sampled_from([EVENT, STATUS, LOG]), min_size=1, max_size=3),
    st.one_of(st.none(), st.lists(selectors, max_size=3)),
)
PEOPLE = [Who(0, "a-0", "a", "x"), Who(1, "a-1", "a", "x"), Who(1, "a-1", "a", "y"), Who(2, "b1", "b1", "y")]


class RouteTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.one_of(subscriptions, st.integers(0, 9)), max_size=12))
    def test_they_lead_to_those_who_want_it(self, steps: list[Any]) -> None:
        """Whatever came and went before, and was asked in between."""
        routes: Routes[Channel] = Routes()
        there: list[Channel] = []
        for step in steps:
            if isinstance(step, Subscription):
                there.append(Channel(step))
                routes.add(there[-1])
            elif there:
                routes.remove(there.pop(step % len(there)))
            for who in PEOPLE:
                for type_ in (EVENT, STATUS, LOG):
                    found = routes.of(type_, who)
                    self.assertEqual(len(found), len(set(found)))
                    self.assertEqual(set(found), {each for each in there if each.wants(type_, who)})
        for channel in there:
            routes.remove(channel)
        self.assertEqual((routes._places, {key: left for key, left in routes._patterns.items() if left}), ({}, {}))

    def test_what_is_remembered_is_bounded(self) -> None:
        routes: Routes[Channel] = Routes()
        self.patch(module, "_MAX_KNOWN", 10)
        for number in range(100):
            routes.of(EVENT, Who(number))
        self.assertLessEqual(len(routes._known), 10)
