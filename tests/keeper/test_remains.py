"""Whatever a child leaves goes too, before it is told to be gone: no orphan, however it hid."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper import remains
from pmdaemon.keeper.kids import Kid
from pmdaemon.keeper.loop import Loop
from pmdaemon.keeper.table import Table, boot, read
from tests.keeper.harness import DEADLINE, KeeperTestCase, alive

IGNORES = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
SAYS_BYE = "trap 'echo bye; exit' TERM; echo $$; while :; do sleep 0.01; done"
# Ways to start a grandchild, from one that is easily found to one that has cut all that leads to it.
KINDS = {
    "group": "sh -c '{}' &",
    "session": "setsid sh -c '{}' &",
    "no cookie": "env -i PATH=$PATH setsid sh -c '{}' &",
    "double fork": "(setsid sh -c '{}' &);",
    "double fork, no cookie": "(env -i PATH=$PATH setsid sh -c '{}' &);",
}
MULTIPLIES = """
import os, signal
def again(*_):
    if os.fork(): os._exit(0)
    os.setsid()
if os.fork():
    print('up', flush=True)
else:
    os.setsid()
    os.environ.clear()
    signal.signal(signal.SIGTERM, again)
while True: signal.pause()
"""


class Remains(KeeperTestCase):
    kinds = tuple(KINDS)

    def setUp(self) -> None:
        super().setUp()
        self.daemon = self.start()

    def leave(self, number: int, kind: str, left: str, then: str) -> tuple[str, int]:
        """Start a child that leaves a ``kind`` of grandchild, which runs ``left``; return the name and that pid."""
        name = f"w{number}"
        script = KINDS[kind].format(left.replace("'", "'\\''"))
        self.sh(self.daemon, (name, 1), f"trap 'exit 0' TERM; {script} {then}")
        (line,) = self.lines(name, 1)
        return name, int(line)

    def stop(self, name: str, number: int, scope: str = "group") -> None:
        self.daemon.ask("signal", id=name, inc=1, sig=number, scope=scope, stop=True)

    def each(self, left: str, then: str = "while :; do sleep 0.01; done") -> list[tuple[str, str, int]]:
        return [(kind, *self.leave(number, kind, left, then)) for number, kind in enumerate(self.kinds)]

    def test_after_a_crash_all_are_killed_at_once(self) -> None:
        for kind, name, pid in self.each(IGNORES, "sleep 0.1; exit 1"):
            self.assertEqual(self.daemon.event("exit", (name, 1))["status"], 256)
            self.daemon.event("gone", (name, 1))
            self.assertFalse(alive(pid), kind)

    def test_after_a_stop_all_get_the_signal_once(self) -> None:
        for kind, name, pid in self.each(SAYS_BYE):
            self.stop(name, signal.SIGTERM)
            self.daemon.event("gone", (name, 1))
            self.assertFalse(alive(pid), kind)
            self.assertEqual(self.read(name), f"{pid}\nbye\n", kind)

    def test_what_they_print_last_is_in_the_log(self) -> None:
        for _, name, pid in self.each(SAYS_BYE):
            self.stop(name, signal.SIGTERM)
            self.assertEqual(self.daemon.event("gone", (name, 1))["end"]["1"], len(f"{pid}\nbye\n"))

    def test_all_have_time_until_the_next_signal(self) -> None:
        for kind, name, pid in self.each(IGNORES):
            self.stop(name, signal.SIGTERM)
            self.daemon.event("exit", (name, 1))
            self.assertTrue(alive(pid), kind)
            self.assertFalse(self.kid(self.daemon, (name, 1))["gone"])
            self.stop(name, signal.SIGKILL, "tree")
            self.daemon.event("gone", (name, 1))
            self.assertFalse(alive(pid), kind)

    def test_kill_ends_the_whole_tree(self) -> None:
        for kind, name, pid in self.each(IGNORES):
            self.stop(name, signal.SIGKILL, "tree")
            self.daemon.event("gone", (name, 1))
            self.assertFalse(alive(pid), kind)

    def test_those_of_others_are_left_alone(self) -> None:
        (_, _, other), (_, name, pid) = self.each(IGNORES)[-2:]
        self.stop(name, signal.SIGKILL, "tree")
        self.daemon.event("gone", (name, 1))
        self.assertEqual((alive(other), alive(pid)), (True, False))

    def test_what_multiplies(self) -> None:
        """Each is replaced by another when it gets the signal, so that no single look finds them all."""
        self.spawn(self.daemon, ("web", 1), sys.executable, "-c", MULTIPLIES)
        self.lines("web", 1)
        self.stop("web", signal.SIGTERM)
        self.daemon.event("exit")
        self.stop("web", signal.SIGKILL, "tree")
        self.daemon.event("gone")
        self.nothing_left()

    def test_signals_at_any_moment(self) -> None:
        name, pid = self.leave(0, self.kinds[-1], IGNORES, "while :; do sleep 0.01; done")
        self.stop(name, signal.SIGTERM)
        self.stop(name, signal.SIGTERM, "tree")
        self.daemon.event("exit")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            self.stop(name, number)
        self.daemon.event("gone")
        self.assertFalse(alive(pid))
        self.assertEqual([message for message in self.daemon.seen if message.get("ev") in ("gone", "exit")], [])

    def test_writes_for_ever(self) -> None:
        self.sh(self.daemon, ("web", 1), "setsid yes & sleep 0.05")
        self.daemon.event("gone")
        self.nothing_left()


class ByBrand(Remains):
    """Where no control group can be made."""

    without = "cgroup"


class ByCookieAndTree(Remains):
    """Where there is no brand either: what has cut all that leads to it is lost."""

    without = "cgroup,brand,pidfd,subreaper"
    kinds = ("group", "session", "double fork")

    def test_what_has_no_cookie_is_known_while_its_parent_lives(self) -> None:
        name, pid = self.leave(0, "no cookie", IGNORES, "while :; do sleep 0.01; done")
        self.stop(name, signal.SIGTERM)
        self.daemon.event("exit")
        self.stop(name, signal.SIGKILL, "tree")
        self.daemon.event("gone")
        self.assertFalse(alive(pid))


class Alone(SynchronousTestCase):
    """Without a keeper around it."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.gone: list[Kid] = []
        self.notes: list[str] = []
        self.remains = remains.Remains(self.loop, gone=self.gone.append, note=self.notes.append)

    def session(self, script: str = "sleep 60 & echo $!; wait") -> tuple[Kid, int, "subprocess.Popen[bytes]"]:
        """A child that leads a session with one more in it."""
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(self._end, process.pid)
        kid = Kid(("web", 1), logs={}, copy=None, on_full="block", cookie=("C", "v"), brand=None, cgroup=None)
        entry = read(process.pid)
        assert entry is not None
        kid.pid, kid.start, kid.boot = process.pid, entry.start, boot()
        return kid, int(process.stdout.readline()), process

    def _end(self, group: int) -> None:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return

    def end(self, kid: Kid, process: "subprocess.Popen[bytes]") -> None:
        """Its first process ends, by no stop."""
        process.kill()
        process.wait()
        kid.exit = {"status": 9}
        self.remains.left(kid)

    def turn_until(self, condition: Callable[[], object]) -> None:
        self.loop.later(DEADLINE, self.fail)
        while not condition():
            self.loop.turn()

    def test_session(self) -> None:
        kid, left, process = self.session()
        self.end(kid, process)
        self.turn_until(lambda: self.gone)
        self.assertFalse(alive(left))

    def test_session_of_a_pid_that_was_free_for_long_is_not_touched(self) -> None:
        kid, left, process = self.session()
        kid.seen = False
        self.end(kid, process)
        self.turn_until(lambda: self.gone)
        self.assertTrue(alive(left))

    def test_pid_given_to_somebody_else(self) -> None:
        kid, left, process = self.session()
        kid.start -= 1
        kid.exit = {"status": 9}
        self.remains.left(kid)
        self.turn_until(lambda: self.gone)
        self.assertTrue(alive(left) and alive(process.pid))

    def test_who_ends_between_two_readings_may_have_left_another(self) -> None:
        kid, left, process = self.session()
        kid.seen = False  # so that nothing but the cookie leads to it
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        looks = iter([[ended.pid], [left]])
        self.patch(remains, "marks", lambda wanted: {mark: next(looks, []) for mark in wanted})
        self.end(kid, process)
        self.turn_until(lambda: self.gone)
        self.assertFalse(alive(left))

    def test_what_may_not_be_signalled_is_told_and_not_waited_for(self) -> None:
        def refuse(pid: int, start: int, number: int) -> bool:
            raise PermissionError

        self.patch(remains, "kill", refuse)
        kid, left, process = self.session()
        self.end(kid, process)
        self.turn_until(lambda: self.gone)
        self.assertTrue(alive(left))
        self.assertEqual(len(self.notes), 1)
        self.assertIn(f"process {left}, left by web.1", self.notes[0])

    def test_one_look_for_all_of_a_turn(self) -> None:
        looks = 0
        snapshot = remains.snapshot

        def counted() -> Table:
            nonlocal looks
            looks += 1
            return snapshot()

        self.patch(remains, "snapshot", counted)
        sessions = [self.session() for _ in range(4)]
        for kid, _, _ in sessions:
            self.remains.stop(kid, signal.SIGCONT, "group")
        self.assertEqual(looks, 1)
        self.loop.turn()
        for kid, _, process in sessions:
            self.end(kid, process)
            self.remains.stop(kid, signal.SIGKILL, "tree")
        self.loop.turn()
        self.assertEqual(looks, 2)
        self.turn_until(lambda: len(self.gone) == 4)
