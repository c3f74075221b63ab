"""What is said of processes and of the machine [P1], [P5], [R9], [R10], [E6], [E7]."""

import os

import msgspec

import pmdaemon
from pmdaemon.core.selection import Selection
from pmdaemon.daemon.describe import PAGE, page
from tests.web.rig import WorldCase

FIGURES = (
    *("id", "name", "cpu", "memory", "uptime", "restarts"),
    *("status", "pid", "port", "app", "instance", "namespace", "health"),
)
OBJECT = (*FIGURES, "exit_code", "exit_signal", "created_at", "started_at")


class ProcessTests(WorldCase):
    def test_a_process_object(self) -> None:
        """[P1]: flat, and the same keys whatever its state."""
        process = self.world.start(namespace="blue")
        self.world.cpu[process.pid or 0] = 1.0
        self.world.pass_time(7.89)
        told = msgspec.to_builtins(self.world.describer.processes([process])[0])
        self.assert_keys(told, *OBJECT)
        self.assertEqual(
            told,
            {
                "id": 0,
                "name": "web",
                "cpu": 12.7,
                "memory": 1 << 20,
                "uptime": 7890,
                "restarts": 0,
                "status": "online",
                "pid": 1001,
                "port": None,
                "app": "web",
                "instance": 0,
                "namespace": "blue",
                "health": "unknown",
                "exit_code": None,
                "exit_signal": None,
                "created_at": "2023-11-14T22:13:20.000Z",
                "started_at": "2023-11-14T22:13:20.000Z",
            },
        )

    def test_one_that_has_ended(self) -> None:
        process = self.world.start(autorestart=False)
        self.world.children.last.exit(3)
        self.world.pass_time()
        told = msgspec.to_builtins(self.world.describer.processes([process])[0])
        self.assert_keys(told, *OBJECT)
        self.assertEqual((told["status"], told["exit_code"], told["started_at"]), ("errored", 3, None))
        self.assertEqual((told["cpu"], told["memory"], told["uptime"], told["pid"]), (0.0, 0, 0, None))

    def test_configuration_and_logs(self) -> None:
        """[R9]: values of the environment never leave."""
        process = self.world.start(env={"TOKEN": "hunter2", "A": 1}, args=["--password=hunter2"])
        told = msgspec.to_builtins(self.world.describer.processes([process], whole=True)[0])
        self.assert_keys(told, *OBJECT, "config", "logs")
        self.assertEqual(told["config"]["env"], ["A", "TOKEN"])
        self.assertEqual(
            told["logs"],
            {"stdout": f"{self.home}/logs/web-out.log", "stderr": f"{self.home}/logs/web-err.log", "both": None},
        )
        self.assertNotIn("hunter2", str(told))

    def test_a_large_configuration(self) -> None:
        """[E6]"""
        process = self.world.start(args=["x" * 60_000] * 5, env={f"NAME_{number}": "y" for number in range(900)})
        config = self.world.describer.processes([process], whole=True)[0].config
        self.assertEqual((config["truncated"], config["script"], "args" in config), (True, "/bin/sh", False))
        self.assertLess(len(msgspec.json.encode(config)), 128 * 1024)

    def test_metrics(self) -> None:
        """[P4], [P5]"""
        one, two = self.world.start("one"), self.world.start("two")
        self.world.pass_time(10)
        self.world.cpu = {one.pid or 0: 5.0, two.pid or 0: 1.0}
        before = self.world.sampler.sample()
        self.world.pass_time(2)
        self.world.cpu[one.pid or 0] = 5.5
        now = self.world.sampler.sample()
        metrics = self.world.describer.metrics

        def told(selection: Selection, since: object = before) -> list[tuple[str, float]]:
            return [(each.name, each.cpu) for each in metrics(selection, now, since).processes]

        self.assertEqual(told(Selection(None)), [("one", 25.0), ("two", 0.0)])
        self.assertEqual(told(Selection(None), None), [("one", 45.8), ("two", 8.3)])
        self.assertEqual(told(Selection(["t*"])), [("two", 0.0)])
        self.assert_keys(msgspec.to_builtins(metrics(Selection(None), now, None).processes[0]), *FIGURES)


class SystemTests(WorldCase):
    def test_machine_and_daemon(self) -> None:
        """[R10]"""
        self.world.connect()
        self.world.pass_time(1.5)
        told = msgspec.to_builtins(self.world.describer.system(0.01234))
        self.assert_keys(told, "cpu", "memory", "load", "hostname", "platform", "uptime", "daemon")
        self.assertEqual(told["cpu"], {"usage": 25.0, "cores": 2})
        self.assertEqual(told["memory"], {"total": 1000, "used": 250, "available": 750, "usage_percent": 25.0})
        self.assertEqual(told["load"], {"one": 0.5, "five": 0.25, "fifteen": 0.12})
        daemon = told["daemon"]
        self.assert_keys(daemon, "version", "pid", "uptime", "memory", "clients", "loop_lag", "trouble")
        self.assertEqual((daemon["version"], daemon["pid"]), (pmdaemon.__version__, os.getpid()))
        self.assertEqual((daemon["uptime"], daemon["clients"], daemon["loop_lag"]), (1500, 1, 12.3))
        self.assertGreater(daemon["memory"], 1_000_000)


class PageTests(WorldCase):
    def test_as_many_as_fit(self) -> None:
        """[E6]"""
        self.world.declare("n" * 60, instances=1000, args=["x" * 300])
        objects = self.world.describer.processes(self.world.supervisor.select(None), whole=True)
        ids, cursor = [], 0
        while cursor is not None:
            some, following = page(objects[cursor:])
            self.assertLessEqual(len(msgspec.json.encode(some)), PAGE + 2)
            self.assertTrue(following is None or following == cursor + len(some))
            ids += [each.id for each in some]
            cursor = following
        self.assertEqual(ids, list(range(1000)))
        beside = len(page(objects, beside=PAGE // 2)[0])
        self.assertTrue(0 < beside < len(page(objects)[0]) * 0.6)

    def test_one_at_least(self) -> None:
        self.world.start()
        objects = self.world.describer.processes(self.world.supervisor.select(None))
        self.assertEqual(page(objects, beside=10 * PAGE), (objects, None))
        self.assertEqual(page([]), ([], None))
