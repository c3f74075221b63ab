"""The process table, from /proc and from ps; marks that a tree bears; signals that reach nobody else."""

import os
import signal
import subprocess
import sys
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper import table
from pmdaemon.keeper.table import Table, kill, marks, read, snapshot
from tests.keeper.harness import alive, until


class TableTestCase(SynchronousTestCase):
    def start(self, *argv: str, **options: Any) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, **options)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process


class Reading(TableTestCase):
    def test_child(self) -> None:
        process = self.start("sleep", "60", start_new_session=True)
        entry = read(process.pid)
        assert entry is not None
        self.assertEqual((entry.pid, entry.ppid), (process.pid, os.getpid()))
        self.assertEqual((entry.group, entry.session, entry.zombie, entry.status), (entry.pid, entry.pid, False, None))
        self.assertEqual(snapshot().get(process.pid), entry)

    def test_zombie_and_how_it_ended(self) -> None:
        process = self.start("sh", "-c", "exit 3")
        until(lambda: not alive(process.pid))
        entry = read(process.pid)
        assert entry is not None
        self.assertEqual((entry.zombie, entry.status), (True, 3 << 8))

    def test_none(self) -> None:
        process = self.start("true")
        process.wait()
        self.assertIsNone(read(process.pid))

    def test_name_with_a_parenthesis(self) -> None:
        code = "import time; open('/proc/self/comm', 'w').write(') Z 1 2 ('); print('up', flush=True); time.sleep(60)"
        process = self.start(sys.executable, "-c", code)
        assert process.stdout is not None
        process.stdout.readline()
        entry = read(process.pid)
        assert entry is not None
        self.assertEqual((entry.ppid, entry.zombie), (os.getpid(), False))

    def test_tree(self) -> None:
        script = "sleep 60 & (sleep 60 & echo up; exec sleep 60) & wait"
        process = self.start("sh", "-c", script, start_new_session=True)
        assert process.stdout is not None
        process.stdout.readline()
        tree = snapshot().tree(process.pid)
        self.assertEqual(tree[0].pid, process.pid)
        self.assertEqual(len(tree), 4)
        self.addCleanup(os.killpg, process.pid, signal.SIGKILL)

    def test_tree_of_one_that_has_gone_is_its_session(self) -> None:
        entries = [
            table.Entry(pid, ppid, pid, session, 1, False, None)
            for pid, ppid, session in [(10, 1, 5), (11, 10, 11), (12, 11, 11), (20, 1, 20), (5000, 20, 20)]
        ]
        self.assertEqual([entry.pid for entry in Table(entries).tree(5)], [10, 11, 12])

    @skipUnless(os.path.exists("/bin/ps"), "needs ps")
    def test_ps_says_the_same(self) -> None:
        process = self.start("sleep", "60", start_new_session=True)
        expected = read(process.pid)
        assert expected is not None
        for pids in ([process.pid], []):
            found = {entry.pid: entry for entry in table._from_ps(pids)}[process.pid]
            self.assertEqual(found._replace(start=0), expected._replace(start=0))
            again = {entry.pid: entry for entry in table._from_ps(pids)}[process.pid]
            self.assertEqual(found.start, again.start)


class Marks(TableTestCase):
    def test_environment(self) -> None:
        process = self.start("sleep", "60", env={"A_MARK": "v=1", "OTHER": "x"})
        wanted = [("A_MARK", "v=1"), ("A_MARK", "v"), ("OTHER", "x"), ("NONE", "x")]
        found = marks(wanted)
        self.assertEqual([found[mark] for mark in wanted], [[process.pid], [], [process.pid], []])

    @skipUnless(table.allowed("brand") and sys.platform == "linux", "needs Linux")
    def test_brand_outlives_all_that_leads_to_a_process(self) -> None:
        import resource

        def brand() -> None:
            resource.setrlimit(10, (123_456_789, resource.RLIM_INFINITY))

        script = "(env -i setsid sleep 60 & echo $!)"
        process = self.start("sh", "-c", script, preexec_fn=brand)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        process.wait()
        self.assertEqual(marks([("brand", "123456789")]), {("brand", "123456789"): [pid]})

    def test_nothing_wanted_nothing_read(self) -> None:
        self.patch(table, "pids", None)
        self.assertEqual(marks([]), {})


class Killing(TableTestCase):
    def test_exactly_it(self) -> None:
        process = self.start("sleep", "60")
        entry = read(process.pid)
        assert entry is not None
        self.assertFalse(kill(process.pid, entry.start - 1, signal.SIGKILL))
        self.assertTrue(alive(process.pid))
        self.assertTrue(kill(process.pid, entry.start, signal.SIGKILL))
        process.wait()
        self.assertFalse(kill(process.pid, entry.start, signal.SIGKILL))

    def test_without_descriptors_for_processes(self) -> None:
        self.patch(table, "has_pidfd", lambda: False)
        self.test_exactly_it()
