"""Children that an earlier daemon started: whose they are, what goes on, and what was missed is done."""

from pathlib import Path
from typing import Any

from pmdaemon.daemon.adoption import Adoption
from pmdaemon.daemon.kept import Keeping, Kept
from tests.daemon.fakelink import FakeLink, Message, about
from tests.daemon.supervised import Supervised, SupervisedTestCase
from tests.fakes import app


class AdoptionTests(SupervisedTestCase):
    def begin(self, name: str = "web", **config: Any) -> Message:
        """Start an app; what a keeper says of its child."""
        self.succeeds(self.daemon.start(name, **config))
        process = self.daemon.process(name)
        assert process.pid is not None and process.incarnation is not None
        return about(str(process.id), process.incarnation, process.pid)

    def crash(self, *kids: Message, specs: Any = ()) -> Supervised:
        """Kill the daemon; another one finds these children."""
        self.daemon.close()
        self.daemon = Supervised(self.state)
        self.daemon.supervisor.load()
        self.daemon.supervisor.configure(specs, "/apps.yaml")
        keeping = Keeping(
            self._link,  # type: ignore[arg-type]  # a fake
            grown=lambda path, end: None,
            as_of=lambda at, tell: tell(),
            pipes=Path("/nowhere"),
            total=None,
            other=lambda fact: None,
        )
        adoption = Adoption(self.daemon.supervisor, keeping, self.daemon.launcher, self.daemon.logs)  # type: ignore[arg-type]
        adoption.take_up(Kept.all_of({"kids": list(kids)}))
        self.daemon.supervisor.start()
        self.daemon.pass_time()
        return self.daemon

    def _link(self, fact: Any, again: Any) -> FakeLink:
        self.link = FakeLink(fact, again)
        return self.link

    def test_it_goes_on(self) -> None:
        kid = self.begin()
        daemon = self.crash(kid)
        process = daemon.process()
        self.assertEqual((process.status, process.pid, process.restarts), ("online", kid["pid"], 0))
        self.assertEqual(process.started_at, 5.0)
        self.assertEqual((daemon.told.story(), self.link.ops(), daemon.children.all), (["+adopted"], [], []))

    def test_it_crashed_meanwhile(self) -> None:
        kid = self.begin(restart_delay=0)
        daemon = self.crash({**about(kid["id"], kid["inc"], kid["pid"], status=7 << 8)})
        self.assertEqual(daemon.told.details("crashed")["exit_code"], 7)
        self.assertEqual((daemon.process().status, daemon.process().restarts), ("online", 1))
        self.assertEqual(self.link.ops(), [("ack", kid["id"], kid["inc"])])

    def test_it_ended_nobody_knows_how(self) -> None:
        kid = self.begin(autorestart=False)
        daemon = self.crash(about(kid["id"], kid["inc"], kid["pid"], status=None))
        details = daemon.told.details("crashed")
        self.assertEqual((details["exit_code"], details["exit_signal"]), (None, None))

    def test_its_end_was_dealt_with_before(self) -> None:
        """What was told and kept of an end is not told again, though the keeper never heard that."""
        kid = self.begin(restart_delay=1000)
        self.daemon.children.last.exit(7)
        self.daemon.pass_time()
        self.assertEqual(self.daemon.process().status, "restarting")
        daemon = self.crash(about(kid["id"], kid["inc"], kid["pid"], status=7 << 8))
        self.assertNotIn("+crashed", daemon.told.story())
        self.assertEqual(self.link.ops(), [("ack", kid["id"], kid["inc"])])

    def test_one_that_was_ordered_and_not_yet_known_to_run(self) -> None:
        self.daemon.children.birth = 1000.0
        self.daemon.start()
        self.daemon.pass_time()
        process = self.daemon.process()
        daemon = self.crash(about(str(process.id), process.incarnation or 0, 77))
        self.assertEqual((daemon.process().pid, daemon.children.all), (77, []))

    def test_a_stop_is_carried_through(self) -> None:
        kid = self.begin()
        self.daemon.children.stubborn = True
        self.daemon.do("stop", "web")
        self.daemon.pass_time(0.1)
        daemon = self.crash({**kid, "asked": 15})
        self.assertEqual((daemon.process().status, self.link.ops()), ("stopping", [("signal", kid["id"], kid["inc"])]))
        self.link.exit(kid["id"], kid["inc"], 15)
        self.link.gone(kid["id"], kid["inc"])
        daemon.pass_time()
        self.assertEqual((daemon.process().status, daemon.told.story()[-1]), ("stopped", "+stopped"))

    def test_a_restart_is_carried_through(self) -> None:
        kid = self.begin()
        self.daemon.children.stubborn = True
        self.daemon.do("restart", "web")
        self.daemon.pass_time(0.1)
        daemon = self.crash(about(kid["id"], kid["inc"], kid["pid"], status=15, asked=15))
        self.assertEqual((daemon.process().status, daemon.told.story()[-1]), ("online", "+restarted"))

    def test_the_file_says_something_new(self) -> None:
        kid = self.begin()
        daemon = self.crash(kid, specs=[app("web", args=["new"])])
        self.assertEqual(
            (daemon.process().status, self.link.ops()), ("restarting", [("signal", kid["id"], kid["inc"])])
        )

    def test_of_none_of_the_apps(self) -> None:
        kid = self.begin()
        strangers = [about("99", 1, 991), about("x", 1, 992), about(kid["id"], 99, 993), about("98", 2, 994, status=0)]
        self.crash(kid, *strangers)
        told = sorted(self.link.ops())
        self.assertEqual(told, [("ack", "98", 2), ("signal", kid["id"], 99), ("signal", "99", 1), ("signal", "x", 1)])

    def test_of_an_earlier_boot(self) -> None:
        kid = self.begin()
        daemon = self.crash(about(kid["id"], kid["inc"], kid["pid"], status=None, boot="another"))
        self.assertEqual((daemon.process().status, daemon.told.story()[-1]), ("online", "+started"))
        self.assertNotIn("+crashed", daemon.told.story())
        self.assertEqual(self.link.ops(), [("ack", kid["id"], kid["inc"])])
