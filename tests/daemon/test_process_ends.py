"""What becomes of a process whose end nobody asked for, or that never began, or that is not well."""

import signal
from typing import Any

from pmdaemon.daemon.process import Process
from pmdaemon.errors import PortInUse, ProcessStartFailed
from tests.daemon.processcase import ProcessTestCase
from tests.fakes import app

HTTP = {"check_type": "http", "url": "http://localhost:1/"}


class EndTests(ProcessTestCase):
    """[P9], [P10], [P14]: ends that nobody asked for."""

    def test_crash(self) -> None:
        process = self.online(restart_delay="2s")
        self.world.lines = ["one", "two"]
        self.world.pass_time(5.0)
        self.children.last.exit(1)
        self.assertEqual(
            self.told.details("crashed"),
            {"exit_code": 1, "exit_signal": None, "uptime": 5000, "attempt": 1, "last_lines": ["one", "two"]},
        )
        self.assert_story("restarting", "+crashed")
        self.assertEqual((process.exit_code, process.pid), (1, None))
        self.world.pass_time(1.9)
        self.assert_story()
        self.world.pass_time(0.1)
        self.assertEqual(
            self.told.details("restarted"),
            {
                "pid": 1002,
                "previous_pid": 1001,
                "reason": "crash",
                "attempt": 1,
                "delay": 2000,
                "cause": {"rule": "exit code 1"},
            },
        )
        self.assert_story("starting", "online", "+restarted")
        self.assertEqual((process.restarts, process.exit_code), (1, None))

    def test_killed(self) -> None:
        process = self.online()
        self.children.last.exit(signum=signal.SIGSEGV)
        self.assertEqual((process.exit_code, process.exit_signal), (None, "SIGSEGV"))
        self.assertEqual(self.told.details("crashed")["exit_signal"], "SIGSEGV")

    def test_an_unnamed_signal(self) -> None:
        process = self.online()
        self.children.last.exit(signum=40)
        self.assertEqual(process.exit_signal, "SIG40")

    def test_exit_0(self) -> None:
        self.online()
        self.world.pass_time(1.0)
        self.children.last.exit(0)
        self.world.pass_time()
        self.assertEqual(self.told.details("restarted")["reason"], "exit")
        self.assertEqual(self.told.details("restarted")["attempt"], 0)
        self.assert_story("restarting", "starting", "online", "+restarted")

    def test_one_shot(self) -> None:
        process = self.online(autorestart=False)
        process.wanted = True
        self.children.last.exit(0)
        self.assertEqual(
            self.told.details("stopped"),
            {"exit_code": 0, "exit_signal": None, "reason": "exit", "cause": {"rule": "exit code 0"}},
        )
        self.assert_story("stopped", "+stopped")
        self.assert_at_rest(process, "stopped")
        self.assertFalse(process.wanted)  # not run again by the next daemon

    def test_one_shot_that_crashes(self) -> None:
        process = self.online(autorestart=False)
        process.wanted = True
        self.children.last.exit(2)
        self.assert_story("errored", "+crashed")
        self.assert_at_rest(process, "errored")
        self.assertTrue(process.wanted)

    def test_stop_exit_codes(self) -> None:
        process = self.online(stop_exit_codes=[5])
        self.children.last.exit(5)
        self.assert_story("stopped", "+stopped")
        self.assert_at_rest(process, "stopped")

    def test_giving_up(self) -> None:
        process = self.online(max_restarts=2)
        for _ in range(3):
            self.children.last.exit(1)
            self.world.pass_time()
        self.assertEqual(
            self.told.details("gave_up"), {"reason": "crash", "attempts": 3, "cause": {"rule": "exit code 1"}}
        )
        crash = ("restarting", "+crashed", "starting", "online", "+restarted")
        self.assert_story(*crash, *crash, "errored", "+crashed", "+gave_up")
        self.assert_at_rest(process, "errored")
        process.start()
        self.children.last.exit(1)
        self.world.pass_time()
        self.assertEqual(process.status, "online")  # its failures were forgotten

    def test_backoff(self) -> None:
        process = self.online(exp_backoff_restart_delay="100ms")
        delays = []
        for _ in range(4):
            self.children.last.exit(1)
            self.world.pass_time(0.1 * 2 ** len(delays))
            self.assertEqual(process.status, "online")
            delays.append(self.told.details("restarted")["delay"])
        self.assertEqual(delays, [100, 200, 400, 800])

    def test_stop_in_backoff(self) -> None:
        process = self.online(restart_delay="10s")
        self.children.last.exit(1)
        self.told.clear()
        process.stop()
        self.assertEqual(self.told.details("stopped"), {"exit_code": 1, "exit_signal": None, "reason": "command"})
        self.assert_story("stopped", "+stopped")
        self.assert_at_rest(process, "stopped")

    def test_start_in_backoff(self) -> None:
        """It is not waited for; one timer and one child are left."""
        process = self.online(restart_delay="10s")
        self.children.last.exit(1)
        self.told.clear()
        process.start()
        self.world.pass_time(20.0)
        self.assert_story("starting", "online", "+started")
        self.assertEqual((process.restarts, len(self.children.alive), self.world.timers()), (1, 1, []))

    def test_memory_limit(self) -> None:
        process = self.online()
        process.fail("memory_limit", "too much")
        process.fail("memory_limit", "too much")
        self.assertEqual(self.children.last.signals, ["TERM"])
        self.world.pass_time()
        self.assertEqual(self.told.details("restarted")["reason"], "memory_limit")
        self.assert_story("restarting", "starting", "online", "+restarted")
        self.assertEqual(process.restarts, 1)

    def test_a_failing_one_that_is_stubborn(self) -> None:
        self.children.stubborn = True
        process = self.online(kill_timeout="1s")
        process.fail("memory_limit", "too much")
        self.world.pass_time(1.0)
        self.assertEqual(self.children.all[0].signals, ["TERM", "KILL"])
        self.assertEqual((process.status, len(self.children.alive)), ("online", 1))

    def test_output(self) -> None:
        process = self.online()
        assert process.child is not None
        process.child.childDataReceived(1, b"hello")
        self.assertEqual(self.world.lines, ["hello"])


