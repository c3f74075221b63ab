"""Changes of a whole app: reload, replace and scale, with what goes wrong while they last [R4], [R6], [R8]."""

from typing import Any

from pmdaemon.daemon.launch import SpawnError
from tests.daemon.supervised import SupervisedTestCase

NEVER_READY = {"readiness": {"log_line": "ready"}}


class ChangeTestCase(SupervisedTestCase):
    def running(self, **config: Any) -> None:
        self.succeeds(self.daemon.start(**config))
        self.daemon.told.clear()

    def reload(self, selector: str = "web", **config: Any) -> Any:
        return self.daemon.do("reload", selector, config={"script": "/bin/sh", **config})

    def assert_one_each(self) -> None:
        """Every process has its one child and nobody else has one."""
        alive = sorted(child.pid for child in self.daemon.children.alive)
        self.assertEqual(alive, sorted(pid for pid in self.daemon.pids().values() if pid is not None))


class RollTests(ChangeTestCase):
    """Where nothing stands against it, the new one proves itself beside the old."""

    def test_takes_over(self) -> None:
        """The same number, one more restart, one event; the old one ends when the new has stayed up."""
        self.running(min_uptime="2s")
        created = self.daemon.process().created_at
        done = self.reload(min_uptime="2s", args=["new"])
        self.daemon.pass_time(1.9)
        self.assertEqual((self.daemon.pids(), len(self.daemon.children.alive)), ({"web": 1001}, 2))
        self.succeeds(done, within=0.2)
        process = self.daemon.process()
        self.assertEqual((process.id, process.pid, process.restarts, process.created_at), (0, 1002, 1, created))
        self.assertEqual(self.daemon.told.details("reloaded"), {"pid": 1002, "previous_pid": 1001})
        self.assertEqual(self.daemon.told.story(), ["+reloaded"])
        self.assertEqual(self.daemon.children.last.argv, ["/bin/sh", "new"])
        self.assert_one_each()

    def test_goes_on_as_before(self) -> None:
        """Whoever took over is a process like any other."""
        self.running()
        self.succeeds(self.reload(args=["new"]))
        self.daemon.told.clear()
        self.daemon.children.last.exit(1)
        self.daemon.pass_time()
        self.assertEqual(self.daemon.told.story(), ["restarting", "+crashed", "starting", "online", "+restarted"])
        self.assertEqual(self.daemon.process().restarts, 2)
        self.succeeds(self.daemon.do("stop", "web"))
        self.assertEqual((self.daemon.children.alive, self.daemon.timers()), ([], []))

    def test_one_by_one(self) -> None:
        self.running(instances=2)
        done = self.reload(instances=2, args=["new"])
        self.daemon.pass_time(0.5)
        self.assertEqual([child.argv[1:] for child in self.daemon.children.alive], [[], [], ["new"]])
        self.succeeds(done)
        self.assertEqual([child.argv[1:] for child in self.daemon.children.alive], [["new"], ["new"]])
        self.assert_one_each()

    def test_not_ready(self) -> None:
        """[R6]: the old one stays, undisturbed, and nothing of the new one is left."""
        self.running()
        done = self.reload(**NEVER_READY, listen_timeout="5s")
        self.fails(done, "PROCESS_START_FAILED", "not ready within")
        self.assertEqual((self.daemon.pids(), self.daemon.told.story()), ({"web": 1001}, []))
        self.assertEqual(self.daemon.process().spec.readiness, None)
        self.assert_one_each()
        self.assertEqual(self.daemon.timers(), [])

    def test_does_not_stay_up(self) -> None:
        """[R6]: whoever ends within its min_uptime has not proved itself."""
        self.running()
        done = self.reload(args=["new"])
        self.daemon.pass_time(0.9)
        self.daemon.children.last.exit(4)
        self.fails(done, "PROCESS_START_FAILED", "did not stay up for its min_uptime (exit code 4)")
        self.assertEqual((self.daemon.pids(), self.daemon.told.story()), ({"web": 1001}, []))
        self.assertEqual(len(self.daemon.children.all), 2)  # one trial was enough
        self.assert_one_each()

    def test_cannot_be_executed(self) -> None:
        self.running()
        self.daemon.children.refusal = SpawnError("no such program", 2)
        self.fails(self.reload(args=["new"]), "PROCESS_START_FAILED", "no such program", within=0)
        self.assertEqual(self.daemon.pids(), {"web": 1001})

    def test_the_second_of_two_fails(self) -> None:
        """A bad configuration takes none down; what is kept is the old one."""
        self.running(instances=2)
        done = self.reload(instances=2, args=["new"])
        self.daemon.pass_time(0.5)
        self.daemon.children.last.exit(1)
        self.fails(done, "PROCESS_START_FAILED", "'web-0'")
        self.assertEqual(self.daemon.pids(), {"web-0": 1001, "web-1": 1002})
        self.assertEqual(self.daemon.supervisor.apps["web"].spec.args, [])

    def test_a_stop_while_it_rolls(self) -> None:
        """[R3]: at any moment of it, the reload is told so and both children end."""
        for moment in (0.0, 0.5, 1.0, 1.01):
            self.daemon.children.dying = 0.1
            self.running()
            done = self.reload(args=["new"])
            self.daemon.pass_time(moment)
            stop = self.daemon.do("stop", "web")
            self.daemon.pass_time(1.0)
            self.assertIsNone(self.successResultOf(stop))
            self.fails(done, "OPERATION_FAILED", "superseded by stop")
            self.assertEqual((self.daemon.statuses(), self.daemon.children.alive), ({"web": "stopped"}, []))
            self.succeeds(self.daemon.do("start", "web"))
            self.assert_one_each()
            self.succeeds(self.daemon.do("delete", "web"))

    def test_what_waits_behind_it(self) -> None:
        """An order that was given while the old one was there is carried out on its successor."""
        self.running()
        done = self.reload(args=["new"])
        reset, signal = self.daemon.do("reset", "web"), self.daemon.do("signal", "web", signal="HUP")
        for each in (done, reset, signal):
            self.succeeds(each)
        self.assertEqual((self.daemon.children.last.relayed, self.daemon.process().restarts), ([1], 0))

    def test_delete_while_it_rolls(self) -> None:
        self.running(instances=2)
        done = self.reload(instances=2, args=["new"])
        self.daemon.pass_time(0.5)
        delete = self.daemon.do("delete", "web-1")
        self.succeeds(delete, within=0)
        self.succeeds(done)
        self.assertEqual(self.daemon.statuses(), {"web-0": "online"})
        done, delete = self.reload(instances=2), self.daemon.do("delete", "web")
        self.succeeds(delete)
        self.daemon.pass_time(60.0)
        self.assertIn(self.successResultOf(done).code, ("OPERATION_FAILED", "PROCESS_NOT_FOUND"))
        self.assertEqual((self.daemon.children.alive, self.daemon.supervisor.apps), ([], {}))

    def test_ports(self) -> None:
        """Each has its own while there are two; the one that is given back can be had again, under the right name."""
        self.running(port="auto:4000-4001")
        self.succeeds(self.reload(port="auto:4000-4001"))
        self.assertEqual((self.daemon.process().port, self.daemon.ports.owner_of(4001)), (4001, "web"))
        self.assertIsNone(self.daemon.ports.owner_of(4000))
        self.succeeds(self.reload(port="auto:4000-4001"))
        self.assertEqual((self.daemon.process().port, self.daemon.ports.owner_of(4000)), (4000, "web"))
        self.fails(self.daemon.start("other", port=4000), "PORT_IN_USE", "port 4000 is taken by 'web'")

    def test_no_port_for_two(self) -> None:
        self.running(port="auto:4000-4000")
        self.fails(self.reload(port="auto:4000-4000", args=["new"]), "PORT_IN_USE", "no port")
        self.assertEqual((self.daemon.pids(), self.daemon.ports.owner_of(4000)), ({"web": 1001}, "web"))

    def test_a_one_shot(self) -> None:
        """One that does its work and ends well has taken the old one's place."""
        self.running(autorestart=False)
        done = self.reload(autorestart=False, args=["new"])
        self.daemon.children.last.exit(0)
        self.succeeds(done)
        self.assertEqual(self.daemon.statuses(), {"web": "stopped"})
        self.assertFalse(self.daemon.process().wanted)


