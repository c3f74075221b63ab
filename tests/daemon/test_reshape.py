"""Apps that get more or fewer processes, or other ones: scale, reload with another count, replace [P3], [R4], [R8]."""

import os
from typing import Any

from pmdaemon.daemon.launch import SpawnError
from tests.daemon.supervised import SupervisedTestCase
from tests.fakes import app


class ReshapeTestCase(SupervisedTestCase):
    def running(self, name: str = "web", **config: Any) -> None:
        self.succeeds(self.daemon.start(name, **config))
        self.daemon.told.clear()

    def replace(self, **config: Any) -> Any:
        return self.daemon.do("start", "web", config={"script": "/bin/sh", **config}, replace=True)

    def assert_online(self, *names: str) -> None:
        """These are all there are, each with its child, known so to the store."""
        self.assertEqual(self.daemon.statuses(), dict.fromkeys(names, "online"))
        alive = sorted(child.pid for child in self.daemon.children.alive)
        self.assertEqual(alive, sorted(self.daemon.pids().values()))
        self.assertEqual(sorted(kept.name for kept in self.daemon.store.processes()), sorted(names))


class ScaleTests(ReshapeTestCase):
    def scale(self, instances: int) -> Any:
        return self.daemon.do("scale", "web", instances=instances)

    def test_more_and_fewer(self) -> None:
        """Those that stay are left alone."""
        self.running(instances=2)
        self.succeeds(self.scale(4))
        self.assert_online("web-0", "web-1", "web-2", "web-3")
        self.assertEqual(self.daemon.told.details("scaled"), {"instances": 4, "previous": 2})
        self.succeeds(self.scale(2))
        self.assert_online("web-0", "web-1")
        self.assertEqual(self.daemon.pids(), {"web-0": 1001, "web-1": 1002})
        self.assertEqual(self.daemon.process("web-0").spec.instances, 2)

    def test_to_several_and_back(self) -> None:
        """All have new names then; the old one goes when the new ones are up."""
        self.running()
        done = self.scale(2)
        self.assertEqual(set(self.daemon.statuses()), {"web", "web-0", "web-1"})
        self.succeeds(done)
        self.assert_online("web-0", "web-1")
        self.succeeds(self.scale(1))
        self.assert_online("web")

    def test_to_several_that_fail(self) -> None:
        self.running()
        self.daemon.children.refusal = SpawnError("too many processes", 11)
        self.fails(self.scale(2), "PROCESS_START_FAILED", "too many processes")
        self.daemon.children.refusal = None
        self.assert_online("web")
        self.assertEqual(self.daemon.supervisor.apps["web"].spec.instances, 1)

    def test_the_same_ports(self) -> None:
        """The old one has to go first; if the new ones fail it comes back."""
        self.running(port="4000-4003")
        self.succeeds(self.scale(2))
        self.assert_online("web-0", "web-1")
        self.assertEqual([self.daemon.ports.owner_of(port) for port in (4000, 4001)], ["web-0", "web-1"])
        self.succeeds(self.scale(1))
        self.assert_online("web")
        self.daemon.taken.add(4001)
        self.fails(self.scale(2), "PORT_IN_USE", "port 4001")
        self.assert_online("web")
        self.assertEqual(self.daemon.ports.owner_of(4000), "web")

    def test_a_stop_while_the_names_change(self) -> None:
        """It is not undone by the scale's own undoing."""
        for port in (None, "4000-4003"):
            self.running(port=port, readiness="exec")
            self.daemon.supervisor.apps["web"].spec = app(port=port, readiness={"log_line": "ready"})
            done = self.scale(2)
            self.daemon.pass_time(0.1)
            self.assertEqual(self.daemon.statuses()["web-1"], "starting")
            self.succeeds(self.daemon.do("stop", "web"))
            self.fails(done, "OPERATION_FAILED", "superseded by stop")
            self.assertEqual((self.daemon.children.alive, self.daemon.statuses()), ([], {"web": "stopped"}))
            self.succeeds(self.daemon.do("delete", "web"))

    def test_more_than_there_are_ports(self) -> None:
        self.running(instances=2, port="4000-4001")
        self.fails(self.scale(3), "INVALID_CONFIGURATION", "port", within=0)
        self.assert_online("web-0", "web-1")

    def test_what_is_stopped(self) -> None:
        self.running(instances=2)
        self.succeeds(self.daemon.do("stop", "web"))
        self.succeeds(self.scale(3))
        self.assertEqual(self.daemon.statuses(), dict.fromkeys(("web-0", "web-1", "web-2"), "stopped"))

    def test_several_at_once(self) -> None:
        """One after another; the last one counts."""
        self.running(instances=2)
        self.daemon.children.dying = 0.5
        changes = [self.scale(4), self.scale(1), self.scale(3)]
        for each in changes:
            self.succeeds(each)
        self.assert_online("web-0", "web-1", "web-2")

    def test_an_instance_that_was_deleted(self) -> None:
        self.running(instances=2)
        self.succeeds(self.daemon.do("delete", "web-0"))
        self.succeeds(self.scale(2))
        self.assert_online("web-0", "web-1")

    def test_no_app(self) -> None:
        self.running(instances=2)
        self.fails(self.daemon.do("scale", "web-0", instances=2), "INVALID_MESSAGE", "not an app")
        self.fails(self.daemon.do("scale", "other", instances=2), "PROCESS_NOT_FOUND", "'other'")

    def test_a_name_in_the_way(self) -> None:
        self.running()
        self.running("web-1")
        self.fails(self.scale(2), "PROCESS_ALREADY_EXISTS", "'web-1'")
        self.assert_online("web", "web-1")

    def test_stop_while_it_grows(self) -> None:
        """A new one that is stopped stays so; what waits for it is told."""
        self.running(instances=2)
        done = self.daemon.do(
            "reload", "web", config={"script": "/bin/sh", "instances": 3, "readiness": {"log_line": "ready"}}
        )
        for name in ("web-0", "web-1"):
            self.daemon.pass_time(0.1)
            self.daemon.children.last.protocol.owner.ready()
            self.daemon.pass_time(1.0)
            self.assertIn(name, self.daemon.statuses())
        self.assertEqual(self.daemon.statuses()["web-2"], "starting")
        self.succeeds(self.daemon.do("stop", "web"))
        self.fails(done, "OPERATION_FAILED", "cannot start 'web-2': superseded by stop")
        self.assertEqual(self.daemon.children.alive, [])


