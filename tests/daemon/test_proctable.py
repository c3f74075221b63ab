"""What is read of the machine's processes, against real ones, and how few calls of the system that takes."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pmdaemon.daemon import proctable
from pmdaemon.daemon.proctable import PsutilSource, Source, Stat, StatSource, cookies, process_source, sessions
from pmdaemon.daemon.trees import Trees


class ProcessCase(SynchronousTestCase):
    """A test that starts processes; each ends with it."""

    def start(self, *argv: str, **options: Any) -> int:
        popen = subprocess.Popen(argv, start_new_session=True, **options)
        self.addCleanup(popen.wait)
        self.addCleanup(_kill_group, popen.pid)
        return popen.pid

    def end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), deadline, "took too long")

    def open(self, source: Source, pid: int) -> Stat:
        stat = source.open(pid)
        assert stat is not None
        self.addCleanup(stat.close)
        return stat


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class ReadingTests(ProcessCase):
    """What both sources have in common."""

    def sources(self) -> list[Source]:
        return [StatSource(), PsutilSource()] if sys.platform == "linux" else [PsutilSource()]

    def test_as_psutil_has_it(self) -> None:
        theirs = psutil.Process()
        for source in self.sources():
            ours, times = self.open(source, os.getpid()).usage, theirs.cpu_times()
            self.assertEqual((ours.pid, ours.ppid, ours.session), (os.getpid(), os.getppid(), os.getsid(0)))
            self.assertLess(abs(ours.rss - theirs.memory_info().rss), ours.rss / 2)
            self.assertLess(abs(ours.own - times.user - times.system), 0.5)
            self.assertLess(abs(ours.waited - times.children_user - times.children_system), 0.5)

    def test_who_came_and_who_went(self) -> None:
        for source in self.sources():
            source.changes()
            pid = self.start("sleep", "60")
            self.assertIn(pid, source.changes()[0])
            self.assertNotIn(pid, [*source.changes()[0], *source.changes()[1]])
            self.end(pid)
            self.assertIn(pid, source.changes()[1])

    def test_one_that_has_gone(self) -> None:
        for source in self.sources():
            pid = self.start("sleep", "60")
            stat = self.open(source, pid)
            self.assertEqual(stat.read(), stat.usage)
            self.end(pid)
            self.assertEqual((stat.read(), stat.read(), source.open(pid)), (None, None, None))
            self.assertEqual(stat.usage.pid, pid, "what was read last")

    def test_nothing_new_is_the_same_object(self) -> None:
        for source in self.sources():
            pid = self.start("sleep", "60")
            stat = self.open(source, pid)
            self.until(lambda stat=stat: stat.read() is stat.read())

    def test_cpu_of_a_child_that_was_waited_for(self) -> None:
        burn = "import time\nwhile time.process_time() < 0.3: pass"
        pid = self.start("sh", "-c", f"{sys.executable} -c '{burn}'; exec sleep 60")
        for source in self.sources():
            stat = self.open(source, pid)
            self.until(lambda stat=stat: (stat.read() or stat.usage).waited >= 0.2)


class StatTests(ProcessCase):
    """/proc/PID/stat, kept open."""

    def setUp(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("only Linux has these files")
        self.source = StatSource()

    def counted(self) -> "Counter[str]":
        """How often the system is called from now on."""
        calls: Counter[str] = Counter()

        def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                calls[name] += 1
                return real(*args)

            return call

        for name in ("open", "read", "pread", "close", "scandir", "stat", "listdir"):
            self.patch(os, name, counting(name, getattr(os, name)))
        return calls

    def test_the_platform_has_it(self) -> None:
        self.assertIsInstance(process_source(), StatSource)
        self.patch(proctable, "_LINUX", False)
        self.assertIsInstance(process_source(), PsutilSource)

    def test_names_with_blanks_and_parentheses(self) -> None:
        sleep = shutil.which("sleep")
        assert sleep is not None
        for name in ("a b", "a) R 1 (b", "((", "))", ") S 1 1 1", "a\nb"):
            path = os.path.abspath(self.mktemp())
            os.mkdir(path)
            shutil.copy(sleep, os.path.join(path, name))
            pid = self.start(os.path.join(path, name), "60")
            usage = self.open(self.source, pid).usage
            self.assertEqual((usage.pid, usage.ppid, usage.session), (pid, os.getpid(), pid), name)

    def test_one_listing_and_a_read_for_each(self) -> None:
        """For a known load: eight trees, two of them with a child."""
        roots = [self.start("sleep", "60") for _ in range(6)]
        roots += [self.start("sh", "-c", "sleep 60 & wait") for _ in range(2)]
        trees = Trees(self.source)
        self.addCleanup(list, trees.look({}, {}))

        def look() -> None:
            for _ in trees.look(dict(enumerate(roots)), {}):
                continue

        self.until(lambda: look() or self.source.kept == 10)
        calls = self.counted()
        look()
        self.assertEqual((calls["scandir"], calls["listdir"], calls["stat"], calls["read"]), (1, 0, 0, 0))
        # Others start processes on this machine meanwhile, each of which is opened once.
        self.assertTrue(10 <= calls["pread"] <= 10 + calls["open"], calls)

    def test_beyond_its_share_of_the_descriptors(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.patch(self.source, "kept", soft)
        pid = self.start("sleep", "60")
        stat = self.open(self.source, pid)
        calls = self.counted()
        self.assertEqual((stat.read(), calls["open"], calls["close"], calls["pread"]), (stat.usage, 1, 1, 0))
        self.end(pid)
        self.assertEqual(stat.read(), None)
        stat.close()
        self.assertEqual(self.source.kept, soft)

    def test_beyond_its_share_another_with_the_same_pid_is_another(self) -> None:
        self.patch(proctable, "_room", lambda: 0)
        stat = self.open(self.source, self.start("sleep", "60"))
        stat.usage = stat.usage._replace(start=stat.usage.start - 1)
        stat._line = b""  # type: ignore[attr-defined]
        self.assertEqual(stat.read(), None)

    def test_descriptors_are_let_go_of(self) -> None:
        pids = [self.start("sleep", "60") for _ in range(3)]
        before = os.listdir("/proc/self/fd")
        trees = Trees(self.source)
        for _ in trees.look(dict(enumerate(pids)), {}):
            continue
        self.assertEqual((self.source.kept, len(os.listdir("/proc/self/fd"))), (3, len(before) + 3))
        self.end(pids[0])
        for roots in (pids, []):
            for _ in trees.look(dict(enumerate(roots)), {}):
                continue
            self.assertEqual(self.source.kept, 2 if roots else 0)
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_no_descriptor_is_left(self) -> None:
        """It is looked at again as soon as there is one."""
        pid = self.start("sleep", "60")
        self.source.changes()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            self.assertEqual(self.source.open(pid), None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertIn(pid, self.source.changes()[0])
        self.open(self.source, pid)

    def test_a_pid_that_is_used_again(self) -> None:
        pid = self.start("sleep", "60")
        self.source.changes()
        stat = self.open(self.source, pid)
        self.end(pid)
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        except OSError as why:
            raise SkipTest(f"may not choose a pid: {why}") from why
        if self.start("sleep", "60") != pid:
            raise SkipTest("another program of this machine was quicker")
        self.assertEqual([pid in changes for changes in self.source.changes()], [True, True])
        self.assertEqual(stat.read(), None)
        self.assertGreaterEqual(self.open(self.source, pid).usage.start, stat.usage.start)


class MarkTests(ProcessCase):
    """Sessions and cookies."""

    def test_sessions(self) -> None:
        pid = self.start("sh", "-c", "sleep 60 & sleep 60")
        self.until(lambda: len(sessions().get(pid, ())) == 3)
        self.patch(proctable, "_LINUX", False)
        self.assertEqual(len(sessions()[pid]), 3)

    def test_zombies_are_in_their_session(self) -> None:
        pid = self.start("true")
        self.until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        self.assertIn(pid, sessions()[pid])

    def test_cookies(self) -> None:
        one = self.start("sleep", "60", env={"PMD_TEST": "a=b", "XPMD_TEST": "c"})
        two = self.start("sleep", "60", env={"FILLER": "x" * 100_000, "PMD_TEST": "d"})
        self.start("sleep", "60", env={})
        self.assertEqual(cookies("PMD_TEST"), {"a=b": [one], "d": [two]})
        self.patch(proctable, "_LINUX", False)
        self.assertEqual(cookies("PMD_TEST"), {"a=b": [one], "d": [two]})
