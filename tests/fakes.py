"""Stand-ins for what the daemon acts on: children that end when a test says so, and a bus that remembers what was told.

Nothing here starts a process or waits: time is a `Clock`, so that a kill timeout is an ``advance``.
"""

import signal
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from pmdaemon.core.events import HealthUpdate, ProcessEvent, ProcessStatus
from pmdaemon.core.lifecycle import State
from pmdaemon.core.lines import Line
from pmdaemon.core.selection import Identity
from pmdaemon.core.spec import AppSpec, parse_app
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.means import Means, Watch
from pmdaemon.daemon.process import Process
from pmdaemon.errors import PMDaemonError, ProcessStartFailed

Event = ProcessStatus | ProcessEvent | HealthUpdate

WITH_CHILD = frozenset({State.STARTING, State.ONLINE, State.STOPPING, State.REPLACING, State.FAILING})
_FATAL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def app(name: str = "web", **fields: Any) -> AppSpec:
    """An app as a client would declare it, in the root directory."""
    return parse_app({"script": "/bin/sh", **fields}, where="config", base="/", name=name)


@implementer(IProcessTransport)
class FakeChild:
    """A child of `FakeChildren`: alive until it is told to exit, or is signalled and minds that.

    Its pid is None until its program runs and after its end.
    """

    def __init__(self, family: "FakeChildren", protocol: ProcessProtocol, argv: list[str], env: dict[str, str]) -> None:
        self.family = family
        self.protocol = protocol
        self.argv = argv
        self.env = env
        self.alive = True
        self.pid: int | None = None
        self.signals: list[str] = []
        self.relayed: list[int] = []
        protocol.transport = self

    def born(self) -> None:
        """Its program runs from now on; signals it was sent before reach it now."""
        self.pid = next(self.family.pids)
        self.protocol.makeConnection(self)
        for name in self.signals:
            self._mind(name)

    def exit(self, code: int = 0, signum: int | None = None) -> None:
        """End now, with an exit code or by a signal."""
        assert self.pid is not None and self.alive
        self.pid, self.alive = None, False
        done = code == 0 and signum is None
        reason = ProcessDone(0) if done else ProcessTerminated(None if signum else code, signum)
        self.protocol.processEnded(Failure(reason))

    def signalProcess(self, signalID: str | int) -> None:
        if not self.alive:
            raise ProcessExitedAlready
        name = signalID if isinstance(signalID, str) else signal.Signals(signalID).name.removeprefix("SIG")
        self.signals.append(name)
        if self.pid is not None:
            self._mind(name)

    def _mind(self, name: str) -> None:
        number = signal.Signals[f"SIG{name}"]
        if number is signal.SIGKILL or (number in _FATAL and not self.family.stubborn):
            self.family.clock.callLater(self.family.dying, self._die, number)

    def _die(self, number: int) -> None:
        if self.alive:
            self.exit(signum=number)

    def relay_signal(self, signalID: int) -> None:
        if not self.alive:
            raise ProcessExitedAlready
        self.relayed.append(signalID)


class FakeChildren:
    """Takes the place of ``spawn.spawn`` and of ``Keeping.spawn``.

    ``stubborn`` children mind no signal but KILL; who dies takes ``dying`` seconds, who is born ``birth`` seconds, none
    at all where that is None. ``refusal`` is what a start raises, ``stillborn`` why a birth comes to nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pids = count(1001)
        self.all: list[FakeChild] = []
        self.stubborn = False
        self.dying = 0.0
        self.birth: float | None = None
        self.refusal: Exception | None = None
        self.stillborn: str | None = None

    def spawn(
        self,
        protocol: ProcessProtocol,
        argv: list[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        cookie: tuple[str, str],
        birth: object,
        failed: Callable[[str], None],
    ) -> FakeChild:
        if self.refusal is not None:
            raise self.refusal
        child = FakeChild(self, protocol, list(argv), dict(env))
        self.all.append(child)
        if self.birth is None:
            child.born()
        else:
            self.clock.callLater(self.birth, self._deliver, child, failed)
        return child

    def _deliver(self, child: FakeChild, failed: Callable[[str], None]) -> None:
        if self.stillborn is None:
            child.born()
        else:
            child.alive = False
            failed(self.stillborn)

    @property
    def alive(self) -> list[FakeChild]:
        return [child for child in self.all if child.alive]

    @property
    def last(self) -> FakeChild:
        """The newest child."""
        return self.all[-1]

    def of(self, process: Process) -> list[FakeChild]:
        """The living children of a process."""
        return [each for each in self.alive if isinstance(each.protocol, Child) and each.protocol.owner is process]


class Told:
    """A bus that keeps what was told, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event, who: Identity) -> None:
        assert (who.id, who.app) == (event.id, event.app)
        self.events.append(event)

    def story(self, name: str = "web") -> list[str]:
        """What was told of a process: statuses as they are, events as ``+started``, health as ``~healthy``."""
        words = []
        for event in self.events:
            if isinstance(event, ProcessStatus) and event.name == name:
                words.append(event.status)
            elif isinstance(event, ProcessEvent) and event.process == name:
                words.append(f"+{event.event}")
            elif isinstance(event, HealthUpdate) and event.process == name:
                words.append(f"~{event.status}")
        return words

    def details(self, event: str) -> dict[str, Any]:
        """The details of the newest event of that name."""
        return next(
            each.details for each in reversed(self.events) if isinstance(each, ProcessEvent) and each.event == event
        )

    def clear(self) -> None:
        self.events.clear()


