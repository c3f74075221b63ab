"""What each command does, when it is answered, and with what error: [R1], [R3], [R4], [R7], [R8]."""

import signal

from pmdaemon.core.lifecycle import State
from pmdaemon.daemon.launch import SpawnError
from tests.daemon.supervised import SupervisedTestCase

NEVER_READY = {"readiness": {"log_line": "ready"}}


class StartTests(SupervisedTestCase):
    def test_new(self) -> None:
        """[R1]: answered when it is online; [P3]: and with every instance."""
        done = self.daemon.start(instances=2)
        self.succeeds(done)
        self.assertEqual(self.daemon.statuses(), {"web-0": "online", "web-1": "online"})
        self.assertEqual(self.daemon.told.story("web-1"), ["+created", "starting", "online", "+started"])

    def test_answered_when_it_is_ready(self) -> None:
        done = self.daemon.start(**NEVER_READY)
        self.daemon.pass_time(10.0)
        self.assertNoResult(done)
        self.daemon.process().ready()
        self.succeeds(done)

    def test_not_ready(self) -> None:
        """[R1]: the first attempt decides, though more follow."""
        done = self.daemon.start(**NEVER_READY, listen_timeout="1s")
        error = self.fails(done, "PROCESS_START_FAILED", "not ready within its listen_timeout", within=1.0)
        self.assertIn("tried again", str(error.hint))
        self.assertEqual(self.daemon.statuses(), {"web": "starting"})

    def test_an_end_before_it_is_ready(self) -> None:
        done = self.daemon.start(**NEVER_READY)
        self.daemon.children.last.exit(3)
        error = self.fails(done, "PROCESS_START_FAILED", "exit code 3", within=0)
        self.assertEqual(error.details, {"exit_code": 3, "exit_signal": None})

    def test_cannot_be_executed(self) -> None:
        self.daemon.children.refusal = SpawnError("'/bin/sh' is not executable", 13)
        self.fails(self.daemon.start(), "PROCESS_START_FAILED", "'/bin/sh' is not executable", within=0)
        self.assertEqual(self.daemon.statuses(), {"web": "errored"})
        self.daemon.children.refusal = None
        self.succeeds(self.daemon.do("start", "web"))

    def test_name_in_use(self) -> None:
        """[R4]: also while the first one still starts, also where only an instance has the name."""
        first = self.daemon.start(**NEVER_READY, instances=2)
        self.fails(self.daemon.start(), "PROCESS_ALREADY_EXISTS", "in use", within=0)
        self.fails(self.daemon.start("web-1"), "PROCESS_ALREADY_EXISTS", "'web-1' is in use", within=0)
        self.assertNoResult(first)
        self.assertEqual(len(self.daemon.children.all), 2)

    def test_running(self) -> None:
        """[R4], also told of one that comes online meanwhile only once."""
        self.succeeds(self.daemon.start())
        self.fails(self.daemon.do("start", "web"), "PROCESS_ALREADY_RUNNING", "pid 1001")

    def test_joined(self) -> None:
        """[R3]: two that start the same stopped process both succeed, with one child."""
        start = self.daemon.start(**NEVER_READY)
        self.succeeds(self.daemon.do("stop", "web"))
        self.successResultOf(start)
        first, second = self.daemon.do("start", "web"), self.daemon.do("start", "web")
        self.daemon.process().ready()
        self.succeeds(first)
        self.succeeds(second)
        self.assertEqual(len(self.daemon.children.all), 2)

    def test_in_backoff(self) -> None:
        """It is not waited for."""
        self.succeeds(self.daemon.start(restart_delay="1h"))
        self.daemon.children.last.exit(1)
        self.succeeds(self.daemon.do("start", "web"), within=0)

    def test_one_shot(self) -> None:
        """A one-shot that was done before anybody could ask has been started well."""
        done = self.daemon.start(autorestart=False)
        self.daemon.children.last.exit(0)
        self.succeeds(done)
        self.assertEqual(self.daemon.statuses(), {"web": "stopped"})


