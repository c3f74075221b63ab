"""One supervised slot: feeds the state machine, carries out its actions, and tells what happened.

The decisions are ``core.lifecycle`` and ``core.restart``; who may order what and when is ``orders`` and ``operations``.
"""

from collections.abc import Callable
from signal import Signals
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pmdaemon.core.health import DETAILS
from pmdaemon.core.lifecycle import RESTING, STATUS, Action, Input, State, step
from pmdaemon.core.restart import End, RestartPolicy
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.means import Means, Watch
from pmdaemon.daemon.voice import Voice
from pmdaemon.errors import PMDaemonError, PortInUse

__all__ = ["Process"]


_SETTLED = frozenset({State.ONLINE, State.BACKOFF, *RESTING})


class _Waiter:
    """Somebody who waits for one of *states*; may be cancelled at any time."""

    def __init__(self, states: frozenset[State]) -> None:
        self.states = states
        self.done: Deferred[State] = Deferred(lambda _: None)

    def fire(self, state: State) -> None:
        if not self.done.called:
            self.done.callback(state)


class Process:
    """A process of an app; serves as the Identity of its events.

    ``started_at`` and ``created_at`` are unix seconds; ``wanted`` tells whether it is to run after a daemon restart.
    A *muted* one tells nothing: a reload's newcomer until it takes over its predecessor's voice [R6].
    """

    _log = Logger()

    def __init__(
        self,
        means: Means,
        spec: AppSpec,
        *,
        id: int,
        name: str,
        instance: int,
        created_at: float,
        muted: bool = False,
    ) -> None:
        self._means = means
        self.spec = spec
        self.id = id
        self.name = name
        self.instance = instance
        self.created_at = created_at
        self.restarts = 0
        self.wanted = False
        self.state = State.STOPPED
        self.health = "unknown"
        self.port: int | None = None
        self.child: Child | None = None
        self.exit_code: int | None = None
        self.exit_signal: str | None = None
        self.failure: PMDaemonError | None = None
        self.policy = RestartPolicy()
        self.voice = Voice(None if muted else means.bus)
        self._timer: IDelayedCall | None = None
        self._watch = Watch()
        self._waiters: list[_Waiter] = []
        self._stop_reason = "command"
        self._failed: str | None = None
        self._became_ready = False
        self._delay = 0.0
        self._replaces: dict[str, Any] | None = None
        self._previous_pid: int | None = None

    @property
    def app(self) -> str:
        """The name of the app this is an instance of."""
        return self.spec.name

    @property
    def namespace(self) -> str:
        """The namespace the app was put into."""
        return self.spec.namespace

    @property
    def status(self) -> str:
        """One of the six words of the wire."""
        return STATUS[self.state]

    @property
    def pid(self) -> int | None:
        """The child's pid, or None where none lives."""
        return self.child.pid if self.child is not None and self.child.alive else None

    @property
    def started_at(self) -> float | None:
        """When the living child was started, unix seconds."""
        return self.child.started_at if self.child is not None and self.child.alive else None

    @property
    def uptime(self) -> float:
        """Seconds since this start, 0 where nothing runs."""
        return max(0.0, self._means.now() - self.started_at) if self.started_at is not None else 0.0

    # Orders

    def start(self) -> None:
        """Start it unless it runs; failures so far are forgotten."""
        self.policy.reset()
        self._order(Input.START, None)

    def stop(self, reason: str = "command") -> None:
        """End it; ``settled`` tells when it has ended."""
        self._stop_reason = reason
        idle = self.child is None and self.state is not State.STOPPED
        self._order(Input.STOP, None)
        if idle:
            self.tell("stopped", {**self._exit(), "reason": reason})

    def restart(self, reason: str = "command") -> None:
        """Replace the child by a new one."""
        self.policy.reset()
        self._order(Input.RESTART, {"reason": reason, "attempt": 0, "delay": 0})

    def _order(self, order: Input, replaces: dict[str, Any] | None) -> None:
        self.failure = None
        self._replaces = replaces
        if self.state in RESTING:
            self._previous_pid = None
        self._feed(order)

    def fail(self, reason: str) -> None:
        """End a child that does badly (``unhealthy``, ``memory_limit``); the restart policy judges what follows."""
        if self.state in (State.STARTING, State.ONLINE):
            self._failed = reason
            self._feed(Input.FAIL)

    def settled(self, *states: State) -> "Deferred[State]":
        """Return a Deferred that fires with the state as soon as it is one of *states*, at once if it is now.

        Without *states*: online, at rest, or waiting for its next attempt. May be cancelled.
        """
        waiter = _Waiter(frozenset(states) or _SETTLED)
        if self.state in waiter.states:
            return succeed(self.state)
        self._waiters.append(waiter)
        return waiter.done

    def signal(self, number: int) -> None:
        """Send a signal that is not meant to end it to the child."""
        if self.child is not None:
            self.child.relay(number)

    # Facts

    def ready(self) -> None:
        """The child is ready: as soon as exec has succeeded, or what ``readiness`` asks for came true [P8]."""
        if self.state is not State.STARTING or self.child is None:
            return
        self._became_ready = True
        self._feed(Input.READY)
        details = {"pid": self.pid, "port": self.port}
        if self._replaces is None:
            taken = round((self._means.now() - self.child.started_at) * 1000)
            self.tell("started", {**details, "startup_time": max(0, taken)})
        else:
            self.tell("restarted", {"pid": self.pid, "previous_pid": self._previous_pid, **self._replaces})
        self._replaces = None

    def health_changed(
        self, previous: str, status: str, details: dict[str, Any], failures: int, error: str | None
    ) -> None:
        """Take a change of health; an unhealthy process is restarted where its check says so."""
        self.health = status
        self.voice.health(self, previous, details)
        check = self.spec.check
        if check is None or status != "unhealthy":
            return
        told = {"check_type": check.check_type, "failures": failures, "error": error}
        self.tell("health_check_failed", told)
        if check.restart:
            self.fail("unhealthy")

    def child_wrote(self, child: Child, stream: str, data: bytes) -> None:
        """Take output as it came."""
        self._means.wrote(self, stream, data)

    def child_ended(self, child: Child, exit_code: int | None, exit_signal: int | None) -> None:
        """Take the end of the child and its tree, and have it judged where nobody asked for it."""
        uptime = max(0.0, self._means.now() - child.started_at)
        self._previous_pid = child.pid
        self.exit_code = exit_code
        self.exit_signal = None if exit_signal is None else _signal_name(exit_signal)
        self._watch.stop()
        self._means.gone(self)
        self.child = None
        self._health_is("unknown", self.health)
        self._ended(uptime)

    def _ended(self, uptime: float) -> None:
        if self.state in (State.STOPPING, State.REPLACING):
            stopping = self.state is State.STOPPING
            self._feed(Input.DONE)
            if stopping:
                self.tell("stopped", {**self._exit(), "reason": self._stop_reason})
            return
        failed, self._failed = self._failed, None
        self._judge(
            End(
                exit_code=self.exit_code,
                exit_signal=self.exit_signal,
                uptime=uptime,
                ready=self._became_ready,
                failed=failed if self.state is State.FAILING else None,
            )
        )

    def _judge(self, end: End) -> None:
        verdict = self.policy.judge(end, self.spec, self._means.clock.seconds(), self._means.random())
        self._delay = verdict.delay
        delay = round(verdict.delay * 1000)
        self._replaces = {"reason": verdict.reason, "attempt": self.policy.attempt, "delay": delay}
        crashed = end.failed is None and end.exit_code != 0 and verdict.input is not Input.DONE
        if verdict.input is Input.DONE:
            self.wanted = False
        lines = self._means.last_lines(self) if crashed else []
        self._feed(verdict.input)
        if crashed:
            uptime = round(end.uptime * 1000)
            self.tell(
                "crashed", {**self._exit(), "uptime": uptime, "attempt": self.policy.attempt, "last_lines": lines}
            )
        if verdict.input is Input.DONE:
            self.tell("stopped", {**self._exit(), "reason": "exit"})
        if verdict.input is Input.GIVE_UP and self.spec.autorestart:
            self._give_up(verdict.reason)

    def _give_up(self, reason: str) -> None:
        self.tell("gave_up", {"reason": reason, "attempts": self.policy.attempt})

    def _exit(self) -> dict[str, Any]:
        return {"exit_code": self.exit_code, "exit_signal": self.exit_signal}

    # The machine

    def _feed(self, what: Input) -> None:
        cell = step(self.state, what)
        if cell is None:
            return
        self.state = cell.state
        self.voice.status(self)
        self._means.changed(self)
        for action in cell.actions:
            self._ACTIONS[action](self)
        self._notice()

    def _notice(self) -> None:
        """Have those who waited for this state told, after the events that belong to it [P11]."""
        reached = [waiter for waiter in self._waiters if self.state in waiter.states]
        self._waiters = [waiter for waiter in self._waiters if waiter not in reached]
        for waiter in reached:
            self._means.clock.callLater(0, waiter.fire, self.state)

    def take_over(self, old: "Process") -> None:
        """Become the process that *old* was: its number, its history and its voice [R6]. *old* says nothing more."""
        self.restarts = old.restarts + 1
        self.wanted = old.wanted
        health = self.health
        self.voice, old.voice = old.voice, self.voice
        self._health_is(health, old.health)
        self.voice.status(self)
        self.tell("reloaded", {"pid": self.pid, "previous_pid": old.pid})

    def _health_is(self, health: str, previous: str) -> None:
        """Set a health that no probe of this child found."""
        self.health = health
        if health != previous and self.spec.check is not None:
            self.voice.health(self, previous, dict.fromkeys(DETAILS[self.spec.check.check_type]))

    def tell(self, event: str, details: dict[str, Any]) -> None:
        """Publish a lifecycle event of this process."""
        self.voice.event(self, event, details)

    # Actions

    def _spawn(self) -> None:
        self.exit_code = self.exit_signal = None
        self._became_ready = False
        child = Child(self, self._means.now())
        try:
            self._means.spawn(self, child)
        except PMDaemonError as error:
            self._spawn_failed(error)
            return
        self.child = child
        if self._replaces is not None and self._previous_pid is not None:
            self.restarts += 1
            self._means.changed(self)
        self._watch = self._means.watch(self)

    def _spawn_failed(self, error: PMDaemonError) -> None:
        """A start that never came to a child. A port that is taken may become free; nothing else mends itself."""
        self.failure = error
        again = isinstance(error, PortInUse) and self._replaces is not None and self._replaces["reason"] != "command"
        self._log.error("{message}", message=error.message)
        if again:
            self._judge(End(exit_code=None, ready=False, failed="port_in_use"))
        else:
            self._feed(Input.GIVE_UP)
            self._give_up(error.message)

    def _end(self) -> None:
        self._watch.stop()
        if self.child is not None:
            self.child.signal(self.spec.stop_signal_number)

    def _kill(self) -> None:
        if self.child is not None:
            self.child.signal("KILL")

    def _arm(self, seconds: float, due: Input) -> None:
        self._disarm()
        self._timer = self._means.clock.callLater(seconds, self._fire, due)

    def _fire(self, due: Input) -> None:
        self._timer = None
        if due is Input.READY_DUE:
            self._failed = "not_ready"
        self._feed(due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm_ready(self) -> None:
        self._arm(self.spec.timing.listen_timeout, Input.READY_DUE)

    def _arm_kill(self) -> None:
        self._arm(self.spec.timing.kill_timeout, Input.KILL_DUE)

    def _arm_retry(self) -> None:
        self._arm(self._delay, Input.RETRY_DUE)

    _ACTIONS: ClassVar[dict[Action, Callable[["Process"], None]]] = {
        Action.SPAWN: _spawn,
        Action.SIGNAL: _end,
        Action.KILL: _kill,
        Action.ARM_READY: _arm_ready,
        Action.ARM_KILL: _arm_kill,
        Action.ARM_RETRY: _arm_retry,
        Action.DISARM: _disarm,
    }


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"SIG{number}"
