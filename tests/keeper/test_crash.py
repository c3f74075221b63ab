"""The keeper dies at any place, and the next one knows all children: none is lost, doubled or unknown."""

import os
import signal
import subprocess
from typing import Any

from pmdaemon.keeper.journal import Journal
from pmdaemon.keeper.kids import remember
from tests.keeper.harness import KeeperTestCase, Link, alive, subreaper, until

KEY = ("web", 1)


class CrashTestCase(KeeperTestCase):
    def crashes(self, place: str) -> Link:
        """Start a keeper that dies at a place, and wait for it there when ``died`` is called."""
        return self.start(crash_at=place)

    def died(self) -> None:
        (*_, keeper) = self.keepers
        self.assertEqual(keeper.wait(15), 137)

    def journalled(self) -> list[tuple[str, int]]:
        journal = Journal(os.path.join(self.home, "keeper.jsonl"))
        self.addCleanup(journal.close)
        return list(remember(journal.replay()))


class Places(CrashTestCase):
    def test_between_fork_and_journal_no_child_runs(self) -> None:
        first = self.crashes("after_fork")
        first.send(*(self.order((f"w{i}", 1), "sleep", "60") for i in range(5)))
        self.died()
        self.nothing_left()
        self.assertEqual(self.journalled(), [])
        again = self.start()
        self.assertEqual(again.ask("state")["ok"]["kids"], [])
        self.spawn(again, ("w1", 1), "sleep", "60")
        self.assertEqual(len(self.everyone()), 1)

    def test_between_journal_and_word_no_child_runs_and_all_are_told(self) -> None:
        first = self.crashes("after_journal")
        first.send(*(self.order((f"w{i}", 1), "sleep", "60") for i in range(5)))
        self.died()
        self.nothing_left()
        again = self.start()
        for number in range(5):
            key = (f"w{number}", 1)
            until(lambda key=key: self.kid(again, key)["exit"])
            told = self.kid(again, key)["exit"]
            # Known where nobody has reaped it yet: 125 is that of one whose keeper has died.
            self.assertIn((told["status"], told["how"]), [(None, "unknown"), (125 << 8, "zombie")])

    def test_after_the_word_all_children_run_and_are_known(self) -> None:
        first = self.crashes("after_go")
        orders = [self.order((f"w{i}", 1), "sleep", "60") for i in range(5)]
        first.send(*orders)
        self.died()
        again = self.start()
        self.assertEqual(len(self.everyone()), 5)
        for order, number in zip(orders, again.send(*orders), strict=True):
            pid = again.answer(number)["ok"]["pid"]
            kid = self.kid(again, (order["id"], 1))
            self.assertEqual((kid["pid"], kid["alive"], kid["own"]), (pid, True, False))
        self.assertEqual(len(self.everyone()), 5)

    def test_before_the_answer_the_order_can_be_repeated(self) -> None:
        first = self.crashes("before_reply")
        first.send(self.order(KEY, "sleep", "60"))
        self.died()
        pid = self.spawn(self.start(), KEY, "sleep", "60")
        self.assertEqual(self.everyone(), [pid])

    def test_end_in_the_journal_is_told_by_the_next(self) -> None:
        first = self.crashes("after_exit_journal")
        first.send(self.order(KEY, "sh", "-c", "echo said; exit 3"))  # it may end before that is answered
        self.died()
        kid = self.kid(self.start(), KEY)
        self.assertEqual((kid["exit"]["status"], kid["exit"]["how"], kid["exit"]["end"]["1"]), (3 << 8, "child", 5))
        self.assertEqual(self.read("web"), "said\n")

    def test_what_was_not_acknowledged_in_the_journal_is_told_again(self) -> None:
        first = self.crashes("before_ack")
        self.sh(first, KEY, "exit 3")
        first.event("gone")
        first.send({"op": "ack", "id": "web", "inc": 1})
        self.died()
        again = self.start()
        self.assertEqual(self.kid(again, KEY)["exit"]["status"], 3 << 8)
        again.ask("ack", id="web", inc=1)
        self.kill(self.keepers[-1])
        self.assertEqual(self.start().ask("state")["ok"]["kids"], [])


