"""Whatever is commanded in whatever order, while children end, get ready or refuse to: no child too many or too few.

Everything is real but time, the children, and the log files; hypothesis looks for a story that goes wrong.
"""

import os
import shutil
import tempfile
from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.events import ProcessStatus
from pmdaemon.core.lifecycle import RESTING, State
from pmdaemon.daemon.launch import SpawnError
from pmdaemon.daemon.process import Process
from pmdaemon.errors import PMDaemonError
from tests.daemon.supervised import Supervised
from tests.fakes import WITH_CHILD, FakeChild

APPS = st.sampled_from(["a", "b"])
SELECTORS = st.sampled_from(["a", "b", "a-0", "a-1", "b-1", "all"])
NUMBERS = st.integers(0, 7)
CONFIGS = st.fixed_dictionaries(
    {"script": st.just("/bin/sh")},
    optional={
        "args": st.sampled_from([["1"], ["2"]]),
        "instances": st.integers(1, 3),
        "port": st.sampled_from(["4000-4002", "auto:4000-4003"]),
        "readiness": st.sampled_from(["exec", {"log_line": "ready"}]),
        "autorestart": st.booleans(),
        "restart_delay": st.sampled_from([0, "5s"]),
        "exp_backoff_restart_delay": st.just("1s"),
        "max_restarts": st.integers(0, 2),
        "kill_timeout": st.sampled_from([0, "3s"]),
        "cwd": st.sampled_from(["/", "/nowhere/at/all"]),
    },
)


