"""The machine's process table, against real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon import proctable
from pmdaemon.daemon.proctable import Entry, ProcTable, cookies, identity, kill, read, session_members, snapshot


def entry(pid: int, ppid: int, session: int) -> Entry:
    return Entry(pid=pid, ppid=ppid, group=session, session=session, start=0, cpu=0, rss=0, zombie=False)


class Trees(SynchronousTestCase):
    """Whom a tree holds."""

    table = ProcTable(
        [
            entry(1, 0, 1),
            entry(10, 1, 10),
            entry(11, 10, 10),
            entry(12, 11, 12),  # made a session
            entry(13, 1, 10),  # was orphaned
            entry(14, 13, 14),  # child of an orphan, made a session
            entry(20, 1, 20),
        ]
    )

    def pids(self, pid: int) -> list[int]:
        return [entry.pid for entry in self.table.tree(pid)]

    def test_descendants_and_session_members_and_their_descendants(self) -> None:
        assert sorted(self.pids(10)) == [10, 11, 12, 13, 14]

    def test_root_first(self) -> None:
        assert self.pids(10)[0] == 10
        assert self.pids(12) == [12]

    def test_nobody(self) -> None:
        assert self.pids(99) == []
        assert self.table.get(99) is None

    def test_session_of_a_root_that_has_gone(self) -> None:
        table = ProcTable([entry(13, 1, 10), entry(14, 13, 14)])
        assert sorted(entry.pid for entry in table.tree(10)) == [13, 14]

    def test_a_loop_ends(self) -> None:
        assert len(ProcTable([entry(1, 2, 1), entry(2, 1, 2)]).tree(1)) == 2


class RealProcesses(SynchronousTestCase):
    """What is read of processes that this test started."""

    def start(self, *argv: str, env: dict[str, str] | None = None, executable: str | None = None) -> int:
        popen = subprocess.Popen(argv, executable=executable, env=env, start_new_session=True)
        self.addCleanup(popen.wait)
        self.addCleanup(popen.kill)
        return popen.pid

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "took too long"

    def test_as_psutil_has_it(self) -> None:
        pid = os.getpid()
        ours, theirs = snapshot().get(pid), psutil.Process(pid)
        assert ours is not None
        assert (ours.ppid, ours.group, ours.session) == (os.getppid(), os.getpgrp(), os.getsid(0))
        assert abs(ours.rss - theirs.memory_info().rss) < ours.rss / 2
        times = theirs.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        assert abs(ours.cpu - total) < 0.5
        assert not ours.zombie

    def test_the_other_way_finds_the_same(self) -> None:
        pid = self.start("sleep", "60")
        ours = read(pid)
        self.patch(proctable, "_LINUX", False)
        theirs = read(pid)
        assert ours is not None
        assert theirs is not None
        assert (ours.ppid, ours.group, ours.session) == (theirs.ppid, theirs.group, theirs.session)
        assert snapshot().get(pid) is not None
        assert identity(pid) == theirs.start
        assert pid in session_members(pid)
        assert read(2**22 + 1) is None

    def test_cpu_of_children_that_ended_is_counted(self) -> None:
        burn = "import time\nwhile time.process_time() < 0.3: pass"
        pid = self.start("sh", "-c", f"{sys.executable} -c '{burn}'; exec sleep 60")
        self.until(lambda: len(snapshot().tree(pid)) == 1 and (read(pid) or entry(0, 0, 0)).cpu >= 0.2)

    def test_names_with_blanks_and_parentheses(self) -> None:
        sleep = shutil.which("sleep")
        assert sleep is not None
        for name in ("a b", "a) R 1 (b", "((", "))", ") S 1 1 1", "a\nb"):
            path = os.path.abspath(self.mktemp())
            os.mkdir(path)
            shutil.copy(sleep, os.path.join(path, name))
            pid = self.start(os.path.join(path, name), "60")
            found = read(pid)
            assert found is not None
            assert (found.pid, found.ppid, found.session) == (pid, os.getpid(), pid), name

    def test_zombie(self) -> None:
        pid = self.start("true")
        self.until(lambda: (read(pid) or entry(0, 0, 0)).zombie)
        assert pid in session_members(pid)

    def test_session_members(self) -> None:
        pid = self.start("sh", "-c", "sleep 60 & sleep 60")
        self.until(lambda: len(session_members(pid)) == 3)
        assert set(session_members(pid)) == {entry.pid for entry in snapshot().tree(pid)}
        os.killpg(pid, signal.SIGKILL)

    def test_cookies(self) -> None:
        one = self.start("sleep", "60", env={"PMD_TEST": "a=b", "XPMD_TEST": "c"})
        two = self.start("sleep", "60", env={"FILLER": "x" * 100_000, "PMD_TEST": "d"})
        self.start("sleep", "60", env={})
        assert cookies("PMD_TEST") == {"a=b": [one], "d": [two]}
        self.patch(proctable, "_LINUX", False)
        assert cookies("PMD_TEST") == {"a=b": [one], "d": [two]}

    def test_kill(self) -> None:
        pid = self.start("sleep", "60")
        found = read(pid)
        assert found is not None
        assert kill(found, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert not kill(found, signal.SIGKILL)
        assert identity(pid) is None

    def test_kill_spares_whoever_has_the_pid_now(self) -> None:
        pid = self.start("sleep", "60")
        earlier = entry(pid, 1, 1)
        assert not kill(earlier, signal.SIGKILL)
        self.patch(proctable, "_open_pidfd", lambda pid: None)
        assert not kill(earlier, signal.SIGKILL)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)

    def test_kill_where_there_are_no_pidfds(self) -> None:
        self.patch(proctable, "_open_pidfd", lambda pid: None)
        pid = self.start("sleep", "60")
        found = read(pid)
        assert found is not None
        assert kill(found, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
