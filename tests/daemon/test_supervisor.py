"""What there is, what of it outlives the daemon, and how the daemon's own life begins and ends: [P2], [P3], [R1]."""

from typing import Any

from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon import supervisor
from pmdaemon.errors import InvalidConfiguration, LimitExceeded, PMDaemonError, ProcessAlreadyExists
from tests.daemon.supervised import Supervised, SupervisedTestCase
from tests.fakes import app

NEVER_READY = {"readiness": {"log_line": "ready"}}


class DesiredStateTests(SupervisedTestCase):
    """What was started is started again by the next daemon, without a save step."""

    def test_what_runs_runs_again(self) -> None:
        self.succeeds(self.daemon.start(instances=2, args=["x"]))
        self.succeeds(self.daemon.start("worker"))
        self.daemon.children.last.exit(1)
        self.daemon.pass_time()
        before = self.daemon.supervisor.select(None)
        facts = [(each.id, each.name, each.instance, each.restarts, each.created_at) for each in before]
        self.assertEqual([each.restarts for each in before], [0, 0, 1])
        daemon = self.next_daemon()
        after = daemon.supervisor.select(None)
        self.assertEqual([(each.id, each.name, each.instance, each.restarts, each.created_at) for each in after], facts)
        self.assertEqual(set(daemon.statuses().values()), {"online"})
        self.assertEqual(daemon.children.all[0].argv, ["/bin/sh", "x"])

    def test_what_is_stopped_stays_so(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("stop", "web"))
        self.assertEqual(self.next_daemon().statuses(), {"web": "stopped"})
        self.succeeds(self.daemon.do("restart", "web"))
        self.assertEqual(self.next_daemon().statuses(), {"web": "online"})

    def test_what_errored_is_tried_again(self) -> None:
        self.succeeds(self.daemon.start(max_restarts=0))
        self.daemon.children.last.exit(1)
        self.assertEqual(self.daemon.statuses(), {"web": "errored"})
        self.assertEqual(self.next_daemon().statuses(), {"web": "online"})

    def test_what_waits_for_its_next_attempt(self) -> None:
        self.succeeds(self.daemon.start(restart_delay="1h"))
        self.daemon.children.last.exit(1)
        self.assertEqual(self.next_daemon().statuses(), {"web": "online"})

    def test_a_one_shot_that_ended_is_not_run_again(self) -> None:
        self.succeeds(self.daemon.start(autorestart=False))
        self.daemon.children.last.exit(0)
        self.assertEqual(self.next_daemon().statuses(), {"web": "stopped"})

    def test_a_one_shot_that_was_interrupted_is(self) -> None:
        self.succeeds(self.daemon.start(autorestart=False))
        self.assertEqual(self.next_daemon().statuses(), {"web": "online"})

    def test_what_was_deleted_is_gone(self) -> None:
        """[P2]: and so is its number."""
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.start("worker"))
        self.succeeds(self.daemon.do("delete", "worker"))
        self.assertEqual(self.next_daemon().statuses(), {"web": "online"})
        self.succeeds(self.daemon.start("worker"))
        self.assertEqual([each.id for each in self.daemon.supervisor.select(None)], [0, 2])

    def test_a_reload_is_kept(self) -> None:
        self.succeeds(self.daemon.start())
        self.succeeds(self.daemon.do("reload", "web", config={"script": "/bin/sh", "args": ["new"]}))
        self.next_daemon()
        self.assertEqual(self.daemon.children.last.argv, ["/bin/sh", "new"])
        self.assertEqual(self.daemon.process().restarts, 1)

    def test_killed_while_an_app_changed(self) -> None:
        """Whichever set of processes the app had half become, the next daemon runs the one that is declared."""
        self.succeeds(self.daemon.start())
        self.daemon.children.stubborn = True
        self.daemon.do("scale", "web", instances=2)
        self.assertEqual(len(self.daemon.store.processes()), 3)
        self.daemon.close()
        self.daemon = Supervised(self.state)
        self.daemon.supervisor.load()
        self.daemon.supervisor.start()
        self.daemon.pass_time()
        self.assertEqual(self.daemon.statuses(), {"web-0": "online", "web-1": "online"})


