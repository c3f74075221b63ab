"""The kernel is made ready for a move into a group beside whatever else is done, and by one thread at most."""

import _thread
import signal
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper.cgroups import Cgroups
from tests.keeper.harness import KeeperTestCase

NOTED = """
from pmdaemon.keeper import cgroups
def note(what):
    with open("noted", "a") as file:
        file.write(what + " ")
cgroups.Cgroups.expect = lambda self: note("expect")
cgroups.kill_all = lambda path: note("kill")
"""


class EndTests(KeeperTestCase):
    """What a keeper does about the group of a child that has ended and left nothing."""

    def noted(self) -> list[str]:
        file = Path(self.home, "noted")
        return file.read_text().split() if file.exists() else []

    def test_another_is_expected_where_nobody_has_stopped_it(self) -> None:
        link = self.start(lines=(NOTED,))
        self.sh(link, ("web", 1), "exit 1")
        link.event("gone")
        self.assertEqual(self.noted(), ["expect"])
        self.spawn(link, ("web", 2), "sleep", "60")
        link.ask("signal", id="web", inc=2, sig=signal.SIGTERM, scope="group", stop=True)
        link.event("gone", ("web", 2))
        self.assertEqual(self.noted(), ["expect"])


class ExpectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begun: list[Callable[[], None]] = []
        self.patch(_thread, "start_new_thread", lambda call, args: self.begun.append(lambda: call(*args)))
        self.groups = Cgroups(self.mktemp())
        self.groups.close()
        self.groups.base = "/anywhere"

    def test_one_at_a_time(self) -> None:
        self.groups.expect()
        self.groups.expect()
        self.assertEqual(len(self.begun), 1)
        self.begun[0]()
        self.groups.expect()
        self.assertEqual(len(self.begun), 2)

    def test_who_is_moved_stays_where_it_is(self) -> None:
        before = Path("/proc/self/cgroup").read_text()
        self.groups.expect()
        self.begun[0]()
        self.assertEqual(Path("/proc/self/cgroup").read_text(), before)

    def test_not_where_there_are_none(self) -> None:
        self.groups.base = None
        self.groups.expect()
        self.assertEqual(self.begun, [])

    def test_no_thread_to_be_had(self) -> None:
        def refuse(call: object, args: object) -> None:
            raise _thread.error("can't start new thread")

        start = _thread.start_new_thread
        self.patch(_thread, "start_new_thread", refuse)
        self.groups.expect()
        self.patch(_thread, "start_new_thread", start)
        self.groups.expect()
        self.assertEqual(len(self.begun), 1)
