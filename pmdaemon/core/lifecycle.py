"""The one process state machine, as a table: a state and an input give the next state and what to do.

It decides and performs nothing: ``daemon.process`` feeds it and carries out its actions.
"""

from enum import Enum
from typing import NamedTuple

__all__ = ["RESTING", "STATUS", "TRANSITIONS", "Action", "Input", "State", "Step", "step"]


class State(Enum):
    """Where a process is; finer than the status on the wire, see ``STATUS``."""

    STOPPED = "stopped"
    STARTING = "starting"
    ONLINE = "online"
    STOPPING = "stopping"
    REPLACING = "replacing"
    FAILING = "failing"
    BACKOFF = "backoff"
    ERRORED = "errored"


class Input(Enum):
    """What can happen to a process: orders, facts, verdicts on an end, timers."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    READY = "ready"
    FAIL = "fail"
    DONE = "done"
    RETRY = "retry"
    GIVE_UP = "give_up"
    READY_DUE = "ready_due"
    KILL_DUE = "kill_due"
    RETRY_DUE = "retry_due"


class Action(Enum):
    """What is to be done on the way into the next state, in the order given."""

    SPAWN = "spawn"
    SIGNAL = "signal"
    KILL = "kill"
    ARM_READY = "arm_ready"
    ARM_KILL = "arm_kill"
    ARM_RETRY = "arm_retry"
    DISARM = "disarm"


class Step(NamedTuple):
    """One cell of the table."""

    state: State
    actions: tuple[Action, ...] = ()


STATUS = {
    State.STOPPED: "stopped",
    State.STARTING: "starting",
    State.ONLINE: "online",
    State.STOPPING: "stopping",
    State.REPLACING: "restarting",
    State.FAILING: "restarting",
    State.BACKOFF: "restarting",
    State.ERRORED: "errored",
}

RESTING = frozenset({State.STOPPED, State.ERRORED})
"""States with no child and no timer; only an order leads out of them."""

_SPAWN = (Action.DISARM, Action.ARM_READY, Action.SPAWN)
_END = (Action.DISARM, Action.ARM_KILL, Action.SIGNAL)
_REST = (Action.DISARM,)
_RETRY = (Action.DISARM, Action.ARM_RETRY)

_START = Step(State.STARTING, _SPAWN)
_STOP = Step(State.STOPPING, _END)
_REPLACE = Step(State.REPLACING, _END)
_FAIL = Step(State.FAILING, _END)
_STOPPED = Step(State.STOPPED, _REST)
_JUDGED = {
    Input.DONE: _STOPPED,
    Input.RETRY: Step(State.BACKOFF, _RETRY),
    Input.GIVE_UP: Step(State.ERRORED, _REST),
}


def _same(state: State, *inputs: Input, actions: tuple[Action, ...] = ()) -> dict[Input, Step]:
    return {each: Step(state, actions) for each in inputs}


TRANSITIONS: dict[State, dict[Input, Step]] = {
    State.STOPPED: {
        Input.START: _START,
        Input.RESTART: _START,
        **_same(State.STOPPED, Input.STOP),
    },
    State.STARTING: {
        **_same(State.STARTING, Input.START),
        Input.STOP: _STOP,
        Input.RESTART: _REPLACE,
        Input.READY: Step(State.ONLINE, (Action.DISARM,)),
        Input.FAIL: _FAIL,
        Input.READY_DUE: _FAIL,
        **_JUDGED,
    },
    State.ONLINE: {
        **_same(State.ONLINE, Input.START),
        Input.STOP: _STOP,
        Input.RESTART: _REPLACE,
        Input.FAIL: _FAIL,
        **_JUDGED,
    },
    State.STOPPING: {
        Input.START: Step(State.REPLACING),
        Input.RESTART: Step(State.REPLACING),
        **_same(State.STOPPING, Input.STOP),
        **dict.fromkeys(_JUDGED, _STOPPED),
        **_same(State.STOPPING, Input.KILL_DUE, actions=(Action.KILL,)),
    },
    State.REPLACING: {
        **_same(State.REPLACING, Input.START, Input.RESTART),
        Input.STOP: Step(State.STOPPING),
        **dict.fromkeys(_JUDGED, _START),
        **_same(State.REPLACING, Input.KILL_DUE, actions=(Action.KILL,)),
    },
    State.FAILING: {
        Input.START: Step(State.REPLACING),
        Input.RESTART: Step(State.REPLACING),
        Input.STOP: Step(State.STOPPING),
        **_JUDGED,
        **_same(State.FAILING, Input.KILL_DUE, actions=(Action.KILL,)),
    },
    State.BACKOFF: {
        Input.START: _START,
        Input.RESTART: _START,
        Input.STOP: _STOPPED,
        Input.RETRY_DUE: _START,
    },
    State.ERRORED: {
        Input.START: _START,
        Input.RESTART: _START,
        Input.STOP: _STOPPED,
    },
}


def step(state: State, what: Input) -> Step | None:
    """Return the cell for *what* in *state*, or None where the input means nothing there (a late fact or timer)."""
    return TRANSITIONS[state].get(what)
