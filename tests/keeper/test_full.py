"""The disk is full, or no more files can be opened: all waits or is told, nothing is lost or torn."""

import errno
import os
import resource
import signal
import subprocess
from unittest import SkipTest

from pmdaemon.keeper.table import read
from tests.keeper.harness import KeeperTestCase, Link, alive, until

KEY = ("web", 1)


class FullDisk(KeeperTestCase):
    def small_disk(self, place: str) -> None:
        """Make a disk of 64 KiB there, until `grow`."""
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
        if made.returncode:
            raise SkipTest("nothing can be mounted here")
        self.disk = place
        self.addCleanup(subprocess.run, ["umount", "--lazy", place], check=True)

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=4m", self.disk], check=True)

    def numbers(self, number: int) -> str:
        return "".join(f"line-{i}\n" for i in range(number))

    def write(self, link: Link, number: int, **more: str) -> int:
        script = f"i=0; while [ $i -lt {number} ]; do echo line-$i; i=$((i+1)); done; exit 3"
        return self.sh(link, KEY, script, **more)

    def test_child_waits_for_space(self) -> None:
        self.small_disk(self.place)
        link = self.start()
        pid = self.write(link, 200_000)  # more than its pipe may hold
        trouble = link.event("trouble")
        self.assertEqual((trouble["errno"], trouble["dropped_bytes"]), (errno.ENOSPC, 0))
        self.assertEqual(self.kid(link, KEY)["trouble"]["errno"], errno.ENOSPC)
        self.assertTrue(alive(pid))
        self.grow()
        self.assertEqual(link.event("exit")["status"], 3 << 8)
        self.assertEqual(link.event("trouble")["errno"], None)
        self.assertEqual(self.read("web"), self.numbers(200_000))

    def test_last_words_wait_for_space_even_over_an_upgrade(self) -> None:
        """They are in the pipe only, which nobody but the keeper holds any more."""
        self.small_disk(self.place)
        link = self.start()
        self.write(link, 10_000)
        self.assertEqual(link.event("exit")["status"], 3 << 8)
        link.event("gone")
        link.ask("ack", id="web", inc=1)
        self.assertLess(len(self.read("web")), len(self.numbers(10_000)))
        link.ask("upgrade")
        link.hung_up()
        again = self.link()
        self.assertEqual(len(again.ask("state")["ok"]["kids"]), 1)
        self.grow()
        until(lambda: self.read("web") == self.numbers(10_000))
        until(lambda: again.ask("state")["ok"]["kids"] == [])

    def test_dropped_and_counted(self) -> None:
        self.small_disk(self.place)
        link = self.start()
        self.write(link, 40_000, on_full="drop")
        self.assertEqual(link.event("exit")["status"], 3 << 8)
        told = link.wait(lambda message: message.get("ev") == "trouble" and message["dropped_lines"] > 0)
        dropped = told["dropped_lines"]
        self.assertGreater(dropped, 10_000)
        self.assertTrue(self.read("web").startswith(self.numbers(1000)))


class FullJournal(KeeperTestCase):
    def test_end_waits_for_the_journal(self) -> None:
        """Until it is noted how a child ended, the system keeps it."""
        link = self.start()
        (keeper,) = self.keepers
        pid = self.sh(link, KEY, "kill -STOP $$; exit 7")
        until(lambda: self.is_stopped(pid))
        size = os.path.getsize(os.path.join(self.home, "keeper.jsonl"))
        resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        (number,) = link.send(self.order(("other", 1), "sleep", "60"))
        error = link.answer(number)["error"]
        self.assertEqual((error["errno"], error["where"]), (errno.EFBIG, "journal"))
        os.kill(pid, signal.SIGCONT)
        until(lambda: not alive(pid))
        link.ask("ping")
        self.assertIsNotNone(read(pid))
        self.assertTrue(self.kid(link, KEY)["alive"])
        self.assertEqual(self.everyone(), [])
        resource.prlimit(keeper.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        told = link.event("exit")
        self.assertEqual((told["status"], told["how"]), (7 << 8, "child"))
        until(lambda: read(pid) is None)

    def is_stopped(self, pid: int) -> bool:
        with open(f"/proc/{pid}/stat") as file:
            return ") T " in file.read()


class ManyFiles(KeeperTestCase):
    def test_start_that_finds_no_file_to_open_is_refused(self) -> None:
        for files in range(60, 67):  # so that each file of a child's is once the one too many
            self.home = os.path.abspath(self.mktemp())
            self.launch(files=files)
            link = self.link()
            orders = [self.order((f"w{i}", 1), "sleep", "60") for i in range(12)]
            answers = [link.answer(number) for number in link.send(*orders)]
            started = {answer["ok"]["pid"]: answer["ok"]["start"] for answer in answers if "ok" in answer}
            self.assertEqual({answer["error"]["errno"] for answer in answers if "error" in answer}, {errno.EMFILE})
            self.assertEqual({pid: self.birth(pid) for pid in self.everyone()}, started)
            self.assertTrue(started)
            link.send(*({"op": "signal", "id": f"w{i}", "inc": 1, "sig": signal.SIGKILL} for i in range(12)))
            for number in range(len(started)):
                link.event("gone", (f"w{number}", 1))
            self.spawn(link, ("w30", 1), "true")
            self.kill(self.keepers[-1])
            self.nothing_left()

    def birth(self, pid: int) -> int:
        entry = read(pid)
        assert entry is not None
        return entry.start