class ReloadTests(ReshapeTestCase):
    def reload(self, **config: Any) -> Any:
        return self.daemon.do("reload", "web", config={"script": "/bin/sh", **config})

    def test_another_count(self) -> None:
        """Those that stay are replaced one by one, then the others come or go."""
        self.running(instances=2)
        self.succeeds(self.reload(instances=3, args=["new"]))
        self.assert_online("web-0", "web-1", "web-2")
        self.assertEqual({tuple(child.argv[1:]) for child in self.daemon.children.alive}, {("new",)})
        self.assertEqual(self.daemon.process("web-0").id, 0)
        self.succeeds(self.reload(instances=2))
        self.assert_online("web-0", "web-1")

    def test_another_count_and_a_bad_configuration(self) -> None:
        self.running(instances=2)
        done = self.reload(instances=3, cwd="/nowhere/at/all")
        self.fails(done, "PROCESS_START_FAILED", "does not exist")
        self.assert_online("web-0", "web-1")
        self.assertEqual(self.daemon.pids(), {"web-0": 1001, "web-1": 1002})

    def test_to_several(self) -> None:
        self.running()
        self.fails(self.reload(instances=2, cwd="/nowhere/at/all"), "PROCESS_START_FAILED", "does not exist")
        self.assert_online("web")
        self.succeeds(self.reload(instances=2))
        self.assert_online("web-0", "web-1")

    def test_a_part(self) -> None:
        self.running(instances=2)
        done = self.daemon.do("reload", "web-1", config={"script": "/bin/sh", "args": ["new"], "instances": 2})
        self.fails(done, "INVALID_MESSAGE", "a part of 'web'", within=0)
        self.succeeds(self.daemon.do("reload", "web-1"))
        self.assertEqual(self.daemon.pids(), {"web-0": 1001, "web-1": 1003})

    def test_then_scale(self) -> None:
        """Neither undoes what the other did."""
        self.running(instances=2)
        reload, scale = self.reload(instances=2, args=["new"]), self.daemon.do("scale", "web", instances=3)
        self.succeeds(reload)
        self.succeeds(scale)
        self.assert_online("web-0", "web-1", "web-2")
        self.assertEqual({tuple(child.argv[1:]) for child in self.daemon.children.alive}, {("new",)})
        self.assertEqual(self.daemon.supervisor.apps["web"].spec.instances, 3)

    def test_all_of_several_apps(self) -> None:
        self.running()
        self.running("worker", instances=2)
        self.succeeds(self.daemon.do("reload", "all"))
        self.assertEqual({each.restarts for each in self.daemon.supervisor.processes.values()}, {1})
        done = self.daemon.do("reload", "all", config={"script": "/bin/sh"})
        self.fails(done, "INVALID_MESSAGE", "2 apps with one config")

    def test_the_file(self) -> None:
        """[R6]: without a config the file is read again; nothing begins where one of several cannot be read."""
        path = os.path.abspath(self.mktemp()) + ".yaml"
        self.running("other")
        with open(path, "w") as file:
            file.write("apps: [{name: web, script: /bin/sh}]")
        self.succeeds(self.daemon.do("start", "web", file=path))
        os.unlink(path)
        self.fails(self.daemon.do("reload", "all"), "INVALID_CONFIGURATION", "No such file", within=0)
        self.assertEqual(len(self.daemon.children.all), 2)
        with open(path, "w") as file:
            file.write("apps: [{name: web, script: /bin/sh, args: [new]}]")
        self.succeeds(self.daemon.do("reload", "web"))
        self.assertEqual(self.daemon.children.last.argv, ["/bin/sh", "new"])
        with open(path, "w") as file:
            file.write("apps: [{name: another, script: /bin/sh}]")
        self.fails(self.daemon.do("reload", "web"), "INVALID_CONFIGURATION", "has no app of that name")
        self.succeeds(self.daemon.do("start", "another", file=path))
        self.fails(self.daemon.do("start", "web", file=path, replace=True), "INVALID_CONFIGURATION", "has no app")
        self.fails(self.daemon.do("start", "more", file="a.yaml"), "INVALID_MESSAGE", "not an absolute path")
        both = self.daemon.do("start", "more", file=path, config={"script": "/bin/sh"})
        self.fails(both, "INVALID_MESSAGE", "config is given too")