class StopTests(SupervisedTestCase):
    def test_answered_when_it_has_ended(self) -> None:
        self.succeeds(self.daemon.start(kill_timeout="5s"))
        self.daemon.children.stubborn = True
        done = self.daemon.do("stop", "web")
        self.daemon.pass_time(4.9)
        self.assertNoResult(done)
        self.succeeds(done, within=0.2)
        self.assertEqual(self.daemon.children.alive, [])

    def test_what_is_stopped(self) -> None:
        """[R1]: succeeds, and tells nothing."""
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("stop", "web"))
        self.daemon.told.clear()
        self.succeeds(self.daemon.do("stop", "web"))
        self.assertEqual(self.daemon.told.story(), [])

    def test_overtakes_a_start(self) -> None:
        """[R3]"""
        start = self.daemon.start(**NEVER_READY)
        stop = self.daemon.do("stop", "web")
        self.fails(start, "OPERATION_FAILED", "cannot start 'web': superseded by stop", within=0)
        self.succeeds(stop)
        self.assertEqual(self.daemon.statuses(), {"web": "stopped"})

    def test_overtakes_a_restart(self) -> None:
        self.succeeds(self.daemon.start())
        restart = self.daemon.do("restart", "web")
        stop = self.daemon.do("stop", "web")
        self.fails(restart, "OPERATION_FAILED", "superseded by stop", within=0)
        self.succeeds(stop)
        self.assertEqual((self.daemon.statuses(), len(self.daemon.children.all)), ({"web": "stopped"}, 1))

    def test_in_backoff(self) -> None:
        self.succeeds(self.daemon.start(restart_delay="1h"))
        self.daemon.children.last.exit(1)
        self.succeeds(self.daemon.do("stop", "web"), within=0)
        self.assertEqual(self.daemon.timers(), [])

    def test_then_start(self) -> None:
        """[R3]: in the order they came."""
        self.succeeds(self.daemon.start())
        stop, start = self.daemon.do("stop", "web"), self.daemon.do("start", "web")
        self.succeeds(stop)
        self.succeeds(start)
        self.assertEqual(self.daemon.statuses(), {"web": "online"})


class RestartTests(SupervisedTestCase):
    def test_restart(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("restart", "web"))
        self.assertEqual(self.daemon.pids(), {"web": 1002})
        self.assertEqual(self.daemon.process().restarts, 1)

    def test_what_is_stopped(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("stop", "web"))
        self.succeeds(self.daemon.do("restart", "web"))
        self.assertTrue(self.daemon.process().wanted)

    def test_fails(self) -> None:
        self.succeeds(self.daemon.start())
        done = self.daemon.do("restart", "web")
        self.daemon.children.refusal = SpawnError("no such program", 2)
        self.fails(done, "PROCESS_START_FAILED", "no such program")
        self.assertEqual(self.daemon.statuses(), {"web": "errored"})

    def test_joined(self) -> None:
        """[R3]: one child for two equal requests."""
        self.succeeds(self.daemon.start())
        done = [self.daemon.do("restart", "web"), self.daemon.do("restart", "web")]
        for each in done:
            self.succeeds(each)
        self.assertEqual(self.daemon.pids(), {"web": 1002})