class ConfigureTests(SupervisedTestCase):
    """An ecosystem file's apps win over kept ones, and others stay."""

    def test_new(self) -> None:
        daemon = self.next_daemon(app(), app("idle", autostart=False))
        self.assertEqual(daemon.statuses(), {"web": "online", "idle": "stopped"})
        self.succeeds(daemon.do("start", "idle"))
        self.assertEqual(self.next_daemon(app(), app("idle", autostart=False)).statuses()["idle"], "online")

    def test_others_stay(self) -> None:
        self.succeeds(self.daemon.start("mine"))
        self.assertEqual(self.next_daemon(app()).statuses(), {"mine": "online", "web": "online"})
        self.assertEqual(self.daemon.process("mine").id, 0)

    def test_wins(self) -> None:
        self.succeeds(self.daemon.start())
        daemon = self.next_daemon(app(args=["new"]))
        self.assertEqual((daemon.children.last.argv, daemon.process().id), (["/bin/sh", "new"], 0))
        self.assertEqual(daemon.supervisor.apps["web"].source, "/apps.yaml")

    def test_what_is_stopped_stays_so(self) -> None:
        self.next_daemon(app())
        self.succeeds(self.daemon.do("stop", "web"))
        daemon = self.next_daemon(app(args=["new"], instances=1))
        self.assertEqual((daemon.statuses(), daemon.process().spec.args), ({"web": "stopped"}, ["new"]))

    def test_a_one_shot_is_not_run_again(self) -> None:
        self.next_daemon(app(autorestart=False))
        self.daemon.children.last.exit(0)
        self.assertEqual(self.next_daemon(app(autorestart=False)).statuses(), {"web": "stopped"})

    def test_what_errored_is_tried_again(self) -> None:
        self.next_daemon(app(max_restarts=0))
        self.daemon.children.last.exit(1)
        self.assertEqual(self.next_daemon(app(max_restarts=0)).statuses(), {"web": "online"})

    def test_another_count(self) -> None:
        """Numbers stay with names; new instances do as the others do."""
        self.next_daemon(app(instances=2))
        daemon = self.next_daemon(app(instances=3))
        self.assertEqual(daemon.statuses(), dict.fromkeys(("web-0", "web-1", "web-2"), "online"))
        self.succeeds(daemon.do("stop", "web"))
        daemon = self.next_daemon(app(instances=4))
        self.assertEqual(set(daemon.statuses().values()), {"stopped"})
        daemon = self.next_daemon(app(instances=1))
        self.assertEqual(daemon.statuses(), {"web": "stopped"})
        self.assertEqual([each.name for each in daemon.store.processes()], ["web"])

    def test_refused(self) -> None:
        self.succeeds(self.daemon.start("web-1"))
        with self.assertRaises(ProcessAlreadyExists):
            self.daemon.supervisor.configure([app(instances=2)], "/apps.yaml")


class CheckTests(SupervisedTestCase):
    """What stands against an app."""

    def assert_refused(self, kind: type[PMDaemonError], words: str, spec: AppSpec) -> None:
        error = self.assertRaises(kind, self.daemon.supervisor.check, spec)
        self.assertIn(words, error.message)

    def test_names(self) -> None:
        """[P3]: an app's name and those of its processes are of one kind."""
        self.succeeds(self.daemon.start(instances=2))
        self.assert_refused(ProcessAlreadyExists, "'web'", app("web"))
        self.assert_refused(ProcessAlreadyExists, "'web-1'", app("web-1"))
        self.succeeds(self.daemon.start("app-1"))
        self.assert_refused(ProcessAlreadyExists, "'app-1'", app("app", instances=2))

    def test_logs(self) -> None:
        self.succeeds(self.daemon.start(out_file="/nowhere/out.log"))
        self.assert_refused(InvalidConfiguration, "already the log of 'web'", app("other", log_file="/nowhere/out.log"))

    def test_limit(self) -> None:
        self.patch(supervisor, "MAX_PROCESSES", 4)
        self.succeeds(self.daemon.start(instances=3))
        self.fails(self.daemon.start("other", instances=2), "LIMIT_EXCEEDED", "at most 4")
        self.fails(self.daemon.do("scale", "web", instances=5), "LIMIT_EXCEEDED", "at most 4")
        self.succeeds(self.daemon.do("scale", "web", instances=4))
        self.assertRaises(LimitExceeded, self.daemon.supervisor.check, app("other"))

    def test_instances_max(self) -> None:
        self.succeeds(self.daemon.start(instances="max"))
        self.assertEqual(len(self.daemon.children.all), self.cores)


