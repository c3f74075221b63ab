"""A real keeper in a process of its own, spoken to over its socket; and that no child of it is left afterwards."""

import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper import cgroups
from pmdaemon.keeper.table import read
from pmdaemon.keeper.upgrade import FLAGS, MAIN, command

__all__ = ["KeeperTestCase", "Link", "alive", "prepared", "subreaper", "until"]

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(MAIN)))
DEADLINE = 15.0
COOKIE = "PMDAEMON_KEEPER_TEST"

_SET_CHILD_SUBREAPER = 36
_values = count()
Message = dict[str, Any]


def until(condition: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """What ``condition`` returns as soon as it is true."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError("it did not come true in time")
        select.select([], [], [], 0.002)
    return value


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped does not."""
    entry = read(pid)
    return entry is not None and not entry.zombie


def subreaper(on: bool = True) -> None:
    """Have orphans come to this process, as if it was init."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def prepared(home: str, *lines: str) -> list[str]:
    """A keeper that runs these lines once all of it is loaded, as ``main``."""
    code = ["import os, sys", f"sys.path.append({ROOT!r})", "from pmdaemon.keeper import main", *lines]
    return [sys.executable, *FLAGS, "-c", "\n".join([*code, f"sys.exit(main.main([{home!r}]))"])]


class Link:
    """A daemon's end of the connection: says hello, sends orders, and keeps what came until it is asked for.

    ``answers`` are by number, ``seen`` is all else.
    """

    def __init__(self, home: str, version: int | None = 1) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(DEADLINE)
        self._sock.connect(os.path.relpath(os.path.join(home, "keeper.sock")))
        self._numbers = count(1)
        self._data = b""
        self.answers: dict[int, Message] = {}
        self.seen: list[Message] = []
        self.closed = False
        if version is not None:
            self.hello = self.ask("hello", version=version)

    def send(self, *orders: Message) -> list[int]:
        """Send them in one line; return their numbers."""
        numbered = [{"n": next(self._numbers), **order} for order in orders]
        self.send_line(json.dumps({"orders": numbered}).encode())
        return [order["n"] for order in numbered]

    def send_line(self, line: bytes) -> None:
        self._sock.sendall(line + b"\n")

    def ask(self, op: str, **fields: Any) -> Message:
        """Send an order and wait for its answer."""
        (number,) = self.send({"op": op, **fields})
        return self.answer(number)

    def answer(self, number: int) -> Message:
        """Wait for the answer to the order with this number."""
        while number not in self.answers:
            self._receive_more("no answer")
        return self.answers.pop(number)

    def event(self, kind: str, key: tuple[str, int] | None = None, **wanted: Any) -> Message:
        """Wait for an event, about this child if one is named."""

        def found(message: Message) -> bool:
            if message.get("ev") != kind or (key and (message["id"], message["inc"]) != key):
                return False
            return all(message[name] == value for name, value in wanted.items())

        return self.wait(found)

    def wait(self, found: Callable[[Message], bool]) -> Message:
        """Wait for a message, take it out of what was seen, and return it."""
        end = time.monotonic() + DEADLINE
        while True:
            for message in self.seen:
                if found(message):
                    self.seen.remove(message)
                    return message
            self._receive_more("no event", end)

    def hung_up(self) -> None:
        """Wait until the keeper has ended the connection."""
        while not self.closed:
            self.receive()

    def ready(self, seconds: float) -> bool:
        """Whether something has come, or the end, within this time."""
        return bool(select.select([self._sock], [], [], seconds)[0])

    def close(self) -> None:
        self._sock.close()

    def _receive_more(self, missing: str, end: float = float("inf")) -> None:
        if self.closed or time.monotonic() > end:
            raise AssertionError(f"{missing}; {'hung up' if self.closed else 'in time'}; seen: {self.seen[-20:]}")
        self.receive()

    def receive(self) -> None:
        """Take in what comes next, or the end."""
        try:
            data = self._sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.closed = not data
        *lines, self._data = (self._data + data).split(b"\n")
        for message in map(json.loads, lines):
            if "re" in message:
                self.answers[message["re"]] = message
            else:
                self.seen.append(message)


class KeeperTestCase(SynchronousTestCase):
    """Runs keepers on a home of its own, ends them, and sees that none of their children survives."""

    without = ""

    def setUp(self) -> None:
        self.home = os.path.abspath(self.mktemp())
        self.place = os.path.abspath(self.mktemp())
        os.mkdir(self.place)
        self.keepers: list[subprocess.Popen[bytes]] = []
        self.addCleanup(self._end_all)

    def launch(
        self, *, crash_at: str = "", files: int | None = None, lines: tuple[str, ...] = ()
    ) -> "subprocess.Popen[bytes]":
        """Start a keeper as a daemon does; ``files`` is how many it may open, ``lines`` are for `prepared`."""

        def prepare() -> None:
            if "subreaper" not in self.without:
                subreaper()
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        env = {**os.environ, "PMDAEMON_CRASH_AT": crash_at, "PMDAEMON_KEEPER_WITHOUT": self.without}
        keeper = subprocess.Popen(
            prepared(self.home, *lines) if lines else command(self.home),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=prepare,
        )
        assert keeper.stderr is not None
        self.addCleanup(keeper.stderr.close)
        self.keepers.append(keeper)
        return keeper

    def link(self, version: int | None = 1) -> Link:
        """Connect, as soon as there is a keeper."""

        def connected() -> Link | None:
            (*_, keeper) = self.keepers
            if keeper.poll() is not None and keeper.stderr:
                raise AssertionError(f"the keeper has ended: {keeper.returncode}: {keeper.stderr.read().decode()}")
            try:
                return Link(self.home, version)
            except (FileNotFoundError, ConnectionRefusedError):
                return None

        link = until(connected)
        assert isinstance(link, Link)
        self.addCleanup(link.close)
        return link

    def start(self, **options: Any) -> Link:
        """Start a keeper and connect to it."""
        self.launch(**options)
        return self.link()

    def order(self, key: tuple[str, int], *argv: str, **more: Any) -> Message:
        """An order to start a child."""
        return {
            "op": "spawn",
            "id": key[0],
            "inc": key[1],
            "argv": argv,
            "env": {"PATH": os.environ["PATH"]},
            "cwd": self.place,
            "cookie": [COOKIE, f"{os.getpid()}-{next(_values)}"],
            "logs": {"1": {"path": self.log(key[0], "out")}, "2": {"path": self.log(key[0], "err")}},
            **more,
        }

    def spawn(self, link: Link, key: tuple[str, int], *argv: str, **more: Any) -> int:
        """Start a child and return its pid."""
        (number,) = link.send(self.order(key, *argv, **more))
        answer = link.answer(number)
        assert "ok" in answer, answer
        return int(answer["ok"]["pid"])

    def sh(self, link: Link, key: tuple[str, int], script: str, **more: Any) -> int:
        """Start a shell that runs ``script``."""
        return self.spawn(link, key, "sh", "-c", script, **more)

    def log(self, name: str, kind: str) -> str:
        return os.path.join(self.place, f"{name}-{kind}.log")

    def read(self, name: str, kind: str = "out") -> str:
        """What is in a log; nothing where there is none."""
        try:
            with open(self.log(name, kind)) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def lines(self, name: str, number: int) -> list[str]:
        """The lines a child has printed, as soon as there are so many."""
        until(lambda: self.read(name).count("\n") >= number)
        return self.read(name).splitlines()

    def kid(self, link: Link, key: tuple[str, int]) -> Message:
        """What the keeper knows of a child."""
        kids = link.ask("state")["ok"]["kids"]
        return next(kid for kid in kids if (kid["id"], kid["inc"]) == key)

    def kill(self, keeper: "subprocess.Popen[bytes]") -> None:
        """Kill a keeper, as nobody should."""
        keeper.kill()
        keeper.wait()

    def everyone(self) -> list[int]:
        """Who lives in the place where children are started, whatever else they have given up."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and self._is_here(int(name))]

    def nothing_left(self) -> None:
        """Wait until no child nor child's child lives."""
        until(lambda: not self.everyone())

    def _is_here(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/cwd") == self.place and alive(pid)
        except OSError:
            return False

    def _end_all(self) -> None:
        for keeper in self.keepers:
            self.kill(keeper)
        for pid in self.everyone():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.nothing_left()
        if groups := cgroups.place_of(self.home):
            cgroups.remove(groups)