class DeleteTests(SupervisedTestCase):
    def test_delete(self) -> None:
        """[R7]: stopped, forgotten, and the logs are kept; [P2]: its number is not used again."""
        self.succeeds(self.daemon.start())
        self.daemon.told.clear()
        self.succeeds(self.daemon.do("delete", "web"))
        self.assertEqual(self.daemon.told.story(), ["stopping", "stopped", "+stopped", "+deleted"])
        self.assertEqual((self.daemon.supervisor.processes, self.daemon.supervisor.apps), ({}, {}))
        self.assertEqual(self.daemon.logs.forgotten, [("web", False)])
        self.succeeds(self.daemon.start())
        self.assertEqual(self.daemon.process().id, 1)

    def test_purge(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("delete", "web", purge=True))
        self.assertEqual(self.daemon.logs.forgotten, [("web", True)])

    def test_in_backoff(self) -> None:
        self.succeeds(self.daemon.start(restart_delay="1h"))
        self.daemon.children.last.exit(1)
        self.succeeds(self.daemon.do("delete", "web"), within=0)
        self.assertEqual((self.daemon.timers(), self.daemon.children.alive), ([], []))

    def test_what_was_asked_for_afterwards(self) -> None:
        """Nothing brings a deleted one back to life, and nobody waits for ever."""
        self.succeeds(self.daemon.start())
        self.daemon.children.stubborn = True
        delete = self.daemon.do("delete", "web")
        behind = [self.daemon.do(action, "web") for action in ("restart", "start", "reset", "reload")]
        behind.append(self.daemon.do("scale", "web", instances=3))
        self.succeeds(delete)
        for done in behind:
            self.fails(done, "PROCESS_NOT_FOUND", "deleted meanwhile")
        self.assertEqual(self.daemon.children.alive, [])

    def test_then_start_anew(self) -> None:
        """[R3]: in the order they came, so the name is free when it is its turn; for one of two only."""
        self.succeeds(self.daemon.start(instances=2))
        delete, first, second = self.daemon.do("delete", "web"), self.daemon.start(), self.daemon.start(args=["x"])
        self.succeeds(delete)
        self.succeeds(first)
        self.fails(second, "PROCESS_ALREADY_EXISTS", "in use")
        self.assertEqual(self.daemon.statuses(), {"web": "online"})

    def test_one_instance(self) -> None:
        self.succeeds(self.daemon.start(instances=2))
        self.succeeds(self.daemon.do("delete", "web-0"))
        self.assertEqual(self.daemon.statuses(), {"web-1": "online"})
        self.succeeds(self.daemon.do("reload", "web"))
        self.assertEqual(self.daemon.statuses(), {"web-1": "online"})


class FurtherTests(SupervisedTestCase):
    """[R8]"""

    def test_signal(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("signal", "web", signal="hup"))
        self.assertEqual(self.daemon.children.last.relayed, [signal.SIGHUP])
        self.fails(self.daemon.do("signal", "web", signal="SIGNOPE"), "INVALID_MESSAGE", "signal")

    def test_signal_to_nobody(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("stop", "web"))
        self.fails(self.daemon.do("signal", "web", signal="HUP"), "OPERATION_FAILED", "it is stopped")

    def test_reset(self) -> None:
        self.succeeds(self.daemon.start(max_restarts=1))
        self.daemon.children.last.exit(1)
        self.daemon.pass_time()
        self.succeeds(self.daemon.do("reset", "web"))
        self.assertEqual(self.daemon.process().restarts, 0)
        self.daemon.children.last.exit(1)
        self.daemon.pass_time()
        self.assertEqual(self.daemon.process().state, State.ONLINE)

    def test_several(self) -> None:
        """[P3]: app, instance, number, glob, namespace, all."""
        for name, fields in (("web", {"instances": 2}), ("worker", {"namespace": "back"})):
            self.succeeds(self.daemon.start(name, **fields))
        for selector, hit in (
            ("web", {"web-0", "web-1"}),
            ("web-1", {"web-1"}),
            (2, {"worker"}),
            ("w*r", {"worker"}),
            ("ns:back", {"worker"}),
            ("all", {"web-0", "web-1", "worker"}),
        ):
            self.succeeds(self.daemon.do("stop", selector))
            stopped = {name for name, status in self.daemon.statuses().items() if status == "stopped"}
            self.assertEqual(stopped, hit, selector)
            self.succeeds(self.daemon.do("start", selector))
        self.assertIn("web", str(self.fails(self.daemon.do("stop", "wep"), "PROCESS_NOT_FOUND", "'wep'").hint))
