"""Catching up: in which order, how fast, with what in between, and the last lines before anything else."""

from pmdaemon.web import delivery
from tests.web.resuming import EVENT, KINDS, LOG, MUCH, STATUS, ResumeCase, of, texts
from tests.web.rig import Message, Peer


class OrderTests(ResumeCase):
    def _lagging(self, **more: object) -> Peer:
        """A client that is still catching up and has read nothing yet."""
        peer = self.world.connect()
        peer.wire.lags = True
        peer.send("subscribe", {"events": KINDS, **more})
        self.world.pass_time()
        return peer

    def _much(self) -> str:
        """Have far more printed than a client takes at once, and return the id before it."""
        since = self.cursor()
        self.world.say(self.process, MUCH)
        return since

    def _read_all(self, peer: Peer) -> list[Message]:
        for _ in range(60):
            peer.wire.take()
            self.world.pass_time()
        return peer.take()

    def test_status_event_reply(self) -> None:
        """[P11]"""
        self.witness.take()
        self.witness.ask("command", {"action": "restart", "process": "web"})
        told = [each["data"].get("status") or each["data"].get("event") or each["type"] for each in self.witness.take()]
        self.assertEqual(told, ["restarting", "starting", "online", "restarted", "command_result"])
        self.witness.ask("command", {"action": "delete", "process": "web"})
        told = [each["data"].get("status") or each["data"].get("event") or each["type"] for each in self.witness.take()]
        self.assertEqual(told, ["stopping", "stopped", "stopped", "deleted", "command_result"])

    def test_a_reply_waits_for_what_came_before_it(self) -> None:
        """[P11], and nothing newer is told before it."""
        peer = self._lagging(since=self._much())
        self.witness.take()
        peer.send("command", {"action": "stop", "process": "web"}, id=7)
        self.world.pass_time(1)
        self.process.start()
        self.world.pass_time(1)
        messages = self._read_all(peer)
        ids = [each["id"] for each in messages]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual(texts(messages), MUCH.splitlines())
        told = [each["data"].get("status") or each["type"] for each in of(messages, STATUS, "command_result")]
        self.assertEqual(told, ["stopping", "stopped", "command_result", "starting", "online"])

    def test_little_waits_for_a_slow_client(self) -> None:
        """[F1]: what is caught up is read when there is room for it."""
        peer = self._lagging(since=self._much())
        sizes = []
        for _ in range(60):
            sizes.append(peer.protocol.outbox.size)
            peer.wire.take()
        self.assertLess(max(sizes), 256 * 1024)
        self.assertEqual(of(peer.messages, "log_gap"), [])

    def test_lines_that_were_dropped_can_be_had_after_all(self) -> None:
        """[F1]: by going on from the id of what tells of them."""
        peer = self.watch()
        peer.take()
        peer.wire.lags = True
        peer.protocol.outbox._limit = 100_000
        self.world.say(self.process, MUCH)
        for _ in range(2):
            peer.wire.take()
        messages = peer.take()
        gap = messages[-1]
        told = texts(messages)
        self.assertEqual(gap["type"], "log_gap")
        self.assertEqual(gap["data"], {"process": "web", "dropped": 500 - len(told)})
        peer.lose()
        rest = self.watch(LOG, since=gap["id"]).messages
        self.assertEqual(told + texts(rest), MUCH.splitlines())

    def test_replies_for_a_client_that_reads_nothing(self) -> None:
        """[F1]: they are bounded too."""
        peer = self._lagging(since=self._much())
        self.patch(delivery, "CLIENT_LIMIT", 100_000)
        for _ in range(2000):
            peer.send("ping")
        self.world.pass_time()
        peer.wire.take()
        self.assertEqual(peer.closed, (1013, "too slow: more messages wait than may"))

    def test_another_subscribe_meanwhile(self) -> None:
        since = self._much()
        for second in ({"events": [STATUS]}, {"events": [EVENT], "since": since}, {"events": [LOG], "since": since}):
            peer = self._lagging(since=since)
            peer.wire.take(2)
            peer.send("subscribe", second, id=2)
            self.process.restart()
            self.world.pass_time(1)
            messages = self._read_all(peer)
            self.assertEqual(len([each for each in messages if each.get("reply_to") == 2]), 1)
            fresh = self.watch(since=since).take()[1:]
            for kind in KINDS:
                told = of(messages, kind)
                again = [each["id"] for each in told]
                expected = of(fresh, kind)
                if kind in second["events"] and "since" in second:
                    told = told[again.index(expected[0]["id"], 1) :] if again.count(again[0]) > 1 else told
                self.assertEqual(told, expected, (kind, second))

    def test_other_last_lines_meanwhile(self) -> None:
        self._much()
        peer = self._lagging(tail=400)
        peer.send("subscribe", {"events": [STATUS]}, id=2)
        peer.send("subscribe", {"events": [LOG], "tail": 3}, id=3)
        messages = self._read_all(peer)
        third = next(number for number, each in enumerate(messages) if each.get("reply_to") == 3)
        self.assertEqual(texts(messages[third:]), MUCH.splitlines()[-3:])
        peer = self._lagging(tail=400)
        peer.send("subscribe", {"events": [LOG], "since": self.cursor()}, id=2)
        messages = self._read_all(peer)
        second = next(number for number, each in enumerate(messages) if each.get("reply_to") == 2)
        self.assertEqual(texts(messages[second:]), [])
        peer = self._lagging(tail=400)
        peer.send("subscribe", {"events": [STATUS]}, id=2)
        self.assertEqual(texts(self._read_all(peer)), MUCH.splitlines()[-400:])

    def test_resumed_in_the_middle_of_the_last_lines(self) -> None:
        """[S7]: what happened while they were told is not lost."""
        self._much()
        peer = self._lagging(tail=400)
        self.process.restart()
        self.world.pass_time(1)
        for _ in range(2):
            peer.wire.take()
            last = peer.take()[-1]
        self.assertEqual(last["type"], LOG)
        peer.lose()
        self.assertEqual(len(of(self.watch(since=last["id"]).messages, STATUS)), 3)

    def test_unsubscribe_meanwhile(self) -> None:
        peer = self._lagging(since=self._much())
        peer.wire.take(1)
        peer.send("ping", id=1)
        peer.send("unsubscribe", {"events": [LOG]}, id=2)
        self.process.restart()
        self.world.pass_time(1)
        messages = self._read_all(peer)
        self.assertLess(len(texts(messages)), 500)
        kinds = [each["type"] for each in messages]
        self.assertNotIn(LOG, kinds[kinds.index("unsubscribed") :])
        self.assertLess(kinds.index("pong"), kinds.index("unsubscribed"))
        self.assertEqual(len(of(messages, STATUS)), 3)

    def test_unsubscribe_from_all_meanwhile(self) -> None:
        peer = self._lagging(since=self._much())
        peer.send("ping", id=1)
        peer.send("unsubscribe", {}, id=2)
        self.process.restart()
        self.world.pass_time(1)
        kinds = [each["type"] for each in self._read_all(peer) if each["type"] != LOG]
        self.assertEqual(kinds, ["subscribed", "pong", "unsubscribed"])
        self.assertEqual(self.world.channels._held, {})

    def test_others_have_their_turn(self) -> None:
        """One that catches up with much does not keep the daemon from everybody else."""
        since = self._much()
        seconds = iter(range(10**6))
        late = self.world.connect()
        self.patch(late.protocol.delivery, "_clock", _Ticking(self.world.clock, seconds))
        late.send("subscribe", {"events": KINDS, "since": since})
        self.assertLess(len(texts(late.messages)), 500)
        self.world.pass_time()
        self.assertEqual(texts(late.messages), MUCH.splitlines())


