"""Kept children: what the keeper tells, in whatever order and however often, becomes one life of each child."""

import signal
from collections.abc import Callable
from pathlib import Path

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pmdaemon.daemon.child import Child
from pmdaemon.daemon.keeperlink import Fact
from pmdaemon.daemon.kept import Birth, Keeping, Kept, KeptProcess
from tests.daemon.fakelink import FakeLink, about

BIRTH = Birth(id="1", inc=1, logs={"1": {"path": "/out"}, "2": {"path": "/err"}}, rights={"umask": 0o22})


class KeptCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[object] = []
        self.failures: list[str] = []
        self.times: list[float] = []
        self.others: list[Fact] = []
        links: list[FakeLink] = []

        def link(fact: object, again: object) -> FakeLink:
            links.append(FakeLink(fact, again))  # type: ignore[arg-type]  # as `Keeping` gives them
            return links[0]

        self.keeping = Keeping(
            link,  # type: ignore[arg-type]  # a fake
            grown=lambda path, end: self.told.append((path, end)),
            as_of=self._as_of,
            pipes=Path("/nowhere"),
            total=None,
            other=self.others.append,
        )
        (self.link,) = links
        self.child = Child(self, 1.0)

    def _as_of(self, at: float, tell: Callable[[], None]) -> None:
        self.times.append(at)
        tell()

    def child_started(self, child: Child) -> None:
        self.told.append("started")

    def child_wrote(self, child: Child, stream: str, data: bytes) -> None:
        raise AssertionError("output never comes this way")

    def child_ended(self, child: Child, exit_code: int | None, exit_signal: int | None) -> None:
        self.told.append((exit_code, exit_signal))

    def spawn(self, birth: Birth = BIRTH) -> KeptProcess:
        return self.keeping.spawn(
            self.child,
            ["/bin/true"],
            env={"A": "b"},
            cwd="/",
            cookie=("C", "1"),
            birth=birth,
            failed=self.failures.append,
        )


class LifeTests(KeptCase):
    def test_a_whole_life(self) -> None:
        kid = self.spawn()
        assert verifyObject(IProcessTransport, kid)
        (order,) = self.link.orders
        self.assertEqual((order["op"], order["argv"], order["umask"]), ("spawn", ["/bin/true"], 0o22))
        self.assertEqual((self.told, kid.pid), ([], None))
        self.link.born("1", 1, 77)
        self.assertEqual((self.told, kid.pid, self.child.pid, self.child.started_at), (["started"], 77, 77, 5.0))
        kid.signalProcess("TERM")
        kid.relay_signal(signal.SIGHUP)
        kid.signalProcess("KILL")
        sent = [(each["sig"], each["scope"], each["stop"]) for each in self.link.orders[1:]]
        self.assertEqual(sent, [(15, "group", True), (1, "group", False), (9, "tree", True)])
        self.link.exit("1", 1, 7 << 8, at=9.5, **{"1": 100, "2": 50, "3": 1})
        self.assertEqual(self.told[1:], [("/out", 100), ("/err", 50)], "told of when nothing of it is left")
        self.link.gone("1", 1)
        self.assertEqual((self.told[3:], self.times, kid.pid), ([(7, None)], [9.5], None))
        self.assertEqual(self.link.ops("ack"), [("ack", "1", 1)])
        with self.assertRaises(ProcessExitedAlready):
            kid.signalProcess("TERM")
        with self.assertRaises(ProcessExitedAlready):
            kid.relay_signal(1)

    def test_how_it_ended(self) -> None:
        for inc, (status, told) in enumerate(
            ((0, (0, None)), (9, (None, 9)), (11 | 0x80, (None, 11)), (None, (None, None)))
        ):
            self.spawn(Birth(id="1", inc=inc, logs={}))
            self.link.born("1", inc, 77)
            self.link.exit("1", inc, status)
            self.link.gone("1", inc)
            self.assertEqual(self.told[-1], told)

    def test_what_is_told_twice_counts_once(self) -> None:
        self.spawn()
        self.link.born("1", 1, 77)
        self.link.exit("1", 1, 0)
        self.link.exit("1", 1, 7 << 8)
        self.link.gone("1", 1)
        self.link.gone("1", 1)
        self.link.exit("1", 1, 7 << 8)
        self.assertEqual(self.told, ["started", (0, None)])
        self.assertEqual(self.link.ops("ack"), [("ack", "1", 1)] * 2, "whoever tells it again has not got the first")

    def test_gone_without_an_exit(self) -> None:
        self.spawn()
        self.link.born("1", 1, 77)
        self.link.gone("1", 1)
        self.assertEqual(self.told, ["started", (None, None)])

    def test_what_nobody_knows(self) -> None:
        self.link.exit("9", 9, 0)
        self.link.gone("9", 9)
        self.link.tell({"ev": "trouble", "id": "9"})
        self.link.tell({"ev": "something new"})
        self.link.tell({"ev": "log", "path": "/x", "base": 0, "end": 5})
        self.assertEqual((self.told, self.link.ops()), ([("/x", 5)], [("ack", "9", 9)]))

    def test_a_stop_before_it_runs(self) -> None:
        kid = self.spawn()
        kid.signalProcess("TERM")
        self.assertEqual(self.link.ops(), [("spawn", "1", 1)])
        self.link.born("1", 1, 77)
        self.assertEqual(self.link.ops(), [("spawn", "1", 1), ("signal", "1", 1)])

    def test_refused(self) -> None:
        for error, words in (
            ({"errno": 13, "where": "exec", "message": "x"}, "'/bin/true' cannot be executed: permission denied"),
            ({"errno": 13, "where": "cwd", "message": "x"}, "the working directory '/' cannot be entered: "),
            ({"errno": 24, "where": "log", "message": "Too many open files: /out"}, "Too many open files: /out"),
            ("malformed: env", "malformed: env"),
        ):
            kid = self.spawn()
            self.link.refuse("1", 1, error)
            self.assertIn(words, self.failures[-1])
            with self.assertRaises(ProcessExitedAlready):
                kid.signalProcess("TERM")
        self.assertEqual(self.told, [])

    def test_leave(self) -> None:
        self.successResultOf(self.keeping.leave(end=False))
        self.assertEqual(self.link.left, "left")
        self.successResultOf(self.keeping.leave(end=True))
        self.assertEqual(self.link.left, "quit")