class StopTests(SupervisedTestCase):
    """The end of the daemon."""

    def stop(self) -> Any:
        return self.daemon.supervisor.stop()

    def assert_ends(self, done: Any, within: float) -> None:
        self.daemon.pass_time(within)
        self.successResultOf(done)
        self.assertEqual((self.daemon.children.alive, self.daemon.timers()), ([], []))

    def test_all_at_once(self) -> None:
        """Highest number first, and in the time of the slowest, not of all together."""
        self.succeeds(self.daemon.start(instances=3, kill_timeout="2s"))
        self.daemon.children.stubborn = True
        told = self.daemon.told
        told.clear()
        done = self.stop()
        self.assertEqual([event.id for event in told.events], [2, 1, 0])
        self.daemon.pass_time(1.9)
        self.assertNoResult(done)
        self.assert_ends(done, 0.2)
        self.assertEqual(told.details("stopped")["reason"], "shutdown")

    def test_nothing_runs(self) -> None:
        self.successResultOf(self.stop())

    def test_in_every_state(self) -> None:
        """Whatever a process is about: starting, being restarted, in back-off, stopping, errored."""
        self.daemon.children.dying = 0.5
        self.daemon.start("starting", **NEVER_READY)
        for name, fields in (("restarting", {}), ("waiting", {"restart_delay": 1}), ("stopping", {}), ("failing", {})):
            self.succeeds(self.daemon.start(name, **fields), within=1.0)
        self.daemon.start("errored", max_restarts=0)
        self.daemon.children.last.exit(1)
        self.daemon.do("restart", "restarting")
        self.daemon.do("stop", "stopping")
        self.daemon.children.of(self.daemon.process("waiting"))[0].exit(1)
        self.daemon.process("failing").fail("memory_limit", "too much")
        self.assert_ends(self.stop(), 0.5)
        self.daemon.pass_time(100.0)
        self.assertEqual(set(self.daemon.statuses().values()), {"stopped", "errored"})

    def test_orders_that_are_pending(self) -> None:
        """[R3]: each is answered, and none of them starts a child again."""
        self.succeeds(self.daemon.start(instances=2, port="4000-4001"))
        self.daemon.children.dying = 0.5
        pending = [
            self.daemon.do("reload", "web", config={"script": "/bin/sh", "instances": 2, "port": "4000-4001"}),
            self.daemon.do("scale", "web", instances=1),
            self.daemon.do("stop", "web-1"),
            self.daemon.do("start", "web-1"),
            self.daemon.start("new", **NEVER_READY),
        ]
        self.daemon.pass_time(0.1)
        done = self.stop()
        pending.append(self.daemon.do("restart", "new"))
        for each in pending:
            self.fails(each, "OPERATION_FAILED", "the daemon is stopping", within=0)
        self.assert_ends(done, 1.0)
        self.daemon.pass_time(100.0)
        self.assertEqual(self.daemon.children.alive, [])

    def test_while_a_reload_rolls(self) -> None:
        """Both children end; the old configuration is kept, and what was wanted is still."""
        for moment in (0.0, 0.5, 1.05):
            self.daemon.children.dying = 0.1
            self.succeeds(self.daemon.start(args=["old"]))
            reload = self.daemon.do("reload", "web", config={"script": "/bin/sh", "args": ["new"]})
            self.daemon.pass_time(moment)
            self.assertEqual(len(self.daemon.children.alive), 2)
            self.assert_ends(self.stop(), 0.2)
            self.fails(reload, "OPERATION_FAILED", "the daemon is stopping", within=0)
            daemon = self.next_daemon()
            self.assertEqual((daemon.statuses(), daemon.children.last.argv[1:]), ({"web": "online"}, ["old"]))
            self.succeeds(daemon.do("delete", "web"))

    def test_while_an_app_changes_its_names(self) -> None:
        self.succeeds(self.daemon.start())
        scale = self.daemon.do("scale", "web", instances=2)
        self.daemon.children.stubborn = True
        self.assert_ends(self.stop(), 2.0)
        self.successResultOf(scale)
        self.assertEqual(self.next_daemon().statuses(), {"web-0": "online", "web-1": "online"})