class FakeLogs:
    """Logs that keep no lines; ``watchers`` can be shown some."""

    def __init__(self) -> None:
        self.open_for: list[int] = []
        self.forgotten: list[tuple[str, bool]] = []
        self.watchers: list[Callable[[list[Line]], None]] = []

    def open(self, process: Process) -> None:
        self.open_for.append(process.id)

    def close(self, process: Process) -> None:
        self.open_for.remove(process.id)

    def forget(self, process: Process, *, purge: bool) -> None:
        self.forgotten.append((process.name, purge))

    def paths(self, process: Process) -> tuple[str, str, None]:
        return f"/nowhere/{process.name}-out.log", f"/nowhere/{process.name}-err.log", None

    def file(self, process: Process, stream: str) -> LogFile:
        return LogFile(self.paths(process)[stream == "stderr"])

    def owner(self, process: Process, path: str) -> None:
        """Nobody else's."""

    def watch(self, process: Process, watcher: Callable[[list[Line]], None]) -> None:
        self.watchers.append(watcher)

    def unwatch(self, process: Process, watcher: Callable[[list[Line]], None]) -> None:
        self.watchers = [each for each in self.watchers if each != watcher]


class FakeWatch(Watch):
    """Watches nothing; a test calls ``process.ready`` itself."""

    def __init__(self) -> None:
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True


class FakeWorld:
    """Time, children and what was told, and the `Means` made of them; ``refusal`` is what the next starts raise."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.children = FakeChildren(self.clock)
        self.told = Told()
        self.refusal: PMDaemonError | None = None
        self.random = 0.5
        self.lines: list[str] = []
        self.watches: list[FakeWatch] = []
        self.saved: Callable[[Process], None] = lambda process: None

    def means(self) -> Means:
        return Means(
            clock=self.clock,
            now=self.clock.seconds,
            random=lambda: self.random,
            bus=self.told,
            spawn=self._spawn,
            watch=self._watch,
            wrote=lambda process, stream, data: self.lines.append(data.decode()),
            gone=lambda process: None,
            changed=lambda process: self.saved(process),
            last_lines=lambda process: list(self.lines),
        )

    def _spawn(self, process: Process, child: Child) -> None:
        if self.refusal is not None:
            raise self.refusal

        def failed(reason: str) -> None:
            process.never_started(child, ProcessStartFailed(f"cannot start 'web': {reason}"))

        self.children.spawn(child, [process.name], env={}, cwd="/", cookie=("COOKIE", "1"), birth=None, failed=failed)

    def _watch(self, process: Process) -> Watch:
        watch = FakeWatch()
        self.watches.append(watch)
        if process.spec.ready_when == "exec":
            process.ready()
        return watch

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time go by, and everything that is due in it happen, in small steps."""
        end = self.clock.seconds() + seconds
        self._settle()
        while (due := [call for call in self.clock.getDelayedCalls() if call.getTime() <= end]) or (
            self.clock.seconds() < end
        ):
            nearest = min((call.getTime() for call in due), default=end)
            self.clock.advance(max(0.0, min(nearest, end) - self.clock.seconds()))
            self._settle()

    def _settle(self) -> None:
        """Have everything happen that needs no time."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def timers(self) -> list[str]:
        """What is still to happen, but for the end of the present turn."""
        self._settle()
        return [str(call) for call in self.clock.getDelayedCalls()]
