"""What one connection wants, as a value [S2], [S5], [S6], [S8], [S9]."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.commands import Subscribe
from pmdaemon.core.logfilter import LogFilter
from pmdaemon.core.selection import Selection
from pmdaemon.errors import InvalidMessage
from pmdaemon.protocol.subscription import Subscription, Want

STATUS, METRICS, LOG = "process_status", "process_metrics", "log_message"


def subscribed(*events: str, to: Subscription | None = None, **more: Any) -> Subscription:
    return (to or Subscription()).with_added(Subscribe(events=list(events), **more))[0]


class AddingTests(SynchronousTestCase):
    def test_unknown_names_are_ignored_unless_all_are(self) -> None:
        """[S2]"""
        subscription, ignored = Subscription().with_added(Subscribe(events=["x", STATUS, "y", STATUS]))
        self.assertEqual((list(subscription), ignored), ([STATUS], ["x", "y"]))
        error = self.assertRaises(InvalidMessage, Subscription().with_added, Subscribe(events=["proces_status"]))
        self.assertIn("did you mean 'process_status'?", error.message)
        error = self.assertRaises(InvalidMessage, Subscription().with_added, Subscribe(events=[]))
        self.assertIn("events is empty", error.message)

    def test_a_repeated_one_replaces_filter_and_interval(self) -> None:
        """[S6]"""
        first = subscribed(STATUS, METRICS, processes=["a"], interval=500)
        second = subscribed(METRICS, LOG, to=first)
        self.assertEqual(second.get(STATUS), Want(Selection(["a"])))
        self.assertEqual(second.get(METRICS), Want(Selection(None), 1000))
        self.assertEqual(second.get(LOG), Want(Selection(None), None, LogFilter()))
        self.assertEqual(list(first), [STATUS, METRICS], "the first one has not changed")

    def test_interval(self) -> None:
        """[S8]: for metrics alone, and within bounds."""
        for asked, effective in ((None, 1000), (1, 100), (-(10**30), 100), (250, 250), (10**30, 3_600_000)):
            told = subscribed(STATUS, METRICS, interval=asked).effective()
            self.assertEqual((told[STATUS]["interval"], told[METRICS]["interval"]), (None, effective))

    def test_processes(self) -> None:
        """[S5]: in one order whatever the order asked for, each once."""
        told = subscribed(STATUS, processes=["b", 3, "a", "b", "ns:x"]).effective()
        self.assertEqual(told[STATUS]["processes"], [3, "a", "b", "ns:x"])
        self.assertEqual(subscribed(STATUS, processes=[]).effective()[STATUS]["processes"], [])
        self.assertEqual(subscribed(STATUS).effective()[STATUS]["processes"], None)

    def test_log_filters(self) -> None:
        """[S9]"""
        told = subscribed(STATUS, LOG, level="warn", stream="stderr", grep="a", regex=True).effective()
        self.assertEqual(told[STATUS], {"processes": None, "interval": None})
        self.assertEqual(
            told[LOG],
            {"processes": None, "interval": None, "level": "warn", "stream": "stderr", "grep": "a", "regex": True},
        )
        for wrong in ({"level": "loud"}, {"stream": "stdin"}, {"grep": "(", "regex": True}):
            self.assertRaises(InvalidMessage, subscribed, LOG, **wrong)


class RemovingTests(SynchronousTestCase):
    def test_some_or_all(self) -> None:
        """[S6]"""
        three = subscribed(STATUS, METRICS, LOG)
        self.assertEqual(list(three.without([STATUS])[0]), [METRICS, LOG])
        self.assertEqual(three.without([]), (three, []))
        self.assertEqual(three.without(None), (Subscription(), []))

    def test_what_was_not_subscribed(self) -> None:
        """[S6], [S2]"""
        one = subscribed(STATUS)
        self.assertEqual(one.without([LOG, "x"]), (one, ["x"]))
        error = self.assertRaises(InvalidMessage, one.without, ["proces_status"])
        self.assertIn("did you mean 'process_status'?", error.message)


class ValueTests(SynchronousTestCase):
    def test_equal_ones_share_a_channel(self) -> None:
        one = subscribed(METRICS, to=subscribed(STATUS, processes=["a", "b"]), interval=1)
        other = subscribed(STATUS, to=subscribed(METRICS, interval=100), processes=["b", "a"])
        self.assertEqual({one: "shared"}[other], "shared")

    def test_different_ones_do_not(self) -> None:
        different = {
            Subscription(),
            subscribed(STATUS),
            subscribed(STATUS, processes=[]),
            subscribed(STATUS, processes=["1"]),
            subscribed(STATUS, processes=[1]),
            subscribed(METRICS),
            subscribed(METRICS, interval=200),
            subscribed(LOG),
            subscribed(LOG, grep="a"),
            subscribed(LOG, grep="a", regex=True),
        }
        self.assertEqual(len(different), 10)
        self.assertNotEqual(Subscription(), "nothing")
        self.assertFalse(Subscription())
