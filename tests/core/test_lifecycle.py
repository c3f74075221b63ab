"""The state machine walked through: every cell, and what must never be whatever happens in whatever order."""

from collections import deque
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.lifecycle import RESTING, STATUS, TRANSITIONS, Action, Input, State, step

AGREED = """
          START     STOP     RESTART   READY  FAIL    DONE     RETRY    GIVE_UP  READY_DUE KILL_DUE RETRY_DUE
stopped   starting  =        starting  -      -       -        -        -        -         -        -
starting  =         stopping replacing online failing stopped  backoff  errored  failing   -        -
online    =         stopping replacing -      failing stopped  backoff  errored  -         -        -
stopping  replacing =        replacing -      -       stopped  stopped  stopped  -         =        -
replacing =         stopping =         -      -       starting starting starting -         =        -
failing   replacing stopping replacing -      -       stopped  backoff  errored  -         =        -
backoff   starting  stopped  starting  -      -       -        -        -        -         -        starting
errored   starting  stopped  starting  -      -       -        -        -        -         -        -
"""

ORDERS = frozenset({Input.START, Input.STOP, Input.RESTART})
VERDICTS = frozenset({Input.DONE, Input.RETRY, Input.GIVE_UP})
DUE = {
    Action.ARM_READY: Input.READY_DUE,
    Action.ARM_KILL: Input.KILL_DUE,
    Action.ARM_RETRY: Input.RETRY_DUE,
}
WITH_CHILD = {State.STARTING, State.ONLINE, State.STOPPING, State.REPLACING, State.FAILING}


class Place(NamedTuple):
    """A process as the table's actions leave it; ``hopeless`` is when a start came to no child, which is judged."""

    state: State = State.STOPPED
    child: bool = False
    timer: Input | None = None
    signalled: bool = False
    hopeless: bool = False


def possible(place: Place) -> set[Input]:
    """What can happen next: an order whenever somebody gives one, the rest only where there is what it comes from."""
    if place.hopeless:
        return {Input.RETRY, Input.GIVE_UP}
    happens = set(ORDERS)
    if place.child:
        happens |= VERDICTS | {Input.READY, Input.FAIL}
    if place.timer is not None:
        happens.add(place.timer)
    return happens


def carried_out(place: Place, what: Input, spawns: bool) -> Place:
    """Where *what* leads; *spawns* tells whether a start comes to a child."""
    if what in VERDICTS:
        place = place._replace(child=False, hopeless=False)
    if what is place.timer:
        place = place._replace(timer=None)
    cell = step(place.state, what)
    if cell is None:
        return place
    place = place._replace(state=cell.state)
    for action in cell.actions:
        if action is Action.DISARM:
            place = place._replace(timer=None)
        elif action in DUE:
            assert place.timer is None, f"two timers: {place}"
            place = place._replace(timer=DUE[action])
        elif action is Action.SPAWN:
            assert not place.child, f"two children: {place}"
            place = place._replace(child=spawns, hopeless=not spawns, signalled=False)
        elif action is Action.SIGNAL:
            assert place.child, f"nobody to signal: {place}"
            place = place._replace(signalled=True)
        else:
            assert place.child and place.signalled, f"killed before it was asked: {place}"
    return place


def walk(start: Place, inputs: frozenset[Input] = frozenset(Input)) -> dict[Place, list[tuple[Input, Place]]]:
    """Every place that can be reached from *start* by *inputs*, and where one comes from there."""
    found: dict[Place, list[tuple[Input, Place]]] = {}
    ahead = deque([start])
    while ahead:
        place = ahead.popleft()
        if place in found:
            continue
        found[place] = [
            (what, carried_out(place, what, spawns)) for what in possible(place) & inputs for spawns in (True, False)
        ]
        ahead.extend(next_place for _, next_place in found[place])
    return found


class TableTests(SynchronousTestCase):
    def test_as_agreed(self) -> None:
        """Every cell says what was agreed on, and there are no others."""
        head, *rows = AGREED.strip("\n").splitlines()
        inputs = [Input[name] for name in head.split()]
        self.assertEqual(set(inputs), set(Input))
        for row in rows:
            name, *cells = row.split()
            state = State(name)
            for what, cell in zip(inputs, cells, strict=True):
                expected = {"-": None, "=": state}.get(cell) if cell in "-=" else State(cell)
                found = step(state, what)
                self.assertEqual(found and found.state, expected, (state, what))
        self.assertEqual({row.split()[0] for row in rows}, {state.value for state in State})

    def test_statuses(self) -> None:
        """The six words of the document, for every state."""
        self.assertEqual(set(STATUS), set(State))
        words = {"starting", "online", "stopping", "stopped", "errored", "restarting"}
        self.assertEqual(set(STATUS.values()), words)
        for state in State:
            self.assertEqual(STATUS[state], state.value if state.value in words else "restarting")


class WalkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.places = walk(Place())

    def test_every_cell_is_reached(self) -> None:
        reached = {
            (place.state, what) for place, ways in self.places.items() for what, _ in ways if step(place.state, what)
        }
        table = {(state, what) for state, row in TRANSITIONS.items() for what in row}
        self.assertEqual(table - reached, set())

    def test_a_child_where_there_should_be_one(self) -> None:
        """At most one at any time (the walk sees to that), and none where the status says so."""
        for place in self.places:
            if not place.hopeless:
                self.assertEqual(place.child, place.state in WITH_CHILD, place)

    def test_timers(self) -> None:
        """None at rest or online; one wherever something is waited for that may never come."""
        kinds = {
            State.STARTING: Input.READY_DUE,
            State.STOPPING: Input.KILL_DUE,
            State.REPLACING: Input.KILL_DUE,
            State.FAILING: Input.KILL_DUE,
            State.BACKOFF: Input.RETRY_DUE,
        }
        for place, ways in self.places.items():
            after_kill = place.timer is None and place.signalled
            if not (after_kill and kinds.get(place.state) is Input.KILL_DUE):
                self.assertEqual(place.timer, kinds.get(place.state), place)
            if place.state in RESTING:
                self.assertEqual((place.child, place.timer), (False, None))
                self.assertEqual({what for what, _ in ways}, ORDERS)

    def test_a_stop_leads_to_stopped(self) -> None:
        """From wherever it is given, whatever the child and the timers do then, in finitely many steps."""
        for place in self.places:
            if place.hopeless:
                continue
            stopped = carried_out(place, Input.STOP, True)
            ways = walk(stopped, frozenset(Input) - {Input.START, Input.RESTART})
            self.assertLessEqual({each.state for each in ways}, {State.STOPPING, State.STOPPED}, place)
            for each, nexts in ways.items():
                if each.state is State.STOPPING:
                    ends = [after.state for what, after in nexts if what in VERDICTS]
                    self.assertEqual(set(ends), {State.STOPPED}, each)

    def test_a_kill_follows_an_ignored_stop(self) -> None:
        """Wherever a child is to end, the timer that kills it runs until it does."""
        for state in (State.STOPPING, State.REPLACING, State.FAILING):
            cell = step(state, Input.KILL_DUE)
            assert cell is not None
            self.assertEqual((cell.state, cell.actions), (state, (Action.KILL,)))
