"""Catching up: what was missed comes in order and once, whether somebody was there when it happened or nobody [S7]."""

import os

from pmdaemon.daemon import journal, logs
from pmdaemon.daemon.ids import seq_of
from pmdaemon.daemon.journal import Journal
from tests.web.resuming import EVENT, KINDS, LOG, MUCH, STATUS, ResumeCase, of, texts


class ReplayTests(ResumeCase):
    def test_live_and_replayed_are_the_same_messages(self) -> None:
        """[S7]: to the last key."""
        since = self.cursor()
        self.witness.take()
        self.world.say(self.process, "one\npart")
        self.world.pass_time(0.3)
        self.world.say(self.process, "ial\r\n\xff\n" + "x" * 70_000 + "\n")
        self.world.children.last.exit(1)
        self.world.pass_time(1)
        late = self.watch(since=since)
        live = self.witness.take()
        self.assertGreater(len(live), 8)
        ack, *replayed = late.take()
        self.assertEqual((ack["type"], replayed), ("subscribed", live))

    def test_the_ids_that_a_client_sees_only_grow(self) -> None:
        """[E3], [S7]: so it can go on from whichever it saw last."""
        since = self.cursor()
        self.world.say(self.process, "one\n")
        late = self.watch(*KINDS, "process_metrics", since=since)
        self.world.say(self.process, "two\n")
        late.ask("ping")
        messages = late.take()
        ids = [each["id"] for each in messages]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual(ids, sorted(set(ids)))
        ack = messages[0]
        again = self.watch(since=ack["id"])
        self.assertEqual(texts(again.messages), ["one", "two"])
        self.assertEqual(seq_of(ack["id"], 1 << 62), seq_of(since, 1 << 62))

    def test_only_what_matches(self) -> None:
        since = self.cursor()
        other = self.world.start("other")
        self.world.say(self.process, "mine\n")
        self.world.say(other, "WARN theirs\nhers\n")
        late = self.watch(LOG, EVENT, processes=["other"], level="warn", since=since)
        self.assertEqual(
            [each["data"].get("message", each["data"].get("event")) for each in late.take()[1:]],
            ["started", "WARN theirs"],
        )

    def test_other_types_are_not_told_again(self) -> None:
        """[S6]: what was subscribed before goes on where it is."""
        since = self.cursor()
        peer = self.watch(STATUS)
        self.process.restart()
        self.world.pass_time(1)
        self.world.say(self.process, "one\n")
        self.assertEqual(len(of(peer.take(), STATUS)), 3)
        peer.ask("subscribe", {"events": [LOG], "since": since})
        self.assertEqual([each["type"] for each in peer.take()], ["subscribed", LOG])

    def test_metrics_alone_have_no_past(self) -> None:
        peer = self.watch("system_metrics", since="0" * 16)
        self.assertEqual([each["type"] for each in peer.take()], ["subscribed", "system_metrics"])

    def test_a_deleted_process(self) -> None:
        """Its events are told, its lines are not: nobody knows any more which these were."""
        since = self.cursor()
        self.world.say(self.process, "one\n")
        self.witness.ask("command", {"action": "delete", "process": "web"})
        late = self.watch(since=since)
        self.assertEqual(of(late.messages, LOG), [])
        self.assertEqual([each["data"]["event"] for each in of(late.messages, EVENT)], ["stopped", "deleted"])

    def test_deleted_while_its_lines_are_told(self) -> None:
        since = self.cursor()
        self.world.say(self.process, MUCH)
        for more in ({"since": since}, {"tail": 10_000}):
            late = self.world.connect()
            late.wire.lags = True
            late.send("subscribe", {"events": KINDS, **more})
            self.world.pass_time()
            late.wire.take()
            self.assertLess(len(late.messages), 400)
            if "tail" in more:
                self.witness.ask("command", {"action": "delete", "process": "web"})
            for _ in range(40):
                late.wire.take()
                self.world.pass_time()
            self.assertEqual(late.ask("ping")["type"] if not late.wire.lags else "pong", "pong")
        self.assertEqual(self.world.logs._logs, {})
        self.world.say(self.world.start(), "new\n")
        late.wire.take()
        self.assertEqual(texts(late.messages)[-1], "new")
        self.assertEqual(texts(late.messages).count("new"), 1)

    def test_emptied_while_its_lines_are_told(self) -> None:
        """As when old ones have to go: that some are missing is told in their place."""
        since = self.cursor()
        self.world.say(self.process, MUCH)
        late = self.world.connect()
        late.wire.lags = True
        late.send("subscribe", {"events": KINDS, "since": since})
        self.world.pass_time()
        late.wire.take()
        told = len(texts(late.messages))
        self.assertLess(told, 400)
        os.truncate(self.world.logs.paths(self.process)[0], 0)
        for _ in range(40):
            late.wire.take()
            self.world.pass_time()
        gaps = of(late.messages, "log_gap")
        self.assertTrue(gaps)
        self.assertEqual({each["data"]["process"] for each in gaps}, {"web"})
        lines = len(texts(late.messages)) + sum(each["data"]["dropped"] for each in gaps)
        self.assertEqual(lines, MUCH.count("\n"))
        self.assertEqual([each["id"] for each in late.messages], sorted(each["id"] for each in late.messages))