class ReplaceTests(ReshapeTestCase):
    """[R4]: ``replace: true``"""

    def test_replace(self) -> None:
        self.running(instances=2)
        self.succeeds(self.replace(instances=2, args=["new"]))
        self.assert_online("web-0", "web-1")
        self.assertEqual({tuple(child.argv[1:]) for child in self.daemon.children.alive}, {("new",)})
        self.assertEqual([each.id for each in self.daemon.supervisor.select(None)], [0, 1])

    def test_what_is_stopped_is_started(self) -> None:
        for instances in (1, 2):
            self.running()
            self.succeeds(self.daemon.do("stop", "web"))
            self.succeeds(self.replace(instances=instances, args=["new"]))
            self.assertEqual(len(self.daemon.children.alive), instances)
            self.succeeds(self.daemon.do("delete", "web"))

    def test_not_taken_for_a_restart(self) -> None:
        """A restart that is pending is not the same."""
        self.running()
        self.daemon.children.dying = 0.5
        restart, replace = self.daemon.do("restart", "web"), self.replace(args=["new"])
        self.succeeds(restart)
        self.succeeds(replace)
        self.assertEqual(self.daemon.children.last.argv, ["/bin/sh", "new"])
        self.assert_online("web")

    def test_more_fewer_and_others(self) -> None:
        self.running()
        for instances, names in ((3, ("web-0", "web-1", "web-2")), (2, ("web-0", "web-1")), (1, ("web",))):
            self.succeeds(self.replace(instances=instances))
            self.assert_online(*names)

    def test_the_same_ports(self) -> None:
        self.running(port="4000-4001")
        self.succeeds(self.replace(port="4000-4001", instances=2))
        self.assert_online("web-0", "web-1")

    def test_bad(self) -> None:
        """What cannot be is refused before anything is done."""
        self.running(instances=2)
        self.running("web-2")
        self.fails(self.replace(instances=3), "PROCESS_ALREADY_EXISTS", "'web-2'", within=0)
        self.fails(self.replace(scirpt="x"), "INVALID_CONFIGURATION", "scirpt", within=0)
        self.assert_online("web-0", "web-1", "web-2")

    def test_fails(self) -> None:
        self.running()
        self.fails(self.replace(cwd="/nowhere/at/all"), "PROCESS_START_FAILED", "does not exist")
        self.assertEqual(self.daemon.statuses(), {"web": "errored"})
        self.succeeds(self.replace())
        self.assert_online("web")

    def test_delete_meanwhile(self) -> None:
        self.running()
        self.daemon.children.dying = 0.5
        replace = self.replace(instances=3, readiness={"log_line": "ready"})
        delete = self.daemon.do("delete", "web")
        self.succeeds(delete)
        self.fails(replace, "OPERATION_FAILED", "superseded by delete")
        self.assertEqual((self.daemon.children.alive, self.daemon.statuses()), ([], {}))
        self.assertEqual((self.daemon.store.apps(), self.daemon.store.processes()), ([], []))