class Killed(CrashTestCase):
    """The keeper is killed; another adopts the children."""

    last = ("pidfd",)

    def setUp(self) -> None:
        super().setUp()
        subreaper()
        self.addCleanup(subreaper, False)

    def adopted(self, script: str, **more: Any) -> tuple[Link, int]:
        """A child of a keeper that was killed, and the link to the next keeper."""
        pid = self.sh(self.start(), KEY, script, **more)
        self.lines("web", 1)
        self.kill(self.keepers[-1])
        return self.start(), pid

    def test_lives_on_and_is_known(self) -> None:
        again, pid = self.adopted("echo up; while :; do echo more; sleep 0.01; done")
        kid = self.kid(again, KEY)
        self.assertEqual((kid["pid"], kid["alive"], kid["own"], kid["exit"]), (pid, True, False, None))
        size = len(self.read("web"))
        until(lambda: len(self.read("web")) > size)
        again.ask("signal", id="web", inc=1, sig=signal.SIGKILL, scope="tree")
        os.waitpid(pid, 0)
        again.event("gone")
        self.nothing_left()

    def test_no_line_is_lost_or_torn(self) -> None:
        script = "i=0; while :; do echo line-$i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.001; done"
        again = self.start()
        self.sh(again, KEY, script)
        for _ in range(3):
            self.lines("web", len(self.read("web").splitlines()) + 100)
            self.kill(self.keepers[-1])
            again = self.start()
        again.ask("signal", id="web", inc=1, sig=signal.SIGTERM, stop=True)
        until(lambda: self.kid(again, KEY)["gone"])
        lines = self.read("web").splitlines()
        self.assertEqual(lines, [f"line-{i}" for i in range(len(lines))])

    def test_how_it_ends(self) -> None:
        again, pid = self.adopted("echo up; read x < go; exit 3", cwd=self.fifo())
        self.go()
        os.waitpid(pid, 0)
        told = again.event("exit")
        self.assertIn((told["status"], told["how"]), [(3 << 8, how) for how in (*self.last, "zombie")])

    def test_signals(self) -> None:
        again, pid = self.adopted("trap 'echo usr' USR1; trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done")
        again.ask("signal", id="web", inc=1, sig=signal.SIGUSR1, scope="main")
        self.lines("web", 2)
        again.ask("signal", id="web", inc=1, sig=signal.SIGTERM, stop=True)
        os.waitpid(pid, 0)
        self.assertIn(again.event("exit")["status"], (5 << 8, None))
        self.assertEqual(again.ask("signal", id="web", inc=1, sig=signal.SIGTERM, scope="main")["error"], "ended")

    def test_end_while_there_was_no_keeper_is_unknown_never_success(self) -> None:
        pid = self.sh(self.start(), KEY, "echo up; read x < go; echo last; exit 0", cwd=self.fifo())
        self.lines("web", 1)
        held = os.open(os.path.join(self.home, "fifo", "web.1.1"), os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, held)
        self.kill(self.keepers[-1])
        self.go()
        os.waitpid(pid, 0)
        again = self.start()
        until(lambda: self.kid(again, KEY)["gone"])
        kid = self.kid(again, KEY)
        self.assertEqual((kid["exit"]["status"], kid["exit"]["how"]), (None, "unknown"))
        # What it said last was kept by whoever held the pipe, as a daemon does.
        self.assertEqual(self.read("web"), "up\nlast\n")

    def test_end_while_there_was_no_keeper_and_nobody_reaped(self) -> None:
        pid = self.sh(self.start(), KEY, "echo up; read x < go; exit 7", cwd=self.fifo())
        self.lines("web", 1)
        self.kill(self.keepers[-1])
        self.go()
        until(lambda: not alive(pid))
        again = self.start()
        until(lambda: self.kid(again, KEY)["gone"])
        exit = self.kid(again, KEY)["exit"]
        self.assertEqual((exit["status"], exit["how"]), (7 << 8, "zombie"))
        os.waitpid(pid, 0)

    def test_leftovers_of_one_that_was_asked_to_stop(self) -> None:
        """The next keeper knows that it was asked, and by which signal, and does not kill them."""
        left = "setsid sh -c \"trap '' TERM; echo up; while :; do sleep 0.01; done\" & "
        self.sh(self.start(), KEY, f"trap 'exit 0' TERM; {left} while :; do sleep 0.01; done")
        self.lines("web", 1)
        first = self.link()
        first.ask("signal", id="web", inc=1, sig=signal.SIGTERM, stop=True)
        first.event("exit")
        self.kill(self.keepers[-1])
        again = self.start()
        self.assertTrue(self.everyone())
        self.assertEqual(self.kid(again, KEY)["gone"], False)
        again.ask("signal", id="web", inc=1, sig=signal.SIGKILL, scope="tree")
        again.event("gone")
        self.nothing_left()

    def test_other_boot(self) -> None:
        """All that it tells of are gone, and whoever has their pids now is left alone."""
        self.adopted("echo up; exec sleep 60")
        self.kill(self.keepers[-1])
        path = os.path.join(self.home, "keeper.jsonl")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace('"boot":"', '"boot":"other-'))
        kid = self.kid(self.start(), KEY)
        self.assertEqual((kid["alive"], kid["gone"], kid["exit"]["status"]), (False, True, None))
        self.assertEqual(len(self.everyone()), 1)

    def test_pid_given_to_somebody_else(self) -> None:
        self.adopted("echo up; exec sleep 60")
        self.kill(self.keepers[-1])
        path = os.path.join(self.home, "keeper.jsonl")
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(text.replace('"start":', '"start":1'))
        again = self.start()
        until(lambda: self.kid(again, KEY)["gone"])
        self.assertEqual(self.kid(again, KEY)["exit"]["how"], "unknown")
        self.assertEqual(again.ask("signal", id="web", inc=1, sig=9, scope="main")["error"], "ended")

    def fifo(self) -> str:
        """A place with a pipe in it, which a child waits for."""
        os.mkfifo(os.path.join(self.place, "go"))
        return self.place

    def go(self) -> None:
        """Have the child that waits go on."""
        subprocess.run(["sh", "-c", "echo > go"], cwd=self.place, check=True, timeout=15)


class KilledBeforeLinux615(Killed):
    """The kernel tells only the parent how a process ended."""

    without = "pidfd_exit,cgroup"
    last = ("unknown",)

    def test_how_it_ends(self) -> None:
        again, pid = self.adopted("echo up; read x < go; exit 3", cwd=self.fifo())
        self.go()
        os.waitpid(pid, 0)
        told = again.event("exit")
        self.assertIn((told["status"], told["how"]), [(None, "unknown"), (3 << 8, "zombie")])


class KilledWithoutDescriptors(KilledBeforeLinux615):
    without = "pidfd,splice,cgroup,waitid"

    def test_no_line_is_lost_or_torn(self) -> None:
        """Only a kill between reading and writing can lose any here, so nothing is promised."""
