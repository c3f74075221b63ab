"""One process and its orders: which status and which event each leads to, in what order, and who waits for it."""

import signal
from typing import Any

from pmdaemon.core.events import ProcessStatus
from pmdaemon.core.lifecycle import State
from pmdaemon.daemon.child import Child
from pmdaemon.daemon.process import Process
from tests.daemon.processcase import ProcessTestCase
from tests.fakes import FakeChild, app


class OrderTests(ProcessTestCase):
    """[P9], [P10]: start, stop and restart by command."""

    def test_start(self) -> None:
        process = self.process()
        process.port = 3000
        process.start()
        self.assertEqual(self.told.details("started"), {"pid": 1001, "port": 3000, "startup_time": 0})
        self.assert_story("starting", "online", "+started")
        self.assertEqual((process.pid, process.started_at), (1001, self.world.clock.seconds()))
        self.assertEqual(self.world.timers(), [])

    def test_previous_status(self) -> None:
        """[P7]: null before the first; what comes before a pid is known has none."""
        process = self.process()
        process.start()
        process.stop()
        self.world.pass_time()
        statuses = [event for event in self.told.events if isinstance(event, ProcessStatus)]
        self.assertEqual(
            [(event.previous_status, event.status, event.pid) for event in statuses],
            [
                (None, "starting", None),
                ("starting", "online", 1001),
                ("online", "stopping", 1001),
                ("stopping", "stopped", None),
            ],
        )

    def test_start_of_what_runs(self) -> None:
        process = self.online()
        process.start()
        self.world.pass_time()
        self.assert_story()
        self.assertEqual(len(self.children.all), 1)

    def test_stop(self) -> None:
        process = self.online()
        process.stop()
        self.assert_story("stopping")
        self.assertEqual(self.children.last.signals, ["TERM"])
        self.children.last.exit(3)
        self.assertEqual(self.told.details("stopped"), {"exit_code": 3, "exit_signal": None, "reason": "command"})
        self.assert_story("stopped", "+stopped")
        self.assert_at_rest(process, "stopped")

    def test_stop_signal(self) -> None:
        self.online(stop_signal="INT").stop()
        self.assertEqual(self.children.last.signals, ["INT"])

    def test_kill_timeout(self) -> None:
        """Who minds no signal is killed when the time is over, not sooner, and once."""
        self.children.stubborn = True
        process = self.online(kill_timeout="3s")
        process.stop()
        self.world.pass_time(2.99)
        self.assertEqual(self.children.last.signals, ["TERM"])
        self.children.dying = 60.0
        self.world.pass_time(0.02)
        self.assertEqual(self.children.last.signals, ["TERM", "KILL"])
        self.assertEqual(process.status, "stopping")
        self.world.pass_time(60.0)
        self.assertEqual(self.children.last.signals, ["TERM", "KILL"])
        self.assertEqual(self.told.details("stopped")["exit_signal"], "SIGKILL")
        self.assert_at_rest(process, "stopped")

    def test_stop_again_does_not_prolong(self) -> None:
        self.children.stubborn = True
        process = self.online(kill_timeout="3s")
        process.stop()
        self.world.pass_time(2.0)
        process.stop()
        self.assertEqual(self.children.last.signals, ["TERM"])
        self.world.pass_time(1.0)
        self.assert_at_rest(process, "stopped")

    def test_stop_of_what_never_ran(self) -> None:
        """Nothing changes, so nothing is told."""
        process = self.process()
        process.stop()
        self.assert_story()
        self.assert_at_rest(process, "stopped")

    def test_stop_of_what_errored(self) -> None:
        process = self.online(max_restarts=0)
        self.children.last.exit(9)
        self.told.clear()
        process.stop()
        self.assertEqual(self.told.details("stopped"), {"exit_code": 9, "exit_signal": None, "reason": "command"})
        self.assert_story("stopped", "+stopped")

    def test_restart(self) -> None:
        process = self.online()
        process.port = 3000
        process.restart()
        self.assert_story("restarting")
        self.world.pass_time()
        self.assertEqual(
            self.told.details("restarted"),
            {"pid": 1002, "previous_pid": 1001, "reason": "command", "attempt": 0, "delay": 0},
        )
        self.assert_story("starting", "online", "+restarted")
        self.assertEqual((process.restarts, len(self.children.alive)), (1, 1))

    def test_restart_of_a_stubborn_one(self) -> None:
        """Never two children at once."""
        self.children.stubborn = True
        process = self.online()
        process.restart()
        self.world.pass_time(1.5)
        self.assertEqual(len(self.children.all), 1)
        self.world.pass_time(0.2)
        self.assertEqual((process.status, len(self.children.all), len(self.children.alive)), ("online", 2, 1))

    def test_restart_of_what_is_stopped(self) -> None:
        process = self.process()
        process.restart()
        self.assertIsNone(self.told.details("restarted")["previous_pid"])
        self.assert_story("starting", "online", "+restarted")
        self.assertEqual(process.restarts, 0)

    def test_stop_overtakes_a_restart(self) -> None:
        process = self.online()
        process.restart()
        process.stop()
        self.world.pass_time()
        self.assert_story("restarting", "stopping", "stopped", "+stopped")
        self.assert_at_rest(process, "stopped")

    def test_start_while_it_stops(self) -> None:
        process = self.online()
        process.stop()
        process.start()
        self.world.pass_time()
        self.assert_story("stopping", "restarting", "starting", "online", "+started")
        self.assertEqual(len(self.children.alive), 1)

    def test_a_new_configuration(self) -> None:
        """The living child is ended as its own says; the next one has the new."""
        self.children.stubborn = True
        process = self.online(stop_signal="INT", kill_timeout="1s")
        process.adopt(app(stop_signal="HUP", kill_timeout="9s"))
        process.restart()
        self.assertEqual((self.children.last.signals, process.spec.stop_signal), (["INT"], "INT"))
        self.world.pass_time(1.0)
        self.assertEqual((process.status, process.spec.stop_signal), ("online", "HUP"))
        process.stop()
        self.assertEqual(self.children.last.signals, ["HUP"])

    def test_a_new_configuration_of_what_is_stopped(self) -> None:
        process = self.process()
        process.adopt(app(namespace="other"))
        self.assertEqual(process.namespace, "other")

    def test_signal(self) -> None:
        process = self.online()
        process.signal(signal.SIGUSR1)
        self.assertEqual((self.children.last.relayed, self.children.last.signals), ([signal.SIGUSR1], []))
        self.assert_story()


