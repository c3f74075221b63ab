"""From a request to its answer: when it comes, and what it says where something went wrong [R1], [R2], [R9], [E6]."""

import json

from pmdaemon.errors import PortInUse, ProcessStartFailed
from tests.web.rig import Message, Peer, WorldCase


class DispatchCase(WorldCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.world.connect()

    def command(self, action: str, process: str | int, **more: object) -> Message:
        return self.peer.ask("command", {"action": action, "process": process, **more})

    def begin(self, action: str, process: str | int, **more: object) -> Peer:
        """A command on a connection of its own, whose answer may be late."""
        peer = self.world.connect()
        peer.send("command", {"action": action, "process": process, **more})
        self.world.pass_time()
        return peer


class InfoTests(DispatchCase):
    def info(self, **data: object) -> Message:
        reply = self.peer.ask("get_info", data)
        self.assertEqual(reply["type"], "process_info")
        return reply["data"]

    def test_its_three_forms(self) -> None:
        """[R9]"""
        self.world.start("web")
        self.world.start("job", instances=2)
        for process in ("web", 0, "0"):
            self.assertEqual((self.info(process=process)["name"], self.info(process=process)["id"]), ("web", 0))
        self.assertEqual(self.info(process="job-1")["instance"], 1)
        self.assertEqual([each["name"] for each in self.info(process="job")["instances"]], ["job-0", "job-1"])
        for selector in ({}, {"process": "all"}, {"process": "*"}, {"process": "ns:default"}):
            self.assertEqual([each["id"] for each in self.info(**selector)["processes"]], [0, 1, 2])
        self.assertEqual([each["name"] for each in self.info(process="w*")["processes"]], ["web"])

    def test_nobody(self) -> None:
        self.assertEqual(self.info(), {"processes": []})
        self.world.start("web-api")
        error = self.peer.ask("get_info", {"process": "web-app"})["data"]
        self.assertEqual((error["code"], error["details"]), ("PROCESS_NOT_FOUND", {"matches": ["web-api"]}))
        self.assertEqual(error["hint"], "did you mean web-api?")
        self.assertEqual(error["request"], {"type": "get_info", "action": None, "process": "web-app"})

    def test_from_a_cursor_on(self) -> None:
        self.world.start("job", instances=3)
        self.assertEqual([each["id"] for each in self.info(process="job", cursor=1)["instances"]], [1, 2])
        self.assertEqual(self.info(cursor=10**30), {"processes": []})

    def test_the_machine(self) -> None:
        """[R10]"""
        self.assertEqual(self.peer.ask("get_system")["type"], "system_info")
        self.assertEqual(self.peer.ask("ping")["data"], {})


class CommandTests(DispatchCase):
    def test_done(self) -> None:
        """[R1]: as it is then."""
        self.world.start("web")
        reply = self.command("restart", "web")
        self.assertEqual(reply["type"], "command_result")
        self.assert_keys(reply["data"], "action", "process", "success", "processes")
        (process,) = reply["data"].pop("processes")
        self.assertEqual(reply["data"], {"action": "restart", "process": "web", "success": True})
        self.assertEqual((process["status"], process["restarts"], process["pid"]), ("online", 1, 1002))

    def test_deleted_ones_as_they_were_last(self) -> None:
        """[R1]"""
        self.world.start("web")
        (process,) = self.command("delete", 0)["data"]["processes"]
        self.assertEqual((process["name"], process["status"], process["pid"]), ("web", "stopped", None))

    def test_not_waited_for(self) -> None:
        """[R1]"""
        self.world.start("web", kill_timeout=5000)
        self.world.children.stubborn = True
        (process,) = self.command("stop", "web", wait=False)["data"]["processes"]
        self.assertEqual(process["status"], "stopping")
        self.world.pass_time(10)
        self.assertEqual(self.peer.ask("get_info", {"process": "web"})["data"]["status"], "stopped")
        self.world.refusal = ProcessStartFailed("cannot start 'web': it is not there")
        self.assertEqual(self.command("start", "web", wait=False)["type"], "command_result")

    def test_too_late(self) -> None:
        """[R1]: it goes on."""
        self.world.start("web", kill_timeout=5000)
        self.world.children.stubborn = True
        peer = self.begin("stop", "web", timeout=1500)
        self.world.pass_time(1.4)
        self.assertEqual(peer.messages, [])
        self.world.pass_time(0.2)
        (error,) = peer.data("error")
        self.assertEqual((error["code"], error["details"]), ("TIMEOUT", {"timeout": 1500}))
        self.world.pass_time(5)
        self.assertEqual((peer.messages, self.world.supervisor.processes[0].status), ([], "stopped"))

    def test_a_minute_by_itself(self) -> None:
        """[R1]"""
        self.world.start("web", kill_timeout="1h")
        self.world.children.stubborn = True
        peer = self.begin("stop", "web")
        self.world.pass_time(59.9)
        self.assertEqual(peer.messages, [])
        self.world.pass_time(0.2)
        self.assertEqual(peer.data("error")[0]["code"], "TIMEOUT")

    def test_nothing_is_left_of_one_that_was_in_time(self) -> None:
        self.world.start("web")
        self.command("stop", "web")
        self.peer.lose()
        self.assertEqual(self.world.timers(), [])

    def test_while_the_daemon_stops(self) -> None:
        self.world.start("web")
        self.world.supervisor.stop()
        error = self.command("start", "web")["data"]
        self.assertEqual(
            (error["code"], error["message"]), ("OPERATION_FAILED", "cannot start: the daemon is stopping")
        )


class SeveralTests(DispatchCase):
    def test_those_that_run_already_do_not_matter_beside_others(self) -> None:
        self.world.start("a")
        self.world.start("b").stop()
        self.world.pass_time(1)
        self.assertEqual(self.command("start", "all")["type"], "command_result")
        error = self.command("start", "all")["data"]
        self.assertEqual(error["code"], "PROCESS_ALREADY_RUNNING")
        self.assertEqual([each["process"] for each in error["details"]["failed"]], ["a", "b"])
        self.assertEqual(self.command("start", "a")["data"]["details"], {})

    def test_the_first_one_speaks_for_all(self) -> None:
        """[R2]"""
        self.world.start("job", instances=3)
        self.command("stop", "job")
        self.world.refusal = PortInUse("cannot start 'job': port 80 is taken", hint="free it", details={"port": 80})
        error = self.command("start", "job")["data"]
        self.assertEqual((error["code"], error["hint"], error["details"]["port"]), ("PORT_IN_USE", "free it", 80))
        self.assertEqual(error["message"], "cannot start 3 of 3 processes: cannot start 'job': port 80 is taken")
        self.assertEqual(
            error["details"]["failed"][1],
            {"process": "job-1", "code": "PORT_IN_USE", "message": "cannot start 'job': port 80 is taken"},
        )

    def test_a_thousand_errors_are_one_message(self) -> None:
        """[E6], which `Peer` checks."""
        self.world.declare("job", instances=1000)
        self.world.refusal = ProcessStartFailed("cannot start it: " + "x" * 5000)
        error = self.command("start", "job")["data"]
        self.assertEqual((error["code"], len(error["details"]["failed"])), ("PROCESS_START_FAILED", 100))
        self.assertLess(len(json.dumps(error)), 100_000)

    def test_a_defect_in_one(self) -> None:
        self.world.declare("web")
        self.world.refusal = ZeroDivisionError()  # type: ignore[assignment]  # what no part of it should raise
        error = self.command("start", "web")["data"]
        self.assertEqual(error["code"], "INTERNAL_ERROR")
        self.assertNotIn("ZeroDivision", json.dumps(error))
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
