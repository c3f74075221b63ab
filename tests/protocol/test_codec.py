"""The envelope: what a client may send [E2], [E4], [E5], and what it gets [E1], [E7], [R2]."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.commands import ACTIONS, REQUESTS, GetInfo, Ping, Start, Stop, Subscribe
from pmdaemon.core.times import rfc3339
from pmdaemon.errors import PMDaemonError, ProcessNotFound
from pmdaemon.protocol.codec import Incoming, decode, encode, error_data


def read(**message: Any) -> Incoming:
    return decode(json.dumps(message).encode())


class CodecCase(SynchronousTestCase):
    def refused(self, incoming: Incoming, code: str, *words: str, path: str | None = None) -> PMDaemonError:
        """It was refused with this code, by a message that says these words."""
        self.assertIsNone(incoming.request)
        assert incoming.error is not None
        self.assertEqual(incoming.error.code, code)
        self.assertTrue(incoming.error.message.startswith("cannot "), incoming.error.message)
        for word in words:
            self.assertIn(word, f"{incoming.error.message} {incoming.error.hint}")
        if path is not None:
            self.assertEqual(incoming.error.details["path"], path)
        return incoming.error


class ReadingTests(CodecCase):
    def test_only_the_type_is_required(self) -> None:
        """[E2]"""
        for message in ({}, {"data": None}, {"data": {}}, {"id": None, "timestamp": 5, "other": [1]}):
            self.assertEqual(read(type="ping", **message), Incoming(about={"type": "ping"}, request=Ping()))

    def test_null_means_absent(self) -> None:
        """[E2]"""
        absent = dict.fromkeys(("processes", "interval", "since", "tail", "level", "stream", "grep", "regex"))
        self.assertEqual(read(type="subscribe", data={"events": [], **absent}).request, Subscribe(events=[]))
        given = {"action": "start", "process": "a", "config": None, "wait": None, "timeout": None, "replace": None}
        self.assertEqual(read(type="command", data=given).request, Start(process="a"))
        self.refused(read(type="command", data={"action": "start", "process": None}), "INVALID_MESSAGE", "process")

    def test_ids_come_back_as_they_were(self) -> None:
        """[E2]"""
        for id_ in (0, -1, 2**63, 2**64 + 1, -(10**100), "", "a", "é" * 128):
            self.assertEqual(read(type="ping", id=id_).id, id_)

    def test_ids_that_are_none(self) -> None:
        """[E2]"""
        for id_ in (1.5, 1.0, True, [], {}, "a" * 129, 10**128):
            incoming = read(type="ping", id=id_)
            self.refused(incoming, "INVALID_MESSAGE", "id is neither", path="id")
            self.assertIsNone(incoming.id)

    def test_what_is_wrong_with_data_is_answered_under_the_id(self) -> None:
        self.assertEqual(read(type="ping", id=5, data=[]).id, 5)
        self.refused(read(type="ping", data=[]), "INVALID_MESSAGE", "data is a list", path="data")

    def test_every_request_and_every_action(self) -> None:
        self.assertEqual({"subscribe", "unsubscribe", "get_info", "get_system", "ping"} - set(REQUESTS), set())
        for action in ("start", "stop", "restart", "delete", "reload"):
            request = read(type="command", data={"action": action, "process": "web"}).request
            self.assertIs(type(request), ACTIONS[action])
            self.assertEqual(getattr(request, "process", None), "web")

    def test_a_process_by_its_number(self) -> None:
        self.assertEqual(read(type="get_info", data={"process": 0}).request, GetInfo(process=0))
        for wrong in (1.0, True, "", [], "x" * 257):
            self.refused(read(type="get_info", data={"process": wrong}), "INVALID_MESSAGE", "process")


class RefusalTests(CodecCase):
    def test_what_is_not_JSON(self) -> None:
        """[E4]"""
        for payload in (b"", b" ", b"{", b'{"type": "ping"}}', b"NaN", b"\xff", b'"\xed\xa0\x80"', b"[" * 100_000):
            self.refused(decode(payload), "INVALID_JSON", "cannot read the message")

    def test_what_is_not_an_object(self) -> None:
        for payload, kind in ((b"[]", "a list"), (b'"ping"', "a string"), (b"5", "a number"), (b"null", "null")):
            self.refused(decode(payload), "INVALID_MESSAGE", f"it is {kind}, not an object")

    def test_a_type_that_is_missing_or_not_known(self) -> None:
        self.refused(read(), "INVALID_MESSAGE", "type is missing", "get_system", path="type")
        self.refused(read(type=5), "INVALID_MESSAGE", "type is missing")
        self.refused(read(type="subscrib"), "UNKNOWN_TYPE", "'subscrib'", "did you mean 'subscribe'?")
        self.refused(read(type="weather"), "UNKNOWN_TYPE", "'weather'", "known: authenticate, command")

    def test_an_action_that_is_missing_or_not_known(self) -> None:
        self.refused(read(type="command"), "INVALID_MESSAGE", "action is missing", "start, stop", path="data.action")
        self.refused(read(type="command", data={"acton": "stop"}), "INVALID_MESSAGE", "did you mean it by 'acton'?")
        error = self.refused(
            read(type="command", data={"action": "strat", "process": "a"}), "UNKNOWN_ACTION", "did you mean 'start'?"
        )
        self.assertEqual(error_data(error, {})["code"], "UNKNOWN_ACTION")

    def test_unknown_keys_are_named_with_the_nearest(self) -> None:
        """[E5]"""
        for type_, key, near, data in (
            ("subscribe", "process", "processes", {"events": ["process_status"]}),
            ("subscribe", "intervall", "interval", {"events": ["process_status"]}),
            ("unsubscribe", "event", "events", {}),
            ("get_info", "proces", "process", {}),
            ("command", "timout", "timeout", {"action": "stop", "process": "a"}),
            ("command", "purg", "purge", {"action": "delete", "process": "a"}),
        ):
            incoming = read(type=type_, data={**data, key: 1})
            self.refused(incoming, "INVALID_MESSAGE", f"{key} is not a known key", f"{near!r}", path=f"data.{key}")

    def test_a_key_of_another_action(self) -> None:
        data = {"action": "stop", "process": "a", "config": {}}
        self.refused(read(type="command", data=data), "INVALID_MESSAGE", "config is not a known key")

    def test_wrong_values_say_where(self) -> None:
        for data, path in (
            ({"events": "process_status"}, "data.events"),
            ({"events": [5]}, "data.events[0]"),
            ({"events": [], "processes": ["a", 1.5]}, "data.processes[1]"),
            ({"events": [], "interval": 1.5}, "data.interval"),
            ({"events": [], "interval": "1000"}, "data.interval"),
            ({"events": [], "tail": 10_001}, "data.tail"),
            ({"events": [], "tail": -1}, "data.tail"),
            ({"events": ["x"] * 65}, "data.events"),
            ({"events": [], "processes": ["a"] * 1001}, "data.processes"),
        ):
            self.refused(read(type="subscribe", data=data), "INVALID_MESSAGE", path=path)

    def test_what_was_asked_is_said_back(self) -> None:
        """[R2]"""
        incoming = read(type="command", data={"action": "stop", "process": "web", "more": 1})
        assert incoming.error is not None
        told = error_data(incoming.error, incoming.about)
        self.assertEqual(set(told), {"code", "message", "hint", "request", "details"})
        self.assertEqual(told["request"], {"type": "command", "action": "stop", "process": "web"})
        self.assertEqual(read(type="command", data={"action": [], "process": "x" * 300}).about, {"type": "command"})
        self.assertEqual(
            error_data(ProcessNotFound("cannot find it", details={"matches": ["a"]}), {}),
            {
                "code": "PROCESS_NOT_FOUND",
                "message": "cannot find it",
                "hint": None,
                "request": {"type": None, "action": None, "process": None},
                "details": {"matches": ["a"]},
            },
        )


class WritingTests(CodecCase):
    def test_the_envelope(self) -> None:
        """[E1]"""
        at = 1_705_329_025.1234
        self.assertEqual(
            json.loads(encode("pong", {}, id="17", at=at)),
            {"type": "pong", "data": {}, "timestamp": "2024-01-15T14:30:25.123Z", "id": "17"},
        )
        for reply_to in (None, 0, "", 2**70, "é"):
            told = json.loads(encode("pong", {}, id="17", at=at, reply_to=reply_to))
            self.assertEqual(set(told), {"type", "data", "timestamp", "id", "reply_to"})
            self.assertEqual(told["reply_to"], reply_to)

    def test_what_is_not_text_becomes_text(self) -> None:
        data = {"p\udcff": ["/caf\udce9", 5, None, {"a": "\ud800"}]}
        told = json.loads(encode("x", data, id="1", at=0.0, reply_to="\udcff"))
        self.assertEqual((told["data"], told["reply_to"]), ({"p?": ["/caf?", 5, None, {"a": "?"}]}, "?"))

    def test_times(self) -> None:
        """[E1]: milliseconds always, rounded down, UTC."""
        for at, text in (
            (0.0, "1970-01-01T00:00:00.000Z"),
            (1.9999, "1970-01-01T00:00:01.999Z"),
            (1_700_000_000.5, "2023-11-14T22:13:20.500Z"),
        ):
            self.assertEqual(rfc3339(at), text)

    def test_no_request_names_what_is_not_its_own(self) -> None:
        self.assertIs(type(read(type="command", data={"action": "stop", "process": 3}).request), Stop)
