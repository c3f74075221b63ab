"""A subscription goes on after the last message it gave out, and gives out a snapshot in one piece."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.client.resume import Resume
from pmdaemon.core.commands import Subscribe
from pmdaemon.errors import InvalidMessage, Unauthorized
from pmdaemon.protocol.replies import Gap, Subscribed
from tests.client.test_messages import PROCESS, frame

EVENTS = {"log_message": {"processes": None, "interval": None}}


def asked(resume: Resume) -> dict[str, Any]:
    return json.loads(resume.opening())["data"]


def answer(id_: str, **data: object) -> str:
    return frame("subscribed", {"events": EVENTS, "ignored": [], **data}, id=id_, reply_to="subscribe")


def refused(code: str, **details: object) -> str:
    data = {"code": code, "message": "cannot", "hint": None, "request": {}, "details": details}
    return frame("error", data, id="ff", reply_to="subscribe")


class ResumeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resume = Resume(Subscribe(events=["log_message"], tail=10))

    def test_goes_on_after_the_last_message(self) -> None:
        self.assertEqual(asked(self.resume), {"events": ["log_message"], "tail": 10})
        self.assertEqual([each.type for each in self.resume.take(answer("05"))], ["subscribed"])
        self.assertEqual([each.id for each in self.resume.take(frame("other", {}, id="06"))], ["06"])
        self.assertEqual([each.data.reason for each in self.resume.broken("why", 7.0)], ["why"])
        self.assertEqual(asked(self.resume), {"events": ["log_message"], "since": "06"})

    def test_the_snapshot_is_whole(self) -> None:
        self.resume.opening()
        first = answer("05", snapshot=[PROCESS], more=True, cursor=4)
        rest = frame("snapshot", {"processes": [PROCESS, PROCESS]}, id="06", reply_to="subscribe")
        self.assertEqual(list(self.resume.take(first)), [])
        (begun,) = self.resume.take(rest)
        self.assertIsInstance(begun.data, Subscribed)
        self.assertEqual((len(begun.data.snapshot), begun.data.more), (3, False))

    def test_a_snapshot_that_broke_off_begins_anew(self) -> None:
        self.resume.opening()
        list(self.resume.take(answer("05", snapshot=[PROCESS], more=True, cursor=4)))
        self.resume.broken("why", 7.0)
        self.resume.opening()
        (begun,) = self.resume.take(answer("06", snapshot=[PROCESS]))
        self.assertEqual(len(begun.data.snapshot), 1)

    def test_a_daemon_that_does_not_know_the_cursor(self) -> None:
        """As one whose home was made anew: all of it is new, and that something is missing is told."""
        self.resume.opening()
        list(self.resume.take(answer("99")))
        self.resume.opening()
        self.assertEqual(list(self.resume.take(refused("INVALID_MESSAGE", path="data.since"))), [])
        self.assertFalse(self.resume.answered)
        self.assertEqual(asked(self.resume), {"events": ["log_message"]})
        begun, gap = self.resume.take(answer("05"))
        self.assertTrue(self.resume.answered)
        self.assertEqual((begun.type, gap.data), ("subscribed", Gap(from_="99", to="05", dropped=None)))
        self.assertEqual(asked(self.resume)["since"], "05")

    def test_what_cannot_be_mended_is_raised(self) -> None:
        self.resume.opening()
        with self.assertRaises(InvalidMessage):  # the user's own since
            list(self.resume.take(refused("INVALID_MESSAGE", path="data.since")))
        with self.assertRaises(Unauthorized):
            list(self.resume.take(refused("UNAUTHORIZED")))

    def test_waits_longer_each_time_but_never_long(self) -> None:
        delays = [self.delay() for _ in range(20)]
        self.assertLess(delays[0], 0.11)
        self.assertLess(delays[1], 0.21)
        self.assertTrue(all(2.5 <= delay <= 5.0 for delay in delays[7:]), delays)
        self.resume.opening()
        list(self.resume.take(answer("05")))
        self.assertLess(self.delay(), 0.11)

    def delay(self) -> float:
        self.resume.broken("why", 100.0)
        return self.resume.next_attempt - 100.0

    def test_is_told_once_for_each_time_without_a_daemon(self) -> None:
        self.assertEqual(len(self.resume.broken("one", 1.0)), 1)
        self.resume.opening()
        self.assertEqual(self.resume.broken("before it was answered", 2.0), [])
        self.resume.opening()
        list(self.resume.take(answer("05")))
        self.assertEqual(len(self.resume.broken("two", 3.0)), 1)

    def test_when_a_daemon_that_is_away_is_given_up(self) -> None:
        self.assertFalse(self.resume.absent(1.0), "there never was one")
        for patience, now, again in ((None, 1e9, True), (10.0, 17.0, True), (10.0, 17.1, False)):
            resume = Resume(Subscribe(events=["log_message"]), patience)
            resume.broken("why", 7.0)
            self.assertIs(resume.absent(now), again)
            self.assertEqual(resume.next_attempt > now, again)
