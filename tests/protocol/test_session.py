"""One connection's dialogue: nothing that is sent to it raises, and all that it answers can be sent [E4]."""

import json
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.commands import ACTIONS, REQUESTS, Subscribe, Unsubscribe
from pmdaemon.core.events import EVENTS
from pmdaemon.errors import InvalidMessage, PMDaemonError
from pmdaemon.protocol.session import Session

KEYS = [
    "type",
    "data",
    "id",
    "timestamp",
    "action",
    "process",
    "processes",
    "events",
    "interval",
    "since",
    "tail",
    "level",
    "stream",
    "grep",
    "regex",
    "cursor",
    "config",
    "wait",
    "timeout",
    "replace",
    "purge",
    "instances",
    "signal",
]
WORDS = [*EVENTS, *REQUESTS, *ACTIONS, "command", "all", "ns:x", "web-*", "", "\x00", "é" * 200, "[" * 50, "("]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63, max_value=2**200),
    st.just(10**4000),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=20),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), inner, max_size=4),
    ),
    max_leaves=12,
)
fields = st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), values, max_size=6)
near_valid = st.fixed_dictionaries(
    {"type": st.sampled_from([*REQUESTS, "command"])},
    optional={
        "id": scalars,
        "data": st.builds(
            lambda action, rest: {**rest, "action": action}, st.sampled_from([*ACTIONS, "nothing"]), fields
        ),
    },
)
valid = st.fixed_dictionaries(
    {
        "type": st.just("subscribe"),
        "data": st.fixed_dictionaries(
            {"events": st.lists(st.sampled_from(sorted(EVENTS)), min_size=1)},
            optional={
                "processes": st.lists(st.one_of(st.integers(), st.sampled_from(WORDS)), max_size=4),
                "interval": st.integers(),
                "grep": st.text(max_size=10),
                "regex": st.booleans(),
            },
        ),
    }
)


def text(message: Any) -> bytes:
    """The message as JSON, surrogates and all; NaN and Infinity too, which are none."""
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")


class SessionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = _session()

    def check(self, payload: bytes) -> None:
        """Whatever it is: it is a request or an error, and its answer is a message that names what it answers."""
        session = _session()
        incoming = session.receive(payload)
        self.assertEqual([incoming.request is None, incoming.error is None].count(True), 1)
        error = incoming.error
        answer = self._answer(session, incoming) if error is None else session.refuse(incoming, error)
        told = json.loads(answer)
        self.assertEqual(set(told), {"type", "data", "timestamp", "id", "reply_to"})
        self.assertEqual(told["reply_to"], incoming.id)
        self.assertLess(len(answer), 512 * 1024)
        if told["type"] == "error":
            self.assertTrue(told["data"]["message"].startswith("cannot "))
            self.assertNotIn("\n", told["data"]["message"])

    def _answer(self, session: Session, incoming: Any) -> bytes:
        try:
            if isinstance(incoming.request, Subscribe):
                return session.reply(incoming, "subscribed", session.subscribe(incoming.request))
            if isinstance(incoming.request, Unsubscribe):
                return session.reply(incoming, "unsubscribed", session.unsubscribe(incoming.request))
        except PMDaemonError as error:
            return session.refuse(incoming, error)
        return session.reply(incoming, "pong", {})


def _session() -> Session:
    numbers = count(1)
    return Session(lambda: (f"{next(numbers):016x}", 0.0))


class AnyInputTests(SessionCase):
    check_any = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

    @check_any
    @given(st.binary(max_size=200))
    def test_any_bytes(self, payload: bytes) -> None:
        self.check(payload)

    @check_any
    @given(values)
    def test_any_JSON(self, message: Any) -> None:
        self.check(text(message))

    @check_any
    @given(st.one_of(near_valid, valid, st.fixed_dictionaries({"type": st.just("command"), "data": fields})))
    def test_messages_that_are_almost_right(self, message: Any) -> None:
        self.check(text(message))

    @check_any
    @given(st.one_of(near_valid, valid), st.data())
    def test_damaged_messages(self, message: Any, data: Any) -> None:
        payload = bytearray(text(message))
        for _ in range(3):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        self.check(bytes(payload))

    def test_deep_nesting(self) -> None:
        for opening, closing in ((b"[", b"]"), (b'{"data":', b"}"), (b'{"type":"ping","data":{"a":', b"}}")):
            for depth in (10, 100, 900, 1100, 10_000, 100_000):
                self.check(opening * depth + b"1" + closing * depth)
                self.check(opening * depth)

    def test_numbers_of_any_size(self) -> None:
        for number in (b"1" * 19, b"1" * 20, b"9" * 4299, b"9" * 5000, b"-" + b"9" * 40, b"1e308", b"1e309", b"1e-999"):
            for place in (b'{"type":"ping","id":%s}', b'{"type":"get_info","data":{"process":%s}}', b"%s"):
                self.check(place % number)
            for key in (b"interval", b"tail", b"processes"):
                self.check(b'{"type":"subscribe","data":{"events":["process_status"],"%s":%s}}' % (key, number))
            self.check(b'{"type":"subscribe","data":{"events":["process_status"],"processes":[%s]}}' % number)

    def test_surrogates(self) -> None:
        for word in (rb"\ud800", rb"\udc00", rb"\ud800\ud800", rb"\ud83d\ude00", b"\xed\xa0\x80"):
            self.check(b'{"type":"%s"}' % word)
            self.check(b'{"type":"ping","id":"%s","%s":1}' % (word, word))
            self.check(b'{"type":"get_info","data":{"process":"%s","%s":1}}' % (word, word))


class DialogueTests(SessionCase):
    def test_every_answer_takes_an_id(self) -> None:
        """[E3]"""
        incoming = self.session.receive(b'{"type": "ping", "id": "a"}')
        ids = [
            json.loads(answer)["id"]
            for answer in (
                self.session.reply(incoming, "pong", {}),
                self.session.refuse(incoming, InvalidMessage("cannot")),
                self.session.tell("gap", {}),
            )
        ]
        self.assertEqual(ids, [f"{number:016x}" for number in (1, 2, 3)])

    def test_what_answers_nothing_says_so(self) -> None:
        self.assertEqual(set(json.loads(self.session.tell("gap", {}))), {"type", "data", "timestamp", "id"})

    def test_it_keeps_the_subscription(self) -> None:
        """[S2], [S6]"""
        ack = self.session.subscribe(Subscribe(events=["process_status", "x"]))
        self.assertEqual(ack, {"events": {"process_status": {"processes": None, "interval": None}}, "ignored": ["x"]})
        self.assertRaises(InvalidMessage, self.session.subscribe, Subscribe(events=["x"]))
        self.assertEqual(list(self.session.subscription), ["process_status"])
        self.assertEqual(self.session.unsubscribe(Unsubscribe()), {"events": {}, "ignored": []})
        self.assertFalse(self.session.subscription)