class _Ticking:
    """A clock on which every look takes a second."""

    def __init__(self, clock: object, seconds: object) -> None:
        self._clock = clock
        self._seconds = seconds

    def seconds(self) -> float:
        return float(next(self._seconds))

    def callLater(self, *args: object) -> object:
        return self._clock.callLater(*args)


class TailTests(ResumeCase):
    def test_the_last_lines_of_each(self) -> None:
        """[S9]: of both streams together, by when they were written."""
        other = self.world.start("other")
        for number in range(5):
            self.world.say(self.process, f"{number}\n", 1 + number % 2)
            self.world.pass_time(1)
        self.world.say(other, "only\n")
        peer = self.watch(LOG, tail=3)
        self.world.say(self.process, "live\n")
        self.assertEqual(texts(peer.take()), ["2", "3", "4", "only", "live"])
        self.assertEqual(texts(self.watch(LOG, tail=0).take()), [])

    def test_of_those_that_pass(self) -> None:
        self.world.say(self.process, "error: a\nb\nerror: c\nd\nerror: e\nf\n")
        self.assertEqual(texts(self.watch(LOG, tail=2, level="error").take()), ["error: c", "error: e"])

    def test_an_unfinished_line_comes_when_it_is_finished(self) -> None:
        self.witness.lose()
        self.world.say(self.process, "one\ntw")
        peer = self.watch(LOG, tail=5)
        self.world.say(self.process, "o\n")
        self.assertEqual(texts(peer.take()), ["one", "two"])

    def test_nothing_between_the_last_lines_and_the_first_live_one(self) -> None:
        """Lines and events of the very turn in which it subscribes."""
        self.process.child.childDataReceived(1, b"before\n")
        peer = self.world.connect()
        peer.send("subscribe", {"events": KINDS, "tail": 10})
        self.process.child.childDataReceived(1, b"after\n")
        self.process.stop()
        self.world.pass_time(1)
        messages = peer.take()
        self.assertEqual(texts(messages), ["before", "after"])
        self.assertEqual([each["data"]["status"] for each in of(messages, STATUS)], ["stopping", "stopped"])
        ids = [each["id"] for each in messages]
        self.assertEqual(ids, sorted(ids))

    def test_only_for_log_lines(self) -> None:
        self.world.say(self.process, "one\n")
        peer = self.watch(LOG)
        peer.take()
        peer.ask("subscribe", {"events": [STATUS], "tail": 10})
        self.assertEqual([each["type"] for each in peer.take()], ["subscribed"])
