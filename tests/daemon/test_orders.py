"""Orders on one process: one after another, equal ones joined, some overtaking others [R3]."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.orders import OrderQueue
from pmdaemon.errors import OperationFailed, ProcessStartFailed


class OrderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = OrderQueue("web")
        self.begun: list[str] = []
        self.works: list[Deferred[None]] = []

    def work(self, name: str) -> Callable[[], Awaitable[None]]:
        """An order that says when it begins and ends when the test says so."""

        async def run() -> None:
            self.begun.append(name)
            work: Deferred[None] = Deferred()
            self.works.append(work)
            await work

        return run

    def submit(self, action: str, key: object = None) -> "Deferred[None]":
        return self.queue.submit(action, key, self.work(action))

    def end(self) -> None:
        """The order that runs is done."""
        self.works[-1].callback(None)

    def refused(self, done: "Deferred[None]") -> str:
        return self.failureResultOf(done, OperationFailed).value.message

    def test_one_after_another(self) -> None:
        first, second = self.submit("start"), self.submit("signal")
        self.assertEqual((self.begun, self.queue.newest), (["start"], "signal"))
        self.end()
        self.assertEqual(self.begun, ["start", "signal"])
        self.assertIsNone(self.successResultOf(first))
        self.assertNoResult(second)
        self.end()
        self.successResultOf(second)
        self.assertIsNone(self.queue.newest)

    def test_failure(self) -> None:
        """Told to who gave the order; the next one runs all the same."""
        first, second = self.submit("start"), self.submit("signal")
        self.works[0].errback(ProcessStartFailed("cannot start"))
        self.failureResultOf(first, ProcessStartFailed)
        self.end()
        self.successResultOf(second)

    def test_equal_ones_are_joined(self) -> None:
        """While it waits and while it runs; not with another key, nor where another order came between."""
        first, second, other = self.submit("signal", 1), self.submit("signal", 1), self.submit("signal", 2)
        third = self.submit("signal", 1)
        self.end()
        self.assertIsNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))
        self.assertNoResult(other)
        self.end()
        self.assertNoResult(third)
        self.end()
        self.assertEqual(self.begun, ["signal"] * 3)

    def test_one_of_several_loses_interest(self) -> None:
        first, second = self.submit("start"), self.submit("start")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.end()
        self.assertIsNone(self.successResultOf(second))

    def test_a_stop_overtakes(self) -> None:
        """What runs and what waits, joined or not; each is told by what."""
        begun = [self.submit("start"), self.submit("start"), self.submit("reload")]
        stop = self.submit("stop")
        for done, action in zip(begun, ("start", "start", "reload"), strict=True):
            self.assertEqual(self.refused(done), f"cannot {action} 'web': superseded by stop")
        self.assertEqual(self.begun, ["start", "stop"])  # none of those that waited ever began
        self.end()
        self.successResultOf(stop)

    def test_what_overtakes_what(self) -> None:
        for action, overtaken, left in (
            ("stop", {"start", "restart", "reload"}, {"stop", "delete", "reset", "signal"}),
            ("delete", {"start", "restart", "reload"}, {"stop", "delete", "reset", "signal"}),
            ("restart", {"start", "reload"}, {"stop", "delete", "restart", "reset", "signal"}),
            ("start", set(), {"stop", "delete", "restart", "reload", "reset", "signal"}),
            ("reload", set(), {"stop", "delete", "start", "restart", "reset", "signal"}),
        ):
            for pending in overtaken | left:
                self.queue = OrderQueue("web")
                done = self.submit(pending)
                self.submit(action)
                if pending in overtaken:
                    error = self.failureResultOf(done, OperationFailed).value
                    self.assertEqual(error.details, {"superseded_by": action})
                else:
                    self.assertNoResult(done)

    def test_what_lets_go_slowly(self) -> None:
        """The next order waits for what an overtaken one still has to put in order, however often it is overtaken."""
        tidied: Deferred[None] = Deferred()

        async def run() -> None:
            try:
                await Deferred()
            finally:
                await tidied

        reload = self.queue.submit("reload", None, run)
        stop, delete = self.submit("stop"), self.submit("delete")
        self.assertNoResult(reload)
        self.assertEqual(self.begun, [])
        tidied.callback(None)
        self.assertEqual(self.refused(reload), "cannot reload 'web': superseded by stop")
        self.end()
        self.successResultOf(stop)
        self.end()
        self.successResultOf(delete)

    def test_not_joined_to_what_was_overtaken(self) -> None:
        tidied: Deferred[None] = Deferred()

        async def run() -> None:
            try:
                await Deferred()
            finally:
                await tidied

        first = self.queue.submit("restart", None, run)
        self.submit("stop")
        second = self.submit("restart")
        tidied.callback(None)
        self.failureResultOf(first, OperationFailed)
        self.end()
        self.assertNoResult(second)
        self.end()
        self.successResultOf(second)

    def test_an_own_error_wins(self) -> None:
        """What fails by itself while it is overtaken tells why."""

        async def run() -> None:
            try:
                await Deferred()
            except CancelledError:
                raise ProcessStartFailed("cannot start") from None

        done = self.queue.submit("start", None, run)
        self.submit("stop")
        self.failureResultOf(done, ProcessStartFailed)

    def test_who_was_overtaken_comes_behind(self) -> None:
        """What somebody orders when he hears that he was overtaken waits for the order that did it."""
        self.submit("start").addErrback(lambda _: self.submit("delete") and None)
        self.submit("stop")
        self.assertEqual((self.begun, self.queue.newest), (["start", "stop"], "delete"))

    def test_closed(self) -> None:
        begun = [self.submit("stop"), self.submit("restart"), self.submit("signal")]
        self.queue.close("the daemon is stopping")
        begun.append(self.submit("start"))
        for done, action in zip(begun, ("stop", "restart", "signal", "start"), strict=True):
            self.assertEqual(self.refused(done), f"cannot {action} 'web': the daemon is stopping")
        self.assertEqual(self.begun, ["stop"])

    def test_many_that_are_done_at_once(self) -> None:
        """A long queue of short orders is no deep recursion."""

        async def run() -> None:
            self.begun.append("signal")

        stop = self.submit("stop")
        done = [self.queue.submit("signal", number, run) for number in range(2000)]
        self.end()
        self.successResultOf(stop)
        for each in done:
            self.successResultOf(each)
        self.assertEqual(len(self.begun), 2001)

    def test_an_order_given_by_the_end_of_another(self) -> None:
        async def refuse() -> None:
            await fail(ProcessStartFailed("cannot start"))

        first = self.submit("start")
        chained: list[Deferred[None]] = []
        first.addCallback(lambda _: chained.append(self.queue.submit("start", None, refuse)))
        self.end()
        self.failureResultOf(chained[0], ProcessStartFailed)
        self.assertIsNone(self.queue.newest)
