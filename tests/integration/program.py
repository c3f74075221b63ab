"""A program under test: its output as text, waits for a line of it or its end, and is never left behind."""

import codecs
import os
import re
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"

T = TypeVar("T")


def within(seconds: float, awaited: Awaitable[T], what: Callable[[], str]) -> Deferred[T]:
    """The result of ``awaited``; an AssertionError that names ``what()`` when it takes more than ``seconds``."""

    def expired(*_: object) -> NoReturn:
        raise AssertionError(f"not within {seconds} s: {what()}")

    return ensureDeferred(awaited).addTimeout(seconds, reactor, expired)


def require(test: TestCase, name: str, *elsewhere: str) -> str:
    """Where program ``name`` (or the existing path in ``elsewhere``) is; without it the test is skipped.

    With PMDAEMON_REQUIRE_TOOLS=1, as in CI, the test fails instead.
    """
    found = shutil.which(name) or next((path for path in elsewhere if os.path.exists(path)), None)
    if found is None:
        missing(test, f"{name} is not installed")
    return found


def node(test: TestCase) -> tuple[str, dict[str, str]]:
    """Node.js, and the environment in which it finds the npm package ws; as `require` where there is none."""
    program = require(test, "node")
    where = [path for path in (str(TOOLS / "node_modules"), os.environ.get("NODE_PATH", "")) if path]
    if not any(os.path.isdir(os.path.join(path, "ws")) for path in where):
        missing(test, "the npm package ws is not installed; `make tools` installs it")
    return program, {"NODE_PATH": os.pathsep.join(where)}


def free_port() -> int:
    """A TCP port that nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def missing(test: TestCase, why: str) -> NoReturn:
    """Skip ``test``, or fail it where every tool has to be there."""
    if os.environ.get("PMDAEMON_REQUIRE_TOOLS") == "1":
        test.fail(why)
    raise SkipTest(why)


class Program(ProcessProtocol):
    """One running program, with standard output and error read as one text; ``errors`` is the latter alone."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.output = ""
        self.errors = ""
        self.exit: str | int | None = None
        self.pid = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self._ended: list[Deferred[str | int]] = []

    @classmethod
    def start(
        cls,
        test: TestCase,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        stdin: int | None = None,
    ) -> "Program":
        """Spawn ``argv`` with ``env`` on top of ours, in ``cwd`` (else the checkout); killed when ``test`` ends.

        ``stdin`` is a descriptor to read from, in place of a pipe.
        """
        program = cls(argv)
        whole = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(env or {})}
        descriptors = {0: "w" if stdin is None else stdin, 1: "r", 2: "r"}
        reactor.spawnProcess(program, argv[0], program.argv, env=whole, path=cwd or str(ROOT), childFDs=descriptors)
        test.addCleanup(program.kill)
        return program

    def signal(self, name: str) -> None:
        """Send it the signal ``name`` (as ``TERM``); one that has ended is left alone."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def line(self, pattern: str, timeout: float = 20.0) -> Deferred[re.Match[str]]:
        """The first match of ``pattern`` in the output, past or to come; fails when it ends without one."""
        wanted = re.compile(pattern, re.MULTILINE)
        found: Deferred[re.Match[str]] = Deferred()
        self._waiting.append((wanted, found))
        self._look()
        return within(timeout, found, lambda: f"{pattern!r} from {self}")

    def ended(self, timeout: float = 20.0) -> Deferred[str | int]:
        """How it ended: the exit code, or the signal as ``"signal 9"``."""
        over: Deferred[str | int] = Deferred()
        if self.exit is not None:
            over.callback(self.exit)
        else:
            self._ended.append(over)
        return within(timeout, over, lambda: f"the end of {self}")

    async def kill(self) -> None:
        """End it at once, where it still runs."""
        if self.exit is None:
            self.signal("KILL")
            await self.ended()

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}\nits output ends:\n{self.output[-4000:]}"

    def makeConnection(self, transport: Any) -> None:
        self.pid = transport.pid
        super().makeConnection(transport)

    def outReceived(self, data: bytes) -> None:
        self.output += self._decode(data)
        self._look()

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode("utf-8", "replace")
        self.outReceived(data)

    def processEnded(self, reason: Failure) -> None:
        how = reason.value
        self.exit = (
            0 if isinstance(how, ProcessDone) else how.exitCode if how.signal is None else f"signal {how.signal}"
        )
        for _, found in self._waiting:
            found.errback(AssertionError(f"ended with {self.exit} without the line: {self}"))
        self._waiting.clear()
        for over in self._ended:
            over.callback(self.exit)
        self._ended.clear()

    def _look(self) -> None:
        for entry in list(self._waiting):
            if match := entry[0].search(self.output):
                self._waiting.remove(entry)
                entry[1].callback(match)


def twistd(*options: str, before: str = "") -> list[str]:
    """The command line of this interpreter's twistd; ``before`` is Python that runs first."""
    return [sys.executable, "-c", f"{before}\nfrom twisted.scripts.twistd import run; run()", *options]


def python(script: str, *args: str) -> list[str]:
    """The command line that runs ``script`` of the checkout with this interpreter."""
    return [sys.executable, str(ROOT / script), *args]
