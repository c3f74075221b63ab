"""Lines in and out, orders checked, versions agreed on."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper import wire
from pmdaemon.keeper.wire import LogOrder, Malformed, Spawn, agree, decode, encode

ORDER: dict[str, Any] = {
    "op": "spawn",
    "id": "7",
    "inc": 3,
    "argv": ["sh"],
    "env": {"A": "b"},
    "cwd": "/",
    "cookie": ["C", "v"],
    "logs": {"1": {"path": "/o", "max_size": 5}, "2": {"path": "/e"}},
}


class Lines(SynchronousTestCase):
    def test_one_or_a_batch(self) -> None:
        self.assertEqual(decode(b'{"op":"ping"}'), [{"op": "ping"}])
        self.assertEqual(decode(b'{"orders":[{"op":"ping"},{"op":"state"}]}'), [{"op": "ping"}, {"op": "state"}])
        self.assertEqual(decode(b'{"orders":[]}'), [])

    def test_no_message(self) -> None:
        for line in (b"", b"x", b"\xff", b"[]", b"1", b'{"orders":1}', b'{"orders":[1]}', b"[" * 100_000):
            self.assertRaises(Malformed, decode, line)

    @given(st.binary(max_size=40))
    def test_no_bytes_are_a_defect(self, line: bytes) -> None:
        with contextlib.suppress(Malformed):
            decode(line)

    def test_one_line_each_whatever_is_in_it(self) -> None:
        message = {"text": "a\nb\u2028é\udc80"}
        line = encode(message)
        self.assertEqual((line.count(b"\n"), line[-1:], json.loads(line)), (1, b"\n", message))


class Orders(SynchronousTestCase):
    def test_least(self) -> None:
        order = Spawn.from_wire(ORDER)
        self.assertEqual(order.key, ("7", 3))
        self.assertEqual(order.logs, {1: LogOrder("/o", {"max_size": 5}), 2: LogOrder("/e", {})})
        self.assertEqual((order.executable, order.user, order.groups, order.umask), (None, None, None, None))
        self.assertEqual((order.rlimits, order.on_full), ({}, "block"))

    def test_most(self) -> None:
        more = {
            "executable": "/bin/sh",
            "copy": "/both",
            "user": "www",
            "group": 33,
            "groups": ["adm", 4],
            "umask": 0o27,
            "nice": -5,
            "rlimits": {"nofile": [10, 20], "core": 0, "as": [-1, -1]},
            "on_full": "drop",
            "from_a_newer_daemon": {},
        }
        order = Spawn.from_wire({**ORDER, **more})
        self.assertEqual((order.user, order.group, order.groups, order.nice), ("www", 33, ["adm", 4], -5))
        self.assertEqual(order.rlimits, {"nofile": (10, 20), "core": (0, 0), "as": (-1, -1)})

    def test_null_is_nothing(self) -> None:
        self.assertEqual(Spawn.from_wire({**ORDER, "user": None, "rlimits": None}), Spawn.from_wire(ORDER))

    def test_malformed_names_the_field(self) -> None:
        wrong: list[tuple[str, Any]] = [
            ("id", ""), ("id", "../x"), ("id", "a/b"), ("id", ".."), ("id", "a\nb"), ("id", 7), ("id", None),
            ("inc", -1), ("inc", True), ("inc", "1"), ("argv", []), ("argv", "sh"), ("argv", [1]),
            ("env", []), ("env", {"A": 1}), ("cwd", ""), ("cwd", "/a\0b"), ("cookie", ["C"]), ("cookie", "CV"),
            ("logs", {"3": {"path": "/x"}}), ("logs", {"1": {}}), ("logs", {"1": "x"}), ("copy", 1),
            ("user", True), ("user", 1.5), ("groups", "adm"), ("umask", -1), ("nice", "5"),
            ("rlimits", {"core": [1]}), ("rlimits", {"core": "x"}), ("on_full", "burn"),
        ]  # fmt: skip
        for name, value in wrong:
            error = self.assertRaises(Malformed, Spawn.from_wire, {**ORDER, name: value})
            self.assertTrue(str(error).startswith(name), f"{name}={value!r}: {error}")

    def test_missing(self) -> None:
        for name in set(ORDER) - {"op"}:
            order = {key: value for key, value in ORDER.items() if key != name}
            self.assertRaises(Malformed, Spawn.from_wire, order)


class Versions(SynchronousTestCase):
    def test_the_older_of_the_two(self) -> None:
        self.patch(wire, "OLDEST", 3)
        self.patch(wire, "VERSION", 5)
        self.assertEqual([agree(version) for version in (2, 3, 4, 5, 6, 99)], [None, 3, 4, 5, 5, 5])

    def test_no_version(self) -> None:
        self.assertEqual([agree(version) for version in (None, "1", 1.0, True)], [None] * 4)