class TroubleTests(KeptCase):
    def test_what_else_it_tells_is_passed_on(self) -> None:
        trouble = {"errno": 28, "dropped_bytes": 0, "dropped_lines": 0}
        self.link.tell({"ev": "capped", "path": "x", "bytes": 1})
        self.link.again(about("1", 1, 5, trouble=trouble), about("2", 2, 6, trouble={**trouble, "errno": None}))
        told = {"ev": "trouble", "id": "1", "inc": 1, **trouble}
        self.assertEqual(self.others, [{"ev": "capped", "path": "x", "bytes": 1}, told])
        self.assertEqual([each["op"] for each in self.link.orders if each["op"] == "total"], ["total"])


class AgainTests(KeptCase):
    """The connection was lost and made anew, with the same keeper or another."""

    def test_nothing_happened(self) -> None:
        self.spawn()
        self.link.born("1", 1, 77)
        self.link.again(
            about("1", 1, 77, logs={"1": {"path": "/out", "at": [0, 9]}, "2": {"path": "/err", "at": None}})
        )
        self.assertEqual(self.told, ["started", ("/out", 9)])

    def test_it_came_to_be_and_ended_meanwhile(self) -> None:
        self.spawn()
        self.link.again(about("1", 1, 77, status=7 << 8))
        self.assertEqual(self.told, ["started", (7, None)])
        self.assertEqual(self.link.ops(), [("spawn", "1", 1), ("ack", "1", 1)])
        self.link.born("1", 1, 77)  # the answer to the order that was given again
        self.assertEqual(self.told, ["started", (7, None)])

    def test_it_was_not_born_yet(self) -> None:
        self.spawn()
        self.link.again()
        self.link.again(about("1", 1, 77, born=False))
        self.assertEqual(self.told, [])
        self.link.refuse("1", 1, "no")
        self.assertEqual(self.failures, ["no"])

    def test_the_keeper_has_lost_it(self) -> None:
        self.spawn()
        self.link.born("1", 1, 77)
        self.link.again()
        self.assertEqual(self.told, ["started", (None, None)])

    def test_ended_and_not_gone(self) -> None:
        self.spawn()
        self.link.born("1", 1, 77)
        self.link.again(about("1", 1, 77, status=0, gone=False))
        self.assertEqual(self.told, ["started"])
        self.link.gone("1", 1)
        self.assertEqual(self.told, ["started", (0, None)])

    def test_an_end_of_a_stranger(self) -> None:
        self.link.again(about("9", 9, 99, status=0))
        self.assertEqual(self.link.ops(), [("ack", "9", 9)])


class AdoptTests(KeptCase):
    def adopt(self, **more: object) -> KeptProcess:
        self.kept = Kept.all_of({"kids": [about("1", 1, 77, **more)]})[0]
        return self.keeping.adopt(self.kept, self.child, {"1": "/out"})

    def test_one_that_lives(self) -> None:
        kid = self.adopt()
        self.keeping.replay(self.kept)
        self.assertEqual((self.told, kid.pid), (["started"], 77))
        kid.signalProcess("TERM")
        self.link.exit("1", 1, 15)
        self.link.gone("1", 1)
        self.assertEqual((self.told, self.times), (["started", (None, 15)], [9.0]))

    def test_one_that_has_ended(self) -> None:
        self.adopt(status=7 << 8)
        self.keeping.replay(self.kept)
        self.assertEqual((self.told, self.times), ([(7, None)], [9.0]))
        self.assertEqual(self.link.ops(), [("ack", "1", 1)])

    def test_one_whose_leftovers_are_being_ended(self) -> None:
        kid = self.adopt(status=15, gone=False, asked=15)
        kid.signalProcess("KILL")
        self.assertEqual(self.link.ops(), [("signal", "1", 1)])

    def test_one_that_turns_out_never_to_have_run(self) -> None:
        self.adopt()
        self.link.tell({"ev": "stillborn", "id": "1", "inc": 1, "error": {}})
        self.assertEqual(self.told, ["started", (None, None)])

    def test_who_is_to_be_taken_up(self) -> None:
        kids = [
            about("1", 1, 7),
            about("2", 2, 8, status=0),
            about("3", 3, 9, status=0, acked=True),
            about("4", 4, 9, x=1),
        ]
        self.assertEqual([kept.id for kept in Kept.all_of({"kids": kids})], ["1", "2", "4"])

    def test_dismiss(self) -> None:
        for kept in Kept.all_of(
            {"kids": [about("1", 1, 7), about("2", 2, 8, status=0), about("3", 3, 9, status=0, gone=False)]}
        ):
            self.keeping.dismiss(kept)
        self.assertEqual(self.link.ops(), [("signal", "1", 1), ("ack", "2", 2), ("signal", "3", 3)])
