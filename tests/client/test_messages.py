"""What goes over the wire as text is typed for the user, and the daemon's errors are exceptions of their own."""

import json

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.client.errors import NoDaemon, ProtocolError
from pmdaemon.client.messages import decode, encode, error_of, refusal, result
from pmdaemon.core.commands import GetHistory, Ping, Start
from pmdaemon.core.events import ProcessMetrics
from pmdaemon.core.info import ProcessObject
from pmdaemon.errors import PMDaemonError, ProcessNotFound, RateLimited, Unauthorized
from pmdaemon.protocol.replies import Error, Pong, ProcessInfo

PROCESS = {
    "id": 3,
    "name": "web",
    "app": "web",
    "instance": 0,
    "namespace": "default",
    "status": "online",
    "pid": 7,
    "port": None,
    "cpu": 1.5,
    "memory": 10,
    "uptime": 20,
    "restarts": 1,
    "health": "unknown",
    "exit_code": None,
    "exit_signal": None,
    "created_at": "2026-01-31T12:00:00.000Z",
    "started_at": None,
}


def frame(type_: str, data: object, **rest: object) -> str:
    return json.dumps({"type": type_, "data": data, "timestamp": "t", "id": "1", **rest})


class EncodeTests(SynchronousTestCase):
    def test_only_what_is_given(self) -> None:
        command = json.loads(encode(Start(process="web", config={"script": "a", "env": {"A": None}}), "7"))
        data = {"action": "start", "process": "web", "config": {"script": "a", "env": {"A": None}}}
        self.assertEqual(command, {"type": "command", "id": "7", "data": data})
        self.assertEqual(json.loads(encode(Ping(), "1")), {"type": "ping", "id": "1", "data": {}})

    def test_names_of_the_wire(self) -> None:
        asked = json.loads(encode(GetHistory(process=1, metric="cpu", from_=5), "1"))
        self.assertEqual(asked["data"], {"process": 1, "metric": "cpu", "from": 5})


class DecodeTests(SynchronousTestCase):
    def test_process_info_is_a_list_always(self) -> None:
        for data in (PROCESS, {"processes": [PROCESS]}, {"instances": [PROCESS]}):
            info = decode(frame("process_info", data)).data
            found = info.processes or info.instances
            self.assertIsInstance(info, ProcessInfo)
            self.assertIsInstance(found[0], ProcessObject)
            self.assertEqual(found[0].name, "web")

    def test_what_a_newer_daemon_says(self) -> None:
        self.assertEqual(decode(frame("weather", {"rain": 1})).data, {"rain": 1})
        entry = {key: PROCESS[key] for key in PROCESS if key not in ("exit_code", "exit_signal", "created_at")}
        message = decode(frame("process_metrics", {"processes": [{**entry, "threads": 4}], "more": 1}))
        self.assertIsInstance(message.data, ProcessMetrics)

    def test_no_daemon_of_ours(self) -> None:
        for text in ("", "[]", "{", '{"type": "pong"}', frame("process_status", {"id": "x"})):
            self.assertRaises(ProtocolError, decode, text)


class ErrorTests(SynchronousTestCase):
    def test_each_code_has_its_class(self) -> None:
        error = Error(code="PROCESS_NOT_FOUND", message="cannot", hint="look", details={"matches": ["web"]})
        why = error_of(error)
        self.assertIsInstance(why, ProcessNotFound)
        self.assertEqual((why.message, why.hint, why.details), ("cannot", "look", {"matches": ["web"]}))

    def test_a_code_nobody_knows(self) -> None:
        why = error_of(Error(code="TOO_LATE", message="cannot"))
        self.assertIsInstance(why, PMDaemonError)
        self.assertEqual(why.code, "TOO_LATE")

    def test_result(self) -> None:
        self.assertEqual(result(decode(frame("pong", {})), Pong), Pong())
        self.assertRaises(ProtocolError, result, decode(frame("pong", {})), ProcessInfo)
        wrong = {"code": "RATE_LIMITED", "message": "m", "hint": None, "request": {}, "details": {"retry_ms": 5}}
        self.assertRaises(RateLimited, result, decode(frame("error", wrong)), Pong)

    def test_refused_handshakes(self) -> None:
        body = b'{"error": {"code": "UNAUTHORIZED", "message": "cannot", "hint": "a token"}}'
        why = refusal(401, body, "ws://x/ws")
        self.assertIsInstance(why, Unauthorized)
        self.assertEqual((why.message, why.hint), ("cannot", "a token"))
        self.assertIsInstance(refusal(503, b"", "x"), NoDaemon)
        self.assertIn("HTTP 404", refusal(404, b"<html>", "x").message)
        self.assertIsInstance(refusal(404, b"\xff", "x"), ProtocolError)
