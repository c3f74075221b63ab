"""What the daemon holds of a child, and how a keeper is started: with real processes."""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from pmdaemon.daemon.hold import Hold
from pmdaemon.daemon.keeperlaunch import launch_keeper, socket_path
from pmdaemon.keeper.features import summary
from pmdaemon.keeper.table import read
from tests.daemon.recorder import until

LIMIT = (1000, 1000)


class HoldTests(SynchronousTestCase):
    def start(self, script: str) -> "tuple[subprocess.Popen[bytes], int]":
        child = subprocess.Popen(["sh", "-c", script])
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        entry = read(child.pid)
        assert entry is not None
        return child, entry.start

    def hold(self, pid: int, start: int, *pipes: str) -> Hold:
        hold = Hold(pid, start, pipes)
        self.addCleanup(hold.close)
        return hold

    def test_how_it_ended_whoever_reaped_it(self) -> None:
        if "pidfd_exit" not in summary(cgroup=False):
            raise SkipTest("this kernel tells it the parent alone")
        child, start = self.start("exec sleep 1000")
        hold = self.hold(child.pid, start)
        self.assertIsNone(hold.status())
        child.send_signal(signal.SIGTERM)
        child.wait()
        self.assertEqual(hold.status(), signal.SIGTERM)

    def test_a_later_process_with_its_pid(self) -> None:
        child, start = self.start("exec sleep 1000")
        hold = self.hold(child.pid, start - 1)
        hold.kill()
        self.assertIsNone(child.poll())
        self.assertIsNone(hold.status())

    def test_kill(self) -> None:
        child, start = self.start("exec sleep 1000")
        hold = self.hold(child.pid, start)
        hold.kill()
        self.assertEqual(child.wait(), -signal.SIGKILL)
        hold.kill()

    def test_last_words_stay_in_the_pipe(self) -> None:
        pipe = os.path.join(tempfile.mkdtemp(dir="."), "pipe")
        os.mkfifo(pipe)
        hold = self.hold(os.getpid(), 0, pipe, pipe + ".missing")
        writer = os.open(pipe, os.O_RDWR)
        os.write(writer, b"last words")
        os.close(writer)
        reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertEqual(os.read(reader, 99), b"last words")
        hold.close()
        hold.close()


class LaunchTests(TestCase):
    timeout = 20

    async def test_one_that_cannot_begin_says_why(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="pmdaemon-", dir="."))
        (home / "keeper.lock").mkdir()
        launched = launch_keeper(home, LIMIT)
        self.assertIn("keeper.lock", await until(launched.failure))

    async def test_the_second_of_a_home_leaves_it_to_the_first(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="pmdaemon-", dir="."))
        first = launch_keeper(home, LIMIT)
        await until((home / "keeper.sock").exists)
        pid = int((home / "keeper.lock").read_text())
        self.addCleanup(lambda: first._process.wait(10))
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        second = launch_keeper(home, LIMIT)
        await until(lambda: second._process.poll() is not None)
        self.assertEqual((first.failure(), second.failure()), (None, None))
        self.assertIn(f"Max open files            {LIMIT[0]} ", Path(f"/proc/{pid}/limits").read_text())

    def test_socket_path(self) -> None:
        self.assertEqual(socket_path(Path("/home"), 5), "/home/keeper.sock")
        self.assertEqual(socket_path(Path("/" + "x" * 100), 5), "/proc/self/fd/5/keeper.sock")
        self.assertEqual(socket_path(Path("/" + "ä" * 50), 5), "/proc/self/fd/5/keeper.sock")
        self.assertEqual(socket_path(Path("/" + "x" * 100), -1), f"/{'x' * 100}/keeper.sock")