class SpawnTests(ProcessTestCase):
    """Starts that never come to a child."""

    def test_by_command(self) -> None:
        """Told at once, and not tried again: who gave the command is there to mend it."""
        process = self.process()
        self.world.refusal = ProcessStartFailed("cannot start 'web': there is no such program")
        process.start()
        self.assertEqual(process.failure, self.world.refusal)
        self.assertEqual(self.told.details("gave_up")["reason"], self.world.refusal.message)
        self.assert_story("starting", "errored", "+gave_up")
        self.assert_at_rest(process, "errored")

    def test_by_itself(self) -> None:
        """After a crash it is tried again at a measured pace, up to ``max_restarts``: it does not spin."""
        for refusal, reason, rule in (
            (ProcessStartFailed("cannot start 'web': no such program"), "not_started", "could not be started"),
            (PortInUse("cannot start 'web': port 80 is taken"), "port_in_use", "its port was in use"),
        ):
            self.world.refusal = None
            process = self.online(max_restarts=3)
            self.children.last.exit(1)
            self.told.clear()
            self.world.refusal = refusal
            started = self.world.clock.seconds()
            self.world.pass_time(100.0)
            gave_up = self.told.details("gave_up")
            self.assertEqual(gave_up, {"reason": reason, "attempts": 4, "cause": {"rule": rule}})
            self.assert_story("starting", "restarting", "starting", "restarting", "starting", "errored", "+gave_up")
            self.assert_at_rest(process, "errored")
            self.assertGreaterEqual(self.world.clock.seconds() - started, 2.0)

    def test_what_mends_itself(self) -> None:
        process = self.online()
        self.world.refusal = PortInUse("cannot start 'web': port 80 is taken")
        self.children.last.exit(1)
        self.world.pass_time(2.5)
        self.world.refusal = None
        self.world.pass_time(1.0)
        restarted = self.told.details("restarted")
        self.assertEqual((restarted["reason"], restarted["previous_pid"]), ("port_in_use", 1001))
        self.assertEqual((process.status, process.restarts), ("online", 1))

    def test_a_restart_by_command_that_fails(self) -> None:
        process = self.online()
        self.world.refusal = ProcessStartFailed("cannot start 'web': there is no such program")
        process.restart()
        self.world.pass_time(100.0)
        self.assert_story("restarting", "starting", "errored", "+gave_up")
        self.assert_at_rest(process, "errored")


class HealthTests(ProcessTestCase):
    """[P10], [P12]: what a change of health leads to."""

    def unhealthy(self, process: Process) -> None:
        process.health_changed("unknown", "healthy", {"status_code": 200}, 0, None)
        process.health_changed("healthy", "unhealthy", {"status_code": 500}, 3, "status 500")

    def checked(self, **fields: Any) -> Process:
        return self.online(readiness="exec", health_check={**HTTP, **fields})

    def test_unhealthy(self) -> None:
        process = self.checked()
        self.unhealthy(process)
        self.assertEqual(
            self.told.details("health_check_failed"), {"check_type": "http", "failures": 3, "error": "status 500"}
        )
        self.assertEqual(self.children.last.signals, ["TERM"])
        self.assert_story("~healthy", "~unhealthy", "+health_check_failed", "restarting")
        self.world.pass_time()
        self.assertEqual(self.told.details("restarted")["reason"], "unhealthy")
        self.assert_story("~unknown", "starting", "online", "+restarted")
        self.assertEqual(process.health, "unknown")

    def test_unhealthy_and_left_alone(self) -> None:
        process = self.checked(restart=False)
        self.unhealthy(process)
        self.world.pass_time()
        self.assert_story("~healthy", "~unhealthy", "+health_check_failed")
        self.assertEqual((process.health, process.status), ("unhealthy", "online"))

    def test_unknown_again_after_a_restart(self) -> None:
        """[P9]: told where it was known, of the check that knew it."""
        process = self.checked()
        process.restart()
        self.world.pass_time()
        self.assert_story("restarting", "starting", "online", "+restarted")
        process.health_changed("unknown", "healthy", {}, 0, None)
        process.adopt(app())
        process.restart()
        self.world.pass_time()
        self.assert_story("~healthy", "restarting", "~unknown", "starting", "online", "+restarted")
