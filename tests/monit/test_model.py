"""What is known of the processes, from the messages that tell of them."""

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.client import (
    Disconnected,
    EventRecord,
    HealthUpdate,
    ProcessEvent,
    ProcessMetrics,
    ProcessStatus,
    SystemMetrics,
)
from pmdaemon.monit.filters import wanted
from pmdaemon.monit.model import EVENTS_KEPT, Model
from tests.monit.made import SYSTEM, begun, message, process


def names(model: Model) -> list[str]:
    return [row.entry.name for row in model.listed()]


class ModelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 100.0
        self.model = Model(lambda: self.now)

    def take(self, *told: object) -> None:
        for each in told:
            self.model.take(message(each))

    def status(self, id_: int, status: str) -> ProcessStatus:
        facts = {"app": "a", "instance": 0, "namespace": "x", "previous_status": None, "pid": None, "port": None}
        return ProcessStatus(id=id_, name=f"p{id_}", status=status, **facts)

    def event(self, id_: int, event: str) -> ProcessEvent:
        return ProcessEvent(event=event, process="p", id=id_, app="a", instance=0, namespace="x", details={})

    def test_a_subscription_begins(self) -> None:
        self.assertFalse(self.model.live)
        self.model.take(begun(process(0, "a"), process(1, "b", "errored")))
        self.assertTrue(self.model.live)
        self.assertEqual(names(self.model), ["a", "b"])
        self.assertEqual(self.model.counts(), {"online": 1, "errored": 1})

    def test_figures_are_kept(self) -> None:
        self.model.take(begun(process(0, "a")))
        for cpu in range(200):
            self.take(ProcessMetrics([process(0, "a", cpu=float(cpu))]))
        (row,) = self.model.listed()
        self.assertEqual((row.entry.cpu, len(row.cpu), row.cpu[0]), (199.0, 120, 80.0))
        self.take(ProcessMetrics([process(0, "a", "stopped")]))
        self.assertEqual((row.cpu[-1], row.memory[-1]), (None, None))
        self.take(SystemMetrics(cpu=SYSTEM.cpu, memory=SYSTEM.memory, load=SYSTEM.load))
        self.assertEqual(list(self.model.cpu), [25.0])

    def test_who_comes_and_goes(self) -> None:
        self.model.take(begun(process(0, "p0"), process(1, "p1")))
        self.take(self.status(2, "starting"))
        self.assertEqual(names(self.model), ["p0", "p1", "p2"])
        self.assertEqual(self.model.rows[2].entry.status, "starting")
        self.take(self.event(1, "deleted"))
        self.assertEqual(names(self.model), ["p0", "p2"])
        self.take(ProcessMetrics([process(2, "p2")]))
        self.assertEqual(names(self.model), ["p2"])

    def test_status_and_health(self) -> None:
        self.model.take(begun(process(0, "p0", cpu=9.0)))
        facts = {"app": "p0", "instance": 0, "namespace": "x", "previous_status": "unknown", "check_type": "tcp"}
        self.take(self.status(0, "stopping"), HealthUpdate(process="p0", id=0, status="unhealthy", details={}, **facts))
        entry = self.model.rows[0].entry
        self.assertEqual((entry.status, entry.health, entry.cpu, entry.pid), ("stopping", "unhealthy", 9.0, None))

    def test_the_connection_breaks_and_comes_back(self) -> None:
        self.model.take(begun(process(0, "a"), process(1, "b")))
        self.take(ProcessMetrics([process(0, "a"), process(1, "b")]), Disconnected(reason="it broke"))
        self.assertFalse(self.model.live)
        self.assertIsNotNone(self.model.lost)
        self.assertEqual(names(self.model), ["a", "b"])
        row = self.model.rows[1]
        self.assertEqual(list(row.cpu), [1.5, None])
        self.model.take(begun(process(1, "b"), process(2, "c")))
        self.assertEqual((self.model.live, self.model.lost, names(self.model)), (True, None, ["b", "c"]))
        self.assertIs(self.model.rows[1], row)

    def test_a_restart_is_recent_for_ten_minutes(self) -> None:
        self.model.take(begun(process(0, "a", restarts=5)))
        row = self.model.rows[0]
        self.assertFalse(self.model.recent(row))
        self.take(ProcessMetrics([process(0, "a", restarts=6)]))
        self.assertTrue(self.model.recent(row))
        self.now += 601
        self.assertFalse(self.model.recent(row))
        self.model.take(begun(process(0, "a", restarts=7)))
        self.assertTrue(self.model.recent(row))

    def test_sorted(self) -> None:
        a, b, c = process(0, "b", cpu=1.0), process(1, "A", cpu=9.0), process(2, "c", cpu=9.0)
        self.model.take(begun(c, b, a))
        for sort, reverse, expected in (
            ("id", False, ["b", "A", "c"]),
            ("id", True, ["c", "A", "b"]),
            ("name", False, ["A", "b", "c"]),
            ("cpu", False, ["A", "c", "b"]),
            ("cpu", True, ["b", "A", "c"]),
        ):
            self.model.sort, self.model.reverse = sort, reverse
            self.assertEqual(names(self.model), expected, (sort, reverse))

    def test_events_earlier_and_now_are_there_once(self) -> None:
        now = message(self.event(0, "started"), 2)
        self.model.take(now)
        data = {"event": "stopped", "process": "p"}
        earlier = [EventRecord(type="process_event", data=data, timestamp="", id=f"{n:016}") for n in (1, 2)]
        status = EventRecord(type="process_status", data={}, timestamp="", id=f"{0:016}")
        self.model.told([status, *earlier])
        self.assertEqual([each.id[-1] for each in self.model.events], ["1", "2"])
        self.take(*[self.event(0, "started")] * (EVENTS_KEPT + 10))
        self.assertEqual(len(self.model.events), EVENTS_KEPT)


class FilterTests(SynchronousTestCase):
    def test_terms(self) -> None:
        web = process(0, "web-api", cpu=60.0, memory=200 << 20, namespace="prod", port=8080)
        job = process(1, "job", "errored", restarts=3, memory=0)
        for text, expected in (
            ("", [web, job]),
            ("WEB", [web]),
            ("prod", [web]),
            ("errored", [job]),
            ("status:err", [job]),
            ("ns:prod cpu:>50", [web]),
            ("ns:prod cpu:>70", []),
            ("mem:>=200M", [web]),
            ("mem:<1k", [job]),
            ("restarts:3", [job]),
            ("port:8080", [web]),
            ("cpu:>", [web, job]),
            ("cpu:x", [web, job]),
            ("what:ever", []),
        ):
            self.assertEqual([each for each in (web, job) if wanted(text)(each)], expected, text)
