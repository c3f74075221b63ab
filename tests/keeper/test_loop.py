"""The loop, with a clock of its own, and the server on it: order, and who is called no more."""

import json
import os
import socket
from itertools import cycle
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper import loop as loops
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.server import Server


class LoopTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = 0.0
        self.loop = Loop(now=lambda: self.time)
        self.calls: list[str] = []

    def call(self, name: str) -> Any:
        return lambda: self.calls.append(name)

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends


class Turns(LoopTestCase):
    def test_times(self) -> None:
        for name, seconds in (("late", 3.0), ("soon", 1.0), ("sooner", 0.5)):
            self.loop.later(seconds, self.call(name))
        self.loop.later(0.7, self.call("never")).cancel()
        self.time = 1.0
        self.loop.turn()
        self.assertEqual(self.calls, ["sooner", "soon"])
        self.time = 3.0
        self.loop.turn()
        self.assertEqual(self.calls, ["sooner", "soon", "late"])

    def test_order_in_a_turn(self) -> None:
        reading, writing = self.pipe()
        os.write(writing, b"x")
        self.loop.watch(reading, lambda: (self.calls.append("read"), self.loop.soon(self.call("soon"))))
        self.loop.later(0, lambda: (self.calls.append("time"), self.loop.soon(self.call("soon too"))))
        self.loop.last = self.call("last")
        self.loop.turn()
        self.assertEqual(self.calls, ["read", "time", "soon", "soon too", "last"])

    def test_forgotten_in_the_same_turn_is_not_called(self) -> None:
        """Another may have its number by then."""
        ends = {name: self.pipe() for name in ("a", "b")}
        for name, (reading, writing) in ends.items():
            os.write(writing, b"x")
            other = ends["b" if name == "a" else "a"][0]
            self.loop.watch(reading, lambda name=name, other=other: (self.calls.append(name), self.loop.forget(other)))
        self.loop.turn()
        self.assertEqual(len(self.calls), 1)

    def test_an_exception_is_not_kept_to_itself(self) -> None:
        self.loop.later(0, lambda: 1 / 0)
        self.assertRaises(ZeroDivisionError, self.loop.run)


class Pipes(LoopTestCase):
    def read(self, size: int) -> int:
        """Have a pipe with something in it, of which so much is said to be taken; return how often in 3 turns."""
        reading, writing = self.pipe()
        os.write(writing, b"x")
        self.loop.pipes.register(reading, 1, lambda: (self.calls.append("read"), size)[1])
        for _ in range(3):
            self.loop.soon(self.call("turn"))
            self.loop.turn()
        return self.calls.count("read")

    def test_paused_after_little(self) -> None:
        self.assertEqual(self.read(100), 1)
        self.time = loops._PAUSE
        self.loop.turn()
        self.loop.soon(self.call("turn"))
        self.loop.turn()
        self.assertEqual(self.calls.count("read"), 2)

    def test_not_paused_after_half_a_pipe(self) -> None:
        self.assertEqual(self.read(32 * 1024), 3)

    def test_whoever_fills_the_pipe_again_and_again_is_not_paused_for_a_short_look(self) -> None:
        """The first look after another finds a page or two: who prints as fast as he can would wait after each."""
        sizes = cycle([64 * 1024, 4 * 1024, 8 * 1024])
        reading, writing = self.pipe()
        os.write(writing, b"x")
        self.loop.pipes.register(reading, 1, lambda: (self.calls.append("read"), next(sizes))[1])
        for _ in range(300):
            self.time += loops._PAUSE / 3
            self.loop.soon(self.call("turn"))
            self.loop.turn()
        self.assertEqual(self.calls.count("read"), 300)

    def test_many_single_lines_are_taken_together(self) -> None:
        reading, writing = self.pipe()
        os.write(writing, b"x")
        self.loop.pipes.register(reading, 1, lambda: (self.calls.append("read"), 100)[1])
        for _ in range(300):
            self.time += loops._PAUSE / 3
            self.loop.soon(self.call("turn"))
            self.loop.turn()
        self.assertLessEqual(self.calls.count("read"), 100)


class Log:
    path, base, end = "/l", 0, 0


class Behind(LoopTestCase):
    def test_daemon_that_does_not_read_is_told_of_the_last_state_only(self) -> None:
        path = os.path.relpath(self.mktemp())
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        listening.listen()
        server = Server(self.loop, listening, lambda order, reply: reply({"ok": {}}))
        self.addCleanup(server.close)
        daemon = socket.socket(socket.AF_UNIX)
        self.addCleanup(daemon.close)
        daemon.connect(path)
        daemon.sendall(b'{"op":"hello","version":1}\n')
        while server.alone:
            self.loop.turn()
        log: Any = Log()
        for log.end in range(1, 20_001):
            server.grown(log)
            server.flush()
        server.tell({"ev": "exit"})
        daemon.setblocking(False)
        data = b""
        while b'"end":20000}\n' not in data or b"exit" not in data:
            try:
                data += daemon.recv(1 << 20)
            except BlockingIOError:
                self.time += 1
                self.loop.later(0, self.call("turn"))
                self.loop.turn()
            server.flush()
        messages = list(map(json.loads, data.splitlines()))
        ends = [message["end"] for message in messages if message["ev"] == "log"]
        self.assertEqual(ends, sorted(ends))
        self.assertLess(len(ends), 100)
        self.assertIn({"ev": "exit"}, messages)