class SwapTests(ChangeTestCase):
    """Where only one can run, the old one stops first, and comes back if the new one fails."""

    def test_fixed_port(self) -> None:
        self.running(port=4000)
        self.succeeds(self.reload(port=4000, args=["new"], min_uptime="2s"))
        self.assertEqual(self.daemon.told.story(), ["restarting", "starting", "online", "+restarted", "+reloaded"])
        self.assertEqual(self.daemon.children.last.argv, ["/bin/sh", "new"])
        self.assertEqual(self.daemon.ports.owner_of(4000), "web")
        self.daemon.children.last.exit(1)
        self.daemon.pass_time()
        self.assert_one_each()

    def test_what_makes_it_necessary(self) -> None:
        """A check that asks a port asks whoever listens there; two logs cannot be one process's."""
        tcp = {"check_type": "tcp", "port": 4000}
        for fields in ({"readiness": "exec", "health_check": tcp}, {"out_file": "/nowhere/other.log"}):
            self.running(readiness="exec")
            self.daemon.launcher._prober = NoProber()
            self.succeeds(self.reload(**fields))
            self.assertIn("restarting", self.daemon.told.story())
            self.assert_one_each()
            self.succeeds(self.daemon.do("delete", "web"))

    def test_fails(self) -> None:
        """[R6]: started again with the old configuration, and the reply says why."""
        self.running(port=4000)
        done = self.reload(port=4000, args=["new"])
        self.daemon.pass_time(0.5)
        self.daemon.children.last.exit(1)
        self.fails(done, "PROCESS_START_FAILED", "did not stay up")
        self.assertEqual([child.argv[1:] for child in self.daemon.children.all], [[], ["new"], []])
        self.assertEqual((self.daemon.statuses(), self.daemon.process().spec.args), ({"web": "online"}, []))
        self.assert_one_each()
        self.daemon.children.last.exit(1)
        self.daemon.pass_time()
        self.assertEqual(self.daemon.statuses(), {"web": "online"})  # it is no longer on trial

    def test_cannot_be_executed(self) -> None:
        self.running(port=4000)
        done = self.reload(port=4000, cwd="/nowhere/at/all")
        self.fails(done, "PROCESS_START_FAILED", "'/nowhere/at/all' does not exist")
        self.assertEqual((self.daemon.statuses(), self.daemon.process().spec.cwd), ({"web": "online"}, "/"))

    def test_a_stop_meanwhile(self) -> None:
        for moment in (0.0, 0.05, 0.5):
            self.daemon.children.dying = 0.1
            self.running(port=4000)
            done = self.reload(port=4000, args=["new"])
            self.daemon.pass_time(moment)
            self.succeeds(self.daemon.do("stop", "web"))
            self.fails(done, "OPERATION_FAILED", "superseded by stop")
            self.assertEqual((self.daemon.statuses(), self.daemon.children.alive), ({"web": "stopped"}, []))
            self.assertEqual(self.daemon.process().spec.args, [])
            self.succeeds(self.daemon.do("delete", "web"))

    def test_what_is_stopped_stays_so(self) -> None:
        self.running(port=4000)
        self.succeeds(self.daemon.do("stop", "web"))
        self.succeeds(self.reload(port=4001))
        self.assertEqual((self.daemon.statuses(), self.daemon.process().spec.port), ({"web": "stopped"}, 4001))

    def test_what_errored_is_tried(self) -> None:
        self.running(max_restarts=0)
        self.daemon.children.last.exit(1)
        self.succeeds(self.reload(args=["mended"]))
        self.assertEqual(self.daemon.statuses(), {"web": "online"})


class NoProber:
    """Its probes take for ever."""

    def probe(self, *args: object, **rest: object) -> Any:
        from twisted.internet.defer import Deferred

        return Deferred()