class UnheardTests(ResumeCase):
    def setUp(self) -> None:
        super().setUp()
        self.witness.lose()
        self.world.say(self.process, "noticed that nobody is there\n")
        self.world.pass_time(1)

    def test_lines_nobody_followed_come_last_and_take_new_ids(self) -> None:
        """[S7]"""
        since = self.cursor()
        self.world.say(self.process, "unheard\n")
        self.process.restart()
        self.world.pass_time(1)
        late = self.watch(since=since)
        messages = late.take()[1:]
        self.assertEqual([each["type"] for each in messages[-2:]], [EVENT, LOG])
        again = self.watch(since=since)
        self.assertEqual(again.take()[1:], messages)

    def test_lines_from_before_are_not_told(self) -> None:
        self.world.say(self.process, "before\n")
        self.world.pass_time(1)
        since = self.cursor()
        self.world.pass_time(1)
        self.world.say(self.process, "after\n")
        self.assertEqual(texts(self.watch(LOG, since=since).messages), ["after"])

    def test_lines_between_those_that_somebody_followed(self) -> None:
        since = self.cursor()
        for number in range(3):
            self.world.say(self.process, f"unheard {number}\n")
            other = self.watch(LOG)
            self.world.say(self.process, f"heard {number}\n")
            other.ask("unsubscribe")
            self.world.say(self.process, f"noticed {number}\n")
        late = self.watch(LOG, since=since)
        told = [text for text in texts(late.messages) if "noticed" not in text]
        self.assertEqual(told[:3], ["heard 0", "heard 1", "heard 2"])
        self.assertEqual(sorted(told[3:]), ["unheard 0", "unheard 1", "unheard 2"])
        offsets = [each["data"]["offset"] for each in of(late.messages, LOG)]
        self.assertEqual(len(set(offsets)), len(offsets))

    def test_lines_from_before_somebody_followed(self) -> None:
        since = self.cursor()
        self.world.say(self.process, "unheard\n")
        self.watch(LOG)
        self.world.say(self.process, "heard\n")
        self.assertEqual(texts(self.watch(LOG, since=since).messages), ["heard", "unheard"])

    def test_everything_there_is(self) -> None:
        self.world.say(self.process, "one\ntwo\n")
        self.restart()
        late = self.watch(since="0" * 16)
        self.assertEqual(sorted(texts(late.messages)[-2:]), ["one", "two"])
        self.assertEqual(of(late.messages, STATUS)[0]["data"]["previous_status"], None)

    def test_they_have_their_ids_before_anything_newer_is_told(self) -> None:
        """A client that had seen something newer would never ask for them, should the daemon be killed just then."""
        since = self.cursor()
        self.world.say(self.process, "unheard\n")
        self.world.pass_time(1)
        self.process.restart()
        self.world.pass_time(1)
        late = self.world.connect()
        late.send("subscribe", {"events": KINDS, "since": since})
        last = late.take()[-1]["id"]
        self.restart(killed=True)
        self.assertEqual(texts(self.watch(LOG, since=last).messages), ["unheard"])

    def test_more_than_can_be_told(self) -> None:
        self.patch(logs, "_MAX_FILL", 10)
        since = self.cursor()
        self.world.say(self.process, "one\ntwo\nthree\nfour\n")
        messages = self.watch(LOG, since=since).messages
        self.assertEqual(texts(messages), ["three", "four"])
        self.assertEqual((messages[1]["type"], messages[1]["data"]["dropped"]), ("gap", None))

    def test_a_log_that_was_emptied(self) -> None:
        since = self.cursor()
        self.watch(LOG)
        self.world.say(self.process, "one\ntwo\n")
        with open(self.world.logs.paths(self.process)[0], "w"):
            pass
        self.world.say(self.process, "new\n")
        messages = self.watch(LOG, since=since).messages
        self.assertEqual(([each["type"] for each in messages], texts(messages)), (["subscribed", "gap", LOG], ["new"]))


