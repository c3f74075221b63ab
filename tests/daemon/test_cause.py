"""Who ordered what happened, or which rule led to it: told with the event [R11]."""

from typing import Any

from pmdaemon.core.access import Caller
from tests.web.rig import WorldCase

CHECK = {"check_type": "http", "url": "http://localhost:1/", "restart": True}


class CauseTests(WorldCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.world.connect()

    def order(self, client: str, action: str, process: str = "web", **more: Any) -> None:
        """Have somebody give a command; nobody waits for its end."""
        self.peer.protocol.visit.caller = Caller(name=client, kind="token", scope="start")
        reply = self.peer.ask("command", {"action": action, "process": process, "wait": False, **more})
        self.assertEqual(reply["type"], "command_result", reply)

    def causes(self) -> list[tuple[str, Any]]:
        """Of each event so far, name and cause: client and action, or the rule."""
        events = self.peer.ask("get_events", {"limit": 1000})["data"]["events"]
        told = [each["data"] for each in events if each["type"] == "process_event"]
        return [(each["event"], each["details"].get("cause")) for each in told]

    def test_commands(self) -> None:
        self.order("ann", "start", config={"script": "/bin/sh"})
        self.order("bob", "restart")
        self.order("ann", "scale", instances=2)
        self.order("eve", "delete", process="all")
        self.world.pass_time(10)
        names = [(event, cause["client"], cause["action"]) for event, cause in self.causes()]
        self.assertEqual(
            names[:3], [("created", "ann", "start"), ("started", "ann", "start"), ("restarted", "bob", "restart")]
        )
        rest = names[3:]
        self.assertIn(("scaled", "ann", "scale"), rest)
        self.assertEqual(rest[-1], ("deleted", "eve", "delete"))
        self.assertEqual({who for event, who, _ in rest if event == "stopped"} - {"ann", "eve"}, set())

    def test_each_order_is_its_own_givers(self) -> None:
        """Though the second one is carried out in the turn in which the first one ends."""
        self.order("ann", "start", config={"script": "/bin/sh"})
        self.world.children.stubborn = True
        self.order("ann", "stop")
        self.order("bob", "start")
        self.assertEqual(len(self.causes()), 2)
        self.world.pass_time(10)
        self.assertEqual(
            self.causes()[2:],
            [
                ("stopped", {"client": "ann", "action": "stop"}),
                ("started", {"client": "bob", "action": "start"}),
            ],
        )

    def test_a_reload(self) -> None:
        self.order("ann", "start", config={"script": "/bin/sh"})
        self.order("bob", "reload", config={"script": "/bin/sh", "namespace": "other"})
        self.world.pass_time(10)
        self.assertEqual(self.causes()[-1], ("reloaded", {"client": "bob", "action": "reload"}))

    def test_what_nobody_ordered(self) -> None:
        self.order("ann", "start", config={"script": "/bin/sh", "max_restarts": 1})
        for signum in (None, 11):
            self.world.children.last.exit(0 if signum else 3, signum)
            self.world.pass_time(10)
        self.assertEqual(
            self.causes()[2:],
            [
                ("crashed", None),
                ("restarted", {"rule": "exit code 3"}),
                ("crashed", None),
                ("gave_up", {"rule": "signal SIGSEGV"}),
            ],
        )

    def test_a_health_check(self) -> None:
        self.order("ann", "start", config={"script": "/bin/sh", "readiness": "exec", "health_check": CHECK})
        self.world.supervisor.processes[0].health_changed("healthy", "unhealthy", {}, 3, "no")
        self.world.pass_time(10)
        self.assertEqual(
            self.causes()[2:], [("health_check_failed", None), ("restarted", {"rule": "3 checks failed in a row"})]
        )

    def test_the_daemon_itself(self) -> None:
        """A start that goes with the daemon's own has no cause but that."""
        self.order("ann", "start", config={"script": "/bin/sh"})
        self.world = self.restart()
        self.peer = self.world.connect()
        self.assertEqual(self.causes()[2:], [("stopped", None), ("started", None)])