class ReadinessTests(ProcessTestCase):
    """[P8]: who is not online as soon as it runs."""

    def starting(self, **fields: Any) -> Process:
        process = self.process(readiness={"log_line": "ready"}, **fields)
        process.start()
        self.world.pass_time(1.25)
        return process

    def test_ready(self) -> None:
        process = self.starting()
        self.assert_story("starting")
        process.ready()
        self.assertEqual(self.told.details("started")["startup_time"], 1250)
        self.assert_story("online", "+started")
        process.ready()
        self.assert_story()
        self.assertEqual(self.world.timers(), [])

    def test_not_ready_in_time(self) -> None:
        """A failed start: it is ended, and tried again."""
        process = self.starting(listen_timeout="5s")
        self.world.pass_time(3.74)
        self.assert_story("starting")
        self.world.pass_time(0.01)
        self.assertEqual(self.children.all[0].signals, ["TERM"])
        self.assert_story("restarting", "starting")
        self.assertIsNone(self.told.story() or None)
        process.ready()
        self.assertEqual(self.told.details("restarted")["reason"], "not_ready")

    def test_never_ready(self) -> None:
        process = self.starting(listen_timeout="5s", max_restarts=1)
        self.world.pass_time(60.0)
        self.assertEqual(
            self.told.details("gave_up"),
            {"reason": "not_ready", "attempts": 2, "cause": {"rule": "not ready within listen_timeout"}},
        )
        self.assert_story("starting", "restarting", "starting", "restarting", "errored", "+gave_up")
        self.assert_at_rest(process, "errored")

    def test_never_ready_without_autorestart(self) -> None:
        process = self.starting(listen_timeout="5s", autorestart=False)
        self.world.pass_time(60.0)
        self.assert_story("starting", "restarting", "errored", "+gave_up")
        self.assert_at_rest(process, "errored")

    def test_an_end_before_it_is_ready(self) -> None:
        """Exit 0 too is a failure then, and once it is too many."""
        process = self.starting(max_restarts=0)
        self.world.pass_time(10.0)
        self.children.last.exit(0)
        self.assert_story("starting", "errored", "+gave_up")
        self.assert_at_rest(process, "errored")

    def test_stop_before_it_is_ready(self) -> None:
        process = self.starting()
        process.stop()
        process.ready()
        self.world.pass_time()
        self.assert_story("starting", "stopping", "stopped", "+stopped")
        self.assert_at_rest(process, "stopped")
        self.assertTrue(self.world.watches[-1].stopped)