class GapTests(ResumeCase):
    def test_what_is_gone_is_told_first(self) -> None:
        """[S7]"""
        self.world.bus._journal = self.world.journal = Journal(self.world.store, max_events=5)
        self.world.factory.archive.journal = self.world.journal
        since = self.cursor()
        self.witness.take()
        for _ in range(4):
            self.process.restart()
            self.world.pass_time(1)
        told = of(self.witness.take(), STATUS, EVENT)
        ack, gap, *replayed = self.watch(STATUS, EVENT, since=since).take()
        self.assertEqual((ack["type"], gap["type"], replayed), ("subscribed", "gap", told[-5:]))
        self.assertEqual(gap["data"], {"from": since, "to": told[-6]["id"], "dropped": len(told) - 5})
        self.assertLess(gap["id"], replayed[0]["id"])
        of_events = self.watch(EVENT, since=since).take()[1]["data"]
        self.assertEqual(of_events["dropped"], len([each for each in told[:-5] if each["type"] == EVENT]))
        nothing = self.watch(STATUS, processes=["other"], since=since).take()
        self.assertEqual([each["type"] for each in nothing], ["subscribed"])
        self.assertEqual([each["type"] for each in self.watch(LOG, since=since).take()], ["subscribed"])

    def test_marks_that_are_gone(self) -> None:
        self.patch(journal, "_SLACK", 1)
        self.world.bus._journal = self.world.journal = Journal(self.world.store, max_marks=2)
        self.world.logs._journal = self.world.factory.archive.journal = self.world.journal
        since = self.cursor()
        for number in range(6):
            self.world.say(self.process, f"{number}\n")
        messages = self.watch(LOG, since=since).take()
        self.assertEqual([each["type"] for each in messages[:2]], ["subscribed", "gap"])
        self.assertIsNone(messages[1]["data"]["dropped"])
        self.assertEqual(texts(messages), ["3", "4", "5"])


class LifeTests(ResumeCase):
    def test_over_a_restart_of_the_daemon(self) -> None:
        """[E3], [S7]"""
        self.witness.take()
        since = self.cursor()
        self.world.say(self.process, "one\n")
        live = of(self.witness.take(), *KINDS)
        self.restart()
        process = self.world.supervisor.processes[0]
        self.world.say(process, "two\n")
        messages = self.watch(since=since).take()[1:]
        self.assertEqual(messages[: len(live)], live)
        self.assertEqual(texts(messages), ["one", "two"])
        told = [each["data"]["status"] for each in of(messages, STATUS)]
        self.assertEqual(told, ["stopping", "stopped", "starting", "online"])
        ids = [each["id"] for each in messages]
        self.assertEqual(ids, sorted(set(ids)))

    def test_a_name_that_is_used_again(self) -> None:
        since = self.cursor()
        self.world.say(self.process, "old\n")
        self.witness.ask("command", {"action": "delete", "process": "web"})
        again = self.world.start()
        self.world.say(again, "new\n")
        messages = self.watch(LOG, since=since).messages
        self.assertEqual([(each["data"]["id"], each["data"]["message"]) for each in of(messages, LOG)], [(1, "new")])
