"""The keeper begins anew, ordered to or after a defect: same pid, same children, nothing lost."""

import os
import signal
import sys
import time

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper.upgrade import FLAGS, MAIN, patience
from tests.keeper.harness import KeeperTestCase, Link, alive, until

KEY = ("web", 1)
TALKS = "i=0; while :; do echo line-$i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.001; done"


class Upgrade(KeeperTestCase):
    def upgrade(self, link: Link) -> Link:
        """Have the keeper replace itself, and return a link to what it has become."""
        self.assertEqual(link.ask("upgrade")["ok"], {})
        link.hung_up()
        return self.link()

    def test_same_pid_and_children(self) -> None:
        link = self.start()
        pid = self.sh(link, KEY, TALKS)
        fifo = os.stat(os.path.join(self.home, "fifo", "web.1.1")).st_ino
        for _ in range(3):
            before = link.hello["keeper"]
            link = self.upgrade(link)
            after = link.hello["keeper"]
            self.assertEqual((after["pid"], after["start"]), (before["pid"], before["start"]))
            kid = self.kid(link, KEY)
            self.assertEqual((kid["pid"], kid["alive"], kid["own"]), (pid, True, True))
            self.lines("web", len(self.read("web").splitlines()) + 100)
        self.assertEqual(os.stat(os.path.join(self.home, "fifo", "web.1.1")).st_ino, fifo)
        link.ask("signal", id="web", inc=1, sig=signal.SIGTERM, stop=True)
        told = link.event("exit")
        self.assertEqual((told["status"], told["how"]), (signal.SIGTERM, "child"))
        lines = self.read("web").splitlines()
        self.assertEqual(lines, [f"line-{i}" for i in range(len(lines))])

    def test_nothing_leaks_into_the_next_life(self) -> None:
        link = self.start()
        self.sh(link, KEY, "sleep 60")
        place = f"/proc/{self.keepers[0].pid}/fd"
        link = self.upgrade(link)
        before = len(os.listdir(place))
        for _ in range(2):
            link = self.upgrade(link)
        self.assertEqual(len(os.listdir(place)), before)

    def test_what_the_children_find_stays_the_same(self) -> None:
        script = "umask; ulimit -n; grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd"
        link = self.start()
        self.sh(link, ("one", 1), script)
        link.event("gone")
        link = self.upgrade(link)
        self.sh(link, ("two", 1), script)
        link.event("gone")
        self.assertEqual(self.read("one"), self.read("two"))

    def test_pipe_of_a_dead_child_is_not_lost(self) -> None:
        """As long as the disk is full its last words stay in the pipe, which nobody else holds."""
        link = self.start()
        self.sh(link, KEY, "echo first; exec sleep 60")
        self.lines("web", 1)
        link = self.upgrade(link)
        self.assertEqual(self.read("web"), "first\n")

    def test_ends_of_the_meantime_are_told(self) -> None:
        link = self.start()
        for number in range(30):
            self.sh(link, (f"w{number}", 1), f"sleep 0.0{number}; exit {number}")
        link.send({"op": "upgrade"})
        link.hung_up()
        again = self.link()
        for number in range(30):
            key = (f"w{number}", 1)
            until(lambda key=key: self.kid(again, key)["gone"])
            exit = self.kid(again, key)["exit"]
            self.assertEqual((exit["status"], exit["how"]), (number << 8, "child"))

    def test_orders_on_their_way_are_carried_out_first(self) -> None:
        link = self.start()
        link.send(*(self.order((f"w{i}", 1), "sleep", "60") for i in range(70)), {"op": "upgrade"})
        link.hung_up()
        answers = [answer for answer in link.answers.values() if "pid" in answer.get("ok", {})]
        kids = self.link().ask("state")["ok"]["kids"]
        self.assertEqual((len(answers), len(kids), len(self.everyone())), (70, 70, 70))

    def test_by_another_command(self) -> None:
        link = self.start()
        self.assertEqual(link.ask("upgrade", argv=[sys.executable, *FLAGS, MAIN, self.home])["ok"], {})
        link.hung_up()
        self.assertEqual(self.link().hello["keeper"]["pid"], link.hello["keeper"]["pid"])

    def test_code_that_cannot_run_is_not_become(self) -> None:
        link = self.start()
        pid = self.sh(link, KEY, TALKS)
        for argv in (["/nope"], [sys.executable, "-c", "1/0"]):
            self.assertIn("error", link.ask("upgrade", argv=argv))
        self.assertEqual(self.kid(link, KEY)["pid"], pid)
        self.upgrade(link)

    def test_no_signal_of_the_meantime_ends_it(self) -> None:
        link = self.start()
        pid = self.sh(link, KEY, "exec sleep 60")
        link.send({"op": "upgrade"})
        link.hung_up()
        (keeper,) = self.keepers
        again = self.link(version=None)
        again.send({"op": "hello", "version": 1})
        while not again.ready(0.001):
            keeper.send_signal(signal.SIGTERM)
        self.assertEqual(self.kid(again, KEY)["pid"], pid)

    def test_lock_is_never_let_go_of(self) -> None:
        self.upgrade(self.start())
        second = self.launch()
        self.assertEqual(second.wait(15), 75)


class Defects(KeeperTestCase):
    """An unexpected exception: the next life begins from the journal."""

    def defect(self, link: Link) -> Link:
        """Have an order meet a defect; its sender is told."""
        self.assertIn("defect", link.ask("ping")["error"])
        link.hung_up()
        return self.link()

    def test_children_notice_nothing(self) -> None:
        link = self.start(crash_at="!on_ping")
        pid = self.sh(link, KEY, TALKS)
        for _ in range(3):
            before = link.hello["keeper"]["pid"]
            link = self.defect(link)
            kid = self.kid(link, KEY)
            self.assertEqual((kid["pid"], kid["own"], link.hello["keeper"]["pid"]), (pid, True, before))
            self.lines("web", len(self.read("web").splitlines()) + 10)
        link.ask("signal", id="web", inc=1, sig=signal.SIGTERM, stop=True)
        self.assertEqual(link.event("exit")["how"], "child")
        lines = self.read("web").splitlines()
        self.assertEqual(lines, [f"line-{i}" for i in range(len(lines))])

    def test_told_in_its_log(self) -> None:
        self.defect(self.start(crash_at="!on_ping"))
        with open(os.path.join(self.home, "keeper.log")) as file:
            text = file.read()
        self.assertIn("a defect: Traceback", text)
        self.assertIn("RuntimeError: told to fail at on_ping", text)

    def test_one_that_comes_at_once_every_time_does_not_spin(self) -> None:
        keeper = self.launch(crash_at="!adopt")
        until(lambda: self.lives() >= 3)
        began, lives = time.monotonic(), self.lives()
        until(lambda: self.lives() > lives)
        self.assertGreater(time.monotonic() - began, 0.2)
        self.assertTrue(alive(keeper.pid))

    def lives(self) -> int:
        """How many have met a defect."""
        try:
            with open(os.path.join(self.home, "keeper.log")) as file:
                return file.read().count("a defect")
        except FileNotFoundError:
            return 0


class Patience(SynchronousTestCase):
    def test_grows_and_is_bounded(self) -> None:
        waits = [patience([100.0] * number, 110.0) for number in range(12)]
        self.assertEqual(waits[:4], [0.0, 0.0, 0.4, 0.8])
        self.assertEqual(max(waits), 10.0)

    def test_old_ones_do_not_count(self) -> None:
        self.assertEqual(patience([1.0, 2.0, 3.0, 100.0], 110.0), 0.0)