class BirthTests(ProcessTestCase):
    """A keeper's children: their program runs some time after it was ordered, or it does not."""

    def unborn(self, **fields: Any) -> Process:
        self.children.birth = 0.5
        process = self.process(**fields)
        process.start()
        return process

    def test_born(self) -> None:
        """[P8]: online when exec has succeeded."""
        process = self.unborn()
        self.assert_story("starting")
        self.assertEqual((process.status, process.pid), ("starting", None))
        self.world.pass_time(0.5)
        self.assertEqual((process.pid, self.told.details("started")["startup_time"]), (1001, 500))
        self.assert_story("online", "+started")

    def test_stopped_before_it_is_born(self) -> None:
        """It is told as soon as it can be."""
        process = self.unborn()
        process.stop()
        self.world.pass_time(1.0)
        self.assert_story("starting", "stopping", "stopped", "+stopped")
        self.assertEqual((self.world.watches, self.children.last.signals), ([], ["TERM"]))
        self.assert_at_rest(process, "stopped")

    def test_restarted_before_it_is_born(self) -> None:
        process = self.unborn()
        process.adopt(app(namespace="new"))
        process.restart()
        self.world.pass_time(2.0)
        self.assert_story("starting", "restarting", "starting", "online", "+restarted")
        self.assertEqual((len(self.children.alive), process.namespace), (1, "new"))

    def test_ready_before_it_is_known_to_run(self) -> None:
        """What it says itself may come sooner than what the keeper says of it."""
        process = self.unborn(readiness={"log_line": "ready"})
        process.ready()
        self.assert_story("starting")
        self.world.pass_time(0.5)
        self.assertEqual(self.told.details("started")["pid"], 1001)
        self.assert_story("online", "+started")
        process.restart()
        self.world.pass_time(1.0)
        self.assert_story("restarting", "starting")  # the next one has to say so anew

    def test_stillborn(self) -> None:
        self.children.stillborn = "no such program"
        process = self.unborn()
        self.world.pass_time(1.0)
        self.assert_story("starting", "errored", "+gave_up")
        self.assertEqual(str(process.failure), "cannot start 'web': no such program")
        self.assert_at_rest(process, "errored")

    def test_stillborn_after_a_crash(self) -> None:
        process = self.online(max_restarts=1)
        self.children.birth, self.children.stillborn = 0.0, "no such program"
        self.children.last.exit(1)
        self.world.pass_time(10.0)
        self.assert_story("restarting", "+crashed", "starting", "errored", "+gave_up")
        self.assert_at_rest(process, "errored")

    def test_stillborn_after_an_order(self) -> None:
        """A stop is done then; a restart begins again, with what it was to begin with."""
        self.children.stillborn = "no such program"
        process = self.unborn()
        process.stop()
        self.world.pass_time(1.0)
        self.assert_at_rest(process, "stopped")
        process = self.unborn()
        process.adopt(app(namespace="new"))
        process.restart()
        self.world.pass_time(0.4)
        self.children.birth = None
        self.world.pass_time(1.0)
        self.assertEqual((process.status, process.namespace), ("online", "new"))


class AdoptionTests(ProcessTestCase):
    """A child that an earlier daemon started: nothing is told of it but that it was adopted."""

    def adopted(self, *, ready: bool, **fields: Any) -> Process:
        process = self.process(**fields)
        child = Child(process, self.world.clock.seconds() - 100.0, adopted=True)
        process.resume(child, ready=ready, health="unknown")
        fake = FakeChild(self.children, child, [], {})
        self.children.all.append(fake)
        fake.born()
        return process

    def test_online(self) -> None:
        process = self.adopted(ready=True)
        self.assertEqual(self.told.details("adopted"), {"pid": 1001, "port": None, "uptime": 100_000})
        self.assert_story("+adopted")
        self.assertEqual((process.status, process.restarts, self.world.timers()), ("online", 0, []))
        self.children.last.exit(1)
        self.world.pass_time()
        self.assert_story("restarting", "+crashed", "starting", "online", "+restarted")
        self.assertEqual(process.restarts, 1)

    def test_starting(self) -> None:
        """It has its listen_timeout once more to get ready."""
        process = self.adopted(ready=False, readiness={"log_line": "ready"}, listen_timeout="5s")
        self.assertEqual(process.status, "starting")
        process.ready()
        self.assert_story("+adopted", "online", "+started")
        process = self.adopted(ready=False, readiness={"log_line": "ready"}, listen_timeout="5s", max_restarts=0)
        self.world.pass_time(5.0)
        self.assert_story("+adopted", "restarting", "errored", "+gave_up")


class SettledTests(ProcessTestCase):
    """Who waits for a state is told once, of the state that was reached, and always."""

    def test_what_is_reached(self) -> None:
        process = self.process(restart_delay="1s", max_restarts=0)
        self.assertEqual(self.successResultOf(process.settled()), State.STOPPED)
        process.start()
        self.assertEqual(self.successResultOf(process.settled()), State.ONLINE)
        gone = process.settled(State.ERRORED)
        self.assertNoResult(gone)
        self.children.last.exit(1)
        self.assertNoResult(gone)  # the events of this turn come first [P11]
        self.world.pass_time()
        self.assertEqual(self.successResultOf(gone), State.ERRORED)

    def test_a_state_that_did_not_last(self) -> None:
        """One that waited for the back-off hears of it though the next attempt is under way."""
        process = self.online()
        heard = process.settled(State.BACKOFF)
        self.children.last.exit(1)
        self.world.pass_time()
        self.assertEqual((self.successResultOf(heard), process.state), (State.BACKOFF, State.ONLINE))

    def test_cancelled(self) -> None:
        """Before the state is reached, and between that and the telling."""
        process = self.online()
        for reached in (False, True):
            waiter = process.settled(State.STOPPED)
            if reached:
                process.stop()
                self.children.last.exit()
            waiter.cancel()
            self.failureResultOf(waiter)
        self.world.pass_time()
        self.assertEqual(self.flushLoggedErrors(), [])