class AnyCommands(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.daemon = Supervised(os.path.join(self.directory, "state.db"))
        self.outcomes: list[Deferred[PMDaemonError | None]] = []
        self.failures: list[Any] = []
        globalLogPublisher.addObserver(self.observe)

    def observe(self, event: dict[str, Any]) -> None:
        if "log_failure" in event:
            self.failures.append(event["log_failure"])

    def command(self, action: str, process: str, **fields: Any) -> None:
        self.outcomes.append(self.daemon.do(action, process, **fields))

    def one_of(self, number: int) -> FakeChild | None:
        alive = [child for child in self.daemon.children.alive if child.pid is not None]
        return alive[number % len(alive)] if alive else None

    # What may happen

    @rule(app=APPS, config=CONFIGS, replace=st.booleans())
    def start(self, app: str, config: dict[str, Any], replace: bool) -> None:
        self.command("start", app, config=config, replace=replace)

    @rule(action=st.sampled_from(["start", "stop", "restart", "delete", "reload", "reset"]), process=SELECTORS)
    def plain(self, action: str, process: str) -> None:
        self.command(action, process)

    @rule(app=APPS, config=CONFIGS)
    def reload(self, app: str, config: dict[str, Any]) -> None:
        self.command("reload", app, config=config)

    @rule(app=APPS, instances=st.integers(1, 4))
    def scale(self, app: str, instances: int) -> None:
        self.command("scale", app, instances=instances)

    @rule(process=SELECTORS)
    def signal(self, process: str) -> None:
        self.command("signal", process, signal="HUP")

    @rule(number=NUMBERS, code=st.sampled_from([0, 1]))
    def exit(self, number: int, code: int) -> None:
        child = self.one_of(number)
        if child is not None:
            child.exit(code)

    @rule(number=NUMBERS)
    def ready(self, number: int) -> None:
        child = self.one_of(number)
        if child is not None:
            child.protocol.owner.ready()

    @rule(number=NUMBERS)
    def fail(self, number: int) -> None:
        child = self.one_of(number)
        if child is not None:
            child.protocol.owner.fail("memory_limit", "too much")

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 3.0, 40.0]))
    def time(self, seconds: float) -> None:
        self.daemon.pass_time(seconds)

    @rule(stubborn=st.booleans(), dying=st.sampled_from([0.0, 0.5, 10.0]))
    def dying(self, stubborn: bool, dying: float) -> None:
        self.daemon.children.stubborn, self.daemon.children.dying = stubborn, dying

    @rule(birth=st.sampled_from([None, 0.0, 0.5]), stillborn=st.sampled_from([None, None, "no such program"]))
    def births(self, birth: float | None, stillborn: str | None) -> None:
        self.daemon.children.birth, self.daemon.children.stillborn = birth, stillborn

    @rule(refused=st.booleans(), taken=st.sets(st.sampled_from([4000, 4001, 4002])))
    def starting(self, refused: bool, taken: set[int]) -> None:
        self.daemon.children.refusal = SpawnError("no such program", 2) if refused else None
        self.daemon.taken = taken

    # What must be true at any moment

    def everyone(self) -> list[Process]:
        return [*self.daemon.supervisor.processes.values(), *self.daemon.supervisor._passing]

    @invariant()
    def one_child_where_there_should_be_one(self) -> None:
        everyone = self.everyone()
        for process in everyone:
            children = self.daemon.children.of(process)
            assert len(children) == (process.state in WITH_CHILD), (process.name, process.state, children)
            assert process.pid == (children[0].pid if children else None)
        owners = {child.protocol.owner for child in self.daemon.children.alive}
        assert owners <= set(everyone), "an orphan"

    @invariant()
    def what_a_child_holds_is_held_by_nobody_else(self) -> None:
        alive = [process for process in self.everyone() if process.child is not None]
        ports = [process.port for process in alive if process.port is not None]
        assert len(ports) == len(set(ports)), ports
        assert {port for port in range(4000, 4004) if self.daemon.ports.owner_of(port)} == set(ports)
        assert Counter(self.daemon.logs.open_for) == Counter(process.id for process in alive)

    @invariant()
    def what_was_told_is_true(self) -> None:
        told: dict[int, list[ProcessStatus]] = {}
        for event in self.daemon.told.events:
            if isinstance(event, ProcessStatus):
                told.setdefault(event.id, []).append(event)
        for statuses in told.values():
            assert statuses[0].previous_status is None
            for before, after in pairwise(statuses):
                assert after.previous_status == before.status != after.status
        for process in self.daemon.supervisor.processes.values():
            expected = told[process.id][-1].status if process.id in told else "stopped"
            assert process.status == expected, (process.name, process.status, expected)

    @invariant()
    def what_is_kept_is_what_there_is(self) -> None:
        kept = {each.id: (each.name, each.wanted, each.restarts) for each in self.daemon.store.processes()}
        there = {id_: (each.name, each.wanted, each.restarts) for id_, each in self.daemon.supervisor.processes.items()}
        assert kept == there
        assert {each.spec.name for each in self.daemon.store.apps()} == set(self.daemon.supervisor.apps)
        names = [name for app in self.daemon.supervisor.apps.values() for name in app.processes]
        assert Counter(names) == Counter(each.name for each in self.daemon.supervisor.processes.values())

    @invariant()
    def what_is_wanted_runs(self) -> None:
        """Where no command is pending, a process runs, or tries to, or gave up, if and only if it is to run."""
        for process in self.daemon.supervisor.processes.values():
            pending = self.daemon.supervisor.queue(process).newest is not None
            if not pending and not process.wanted:
                assert process.state is State.STOPPED, (process.name, process.state)
            if not pending and process.wanted:
                assert process.state not in (State.STOPPED, State.STOPPING), (process.name, process.state)

    # How it ends

    def teardown(self) -> None:
        try:
            self.daemon.pass_time(1000.0)
            for outcome in self.outcomes:
                assert outcome.called, "a command that is never answered"
                outcome.addErrback(self.failures.append)
            assert not self.daemon.supervisor._passing
            if all(each.state in (State.ONLINE, *RESTING) for each in self.everyone()):
                assert self.daemon.timers() == []
            self.end()
            assert self.failures == []
        finally:
            globalLogPublisher.removeObserver(self.observe)
            self.daemon.close()
            shutil.rmtree(self.directory)

    def end(self) -> None:
        """The daemon is stopped, with commands pending and others coming."""
        self.command("reload", "all") if self.daemon.supervisor.processes else None
        pending = [self.daemon.do(action, "all") for action in ("reload", "stop", "restart", "start")]
        stopped = self.daemon.supervisor.stop()
        pending.append(self.daemon.do("start", "all"))
        self.daemon.pass_time(20.0)
        assert stopped.called and all(each.called for each in pending)
        assert self.daemon.children.alive == []
        assert self.daemon.timers() == []
        assert all(each.state in RESTING for each in self.everyone())


class AnyCommandsTests(SynchronousTestCase):
    def test_any_commands(self) -> None:
        run_state_machine_as_test(
            AnyCommands,
            settings=settings(
                max_examples=int(os.environ.get("PMDAEMON_EXAMPLES", "50")),
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
