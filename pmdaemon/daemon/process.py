"""One supervised slot: feeds the state machine, carries out its actions, and tells what happened.

The decisions are ``core.lifecycle`` and ``core.restart``; who may order what and when is ``orders`` and ``operations``.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from pmdaemon.core.health import DETAILS
from pmdaemon.core.lifecycle import RESTING, Action, Input, State, step
from pmdaemon.core.restart import End, RestartPolicy, Verdict
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.child import Child, signal_name
from pmdaemon.daemon.means import Means, Watch
from pmdaemon.daemon.standing import Standing
from pmdaemon.daemon.voice import Voice
from pmdaemon.daemon.waiters import Waiters
from pmdaemon.errors import PMDaemonError, PortInUse

__all__ = ["Process"]

_SETTLED = frozenset({State.ONLINE, State.BACKOFF, *RESTING})


class Process(Standing):
    """A process of an app; serves as the Identity of its events.

    One ``on_trial`` is not started again when its child ends; a *muted* one tells nothing and is on trial: a reload's
    newcomer, until it takes over its predecessor's voice [R6].
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
        super().__init__(means.now, spec, id=id, name=name, instance=instance, created_at=created_at)
        self._means = means
        self._next_spec = spec
        self.on_trial = muted
        self.policy = RestartPolicy()
        self.voice = Voice(None if muted else means.bus)
        self._timer: IDelayedCall | None = None
        self._watch = Watch()
        self._waiters = Waiters(means.clock)
        self._stop_reason = "command"
        self._failed: str | None = None
        self._ready_early = False
        self._delay = 0.0
        self._replaces: dict[str, Any] | None = None
        self._unasked = False

    def resume(self, child: Child, *, ready: bool, health: str) -> None:
        """Go on with a child that an earlier daemon started; its transport says next that it runs, or how it ended."""
        self.child = child
        self.health = health
        self.became_ready = ready
        self.state = State.ONLINE if ready else State.STARTING
        self.voice.resume(self)
        if not ready:
            self._ACTIONS[Action.ARM_READY](self)

    # Orders

    def adopt(self, spec: AppSpec, *, now: bool = False) -> None:
        """Take *spec* up with the next child; *now* where none lives, or where it is all the same to that one."""
        self._next_spec = spec
        if now or self.child is None:
            self.spec = spec

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
        self.failure = self.ended = None
        self.voice.cause.order()
        self._replaces = replaces
        self._unasked = False
        if self.state in RESTING:
            self.previous_pid = None
        self._feed(order)

    def fail(self, reason: str, rule: str) -> None:
        """End a child that does badly (``unhealthy``, ``memory_limit``); the restart policy judges what follows."""
        if self.running:
            self._failed = reason
            self.voice.cause.rule(rule)
            self._feed(Input.FAIL)

    def settled(self, *states: State) -> "Deferred[State]":
        """Return a Deferred that fires with the state as soon as it is one of *states*, at once if it is now.

        Without *states*: online, at rest, or waiting for its next attempt. May be cancelled.
        """
        return self._waiters.wait(self.state, states or _SETTLED)

    def signal(self, number: int) -> None:
        """Send a signal that is not meant to end it to the child."""
        if self.child is not None:
            self.child.relay(number)

    # Facts

    def ready(self) -> None:
        """The child is ready: as soon as exec has succeeded, or what ``readiness`` asks for came true [P8]."""
        if self.state is not State.STARTING or self.child is None:
            return
        if self.pid is None:  # it said so itself, before anybody said that it runs
            self._ready_early = True
            return
        self.became_ready = True
        self._feed(Input.READY)
        details = {"pid": self.pid, "port": self.port}
        if self._replaces is None:
            taken = round((self._means.now() - self.child.started_at) * 1000)
            self.tell("started", {**details, "startup_time": max(0, taken)})
        else:
            self.tell("restarted", {"pid": self.pid, "previous_pid": self.previous_pid, **self._replaces})
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
            self.fail("unhealthy", f"{failures} checks failed in a row")

    def child_started(self, child: Child) -> None:
        """Watch a child whose program runs."""
        if self.previous_pid is not None and not child.adopted:
            self.restarts += 1
        self._means.changed(self)
        if child.adopted:
            self.tell("adopted", {"pid": self.pid, "port": self.port, "uptime": round(self.uptime * 1000)})
        if self.running:
            self._watch = self._means.watch(self)
        if self._ready_early:
            self.ready()

    def never_started(self, child: Child, error: PMDaemonError) -> None:
        """Take it that a child that was ordered did not come to be, and that nothing of it is left."""
        self.child = self.incarnation = None
        self.spec = self._next_spec
        if self.state in (State.STOPPING, State.REPLACING):
            self._ended(0.0)
        else:
            self._spawn_failed(error)

    def child_wrote(self, child: Child, stream: str, data: bytes) -> None:
        """Take output as it came."""
        self._means.wrote(self, stream, data)

    def child_ended(self, child: Child, exit_code: int | None, exit_signal: int | None) -> None:
        """Take the end of the child and its tree, and have it judged where nobody asked for it."""
        ended_at = self._means.now() if child.ended_at is None else child.ended_at
        uptime = max(0.0, ended_at - child.started_at)
        self.previous_pid = child.pid
        self.exit_code = exit_code
        self.exit_signal = None if exit_signal is None else signal_name(exit_signal)
        self._watch.stop()
        self._means.gone(self)
        self.child = self.incarnation = None
        self._health_is("unknown", self.health)
        self.spec = self._next_spec
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
                ready=self.became_ready,
                failed=failed if self.state is State.FAILING else None,
            )
        )

    def _judge(self, end: End) -> None:
        verdict = self.policy.judge(end, self.spec, self._means.clock.seconds(), self._means.random())
        if self.on_trial and verdict.input is Input.RETRY:
            verdict = Verdict(input=Input.GIVE_UP, reason=verdict.reason)
        self.ended, self._unasked, self._delay = end, True, verdict.delay
        self.voice.cause.end(end)
        delay = round(verdict.delay * 1000)
        self._replaces = {"reason": verdict.reason, "attempt": self.policy.attempt, "delay": delay}
        if verdict.input is Input.DONE:
            self.wanted = False
            self._feed(Input.DONE)
            self.tell("stopped", {**self._exit(), "reason": "exit"})
        elif end.failed is None and end.exit_code != 0:
            crash = self._crash(end)
            self._feed(verdict.input)
            self.tell("crashed", crash)
        else:
            self._feed(verdict.input)
        if self.state is State.ERRORED and (self.spec.autorestart or end.failed is not None):
            self._give_up(verdict.reason)

    def _crash(self, end: End) -> dict[str, Any]:
        return {
            **self._exit(),
            "uptime": round(end.uptime * 1000),
            "attempt": self.policy.attempt,
            "last_lines": self._means.last_lines(self),
        }

    def _give_up(self, reason: str) -> None:
        self.tell("gave_up", {"reason": reason, "attempts": self.policy.attempt})

    def _exit(self) -> dict[str, Any]:
        return {"exit_code": self.exit_code, "exit_signal": self.exit_signal}

    # The machine

    def _feed(self, what: Input) -> None:
        cell = step(self.state, what)
        if cell is None:
            return
        moved = cell.state is not self.state
        self.state = cell.state
        if moved:
            self.voice.status(self)
        self._means.changed(self)
        for action in cell.actions:
            self._ACTIONS[action](self)
        self._waiters.reached(self.state)

    def take_over(self, old: "Process") -> None:
        """Become the process that *old* was: its number, its history and its voice [R6]. *old* says nothing more."""
        self.restarts = old.restarts + 1
        self.on_trial = False
        self.wanted = old.wanted and self.state is not State.STOPPED
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
        self.became_ready = self._ready_early = False
        child = self.child = Child(self, self._means.now())
        try:
            self._means.spawn(self, child)
        except PMDaemonError as error:
            self.child = self.incarnation = None
            self._spawn_failed(error)
        else:
            self._means.changed(self)  # a later daemon has to know whose child it is that was ordered

    def _spawn_failed(self, error: PMDaemonError) -> None:
        """A start that never came to a child: told at once to who ordered it, tried again where nobody did."""
        self.failure = error
        self._log.error("{message}", message=error.message)
        if self._unasked:
            reason = "port_in_use" if isinstance(error, PortInUse) else "not_started"
            self._judge(End(exit_code=None, ready=False, started=False, failed=reason))
        else:
            self._feed(Input.GIVE_UP)
            self._give_up(error.discreet().message)  # of an event for whoever may see this process

    def _end(self) -> None:
        self._watch.stop()
        if self.child is not None:
            self.child.signal(self.spec.stop_signal_number)

    def _kill(self) -> None:
        if self.child is not None:
            self.child.signal("KILL")

    def _arm(self, seconds: float, due: Input) -> None:
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

    _ACTIONS: ClassVar[dict[Action, Callable[["Process"], None]]] = {
        Action.SPAWN: _spawn,
        Action.SIGNAL: _end,
        Action.KILL: _kill,
        Action.ARM_READY: lambda self: self._arm(self.spec.timing.listen_timeout, Input.READY_DUE),
        Action.ARM_KILL: lambda self: self._arm(self.spec.timing.kill_timeout, Input.KILL_DUE),
        Action.ARM_RETRY: lambda self: self._arm(self._delay, Input.RETRY_DUE),
        Action.DISARM: _disarm,
    }
