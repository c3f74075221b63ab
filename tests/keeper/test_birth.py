"""How a child comes to be what was ordered, and how each way to fail is told."""

import errno
import grp
import os
import pwd
import resource
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.keeper.birth import Cradle, become
from pmdaemon.keeper.table import read
from pmdaemon.keeper.wire import Spawn
from tests.keeper.harness import COOKIE, KeeperTestCase, Message, until

ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")


class BirthTestCase(KeeperTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.keeper_link = self.start()

    def output(self, script: str, **more: Any) -> str:
        """What a shell prints that runs to its end."""
        key = ("web", 1)
        self.sh(self.keeper_link, key, script, **more)
        self.keeper_link.event("gone", key)
        return self.read("web")

    def refusal(self, *argv: str, **more: Any) -> tuple[int, str]:
        """The number and the place of a failure."""
        (number,) = self.keeper_link.send(self.order(("web", 1), *argv, **more))
        answer = self.keeper_link.answer(number)
        self.assertNotIn("ok", answer)
        self.assertTrue(answer["error"]["message"])
        self.nothing_left()
        return answer["error"]["errno"], answer["error"]["where"]


class Becoming(BirthTestCase):
    def test_environment_is_what_is_given_and_the_cookie(self) -> None:
        self.spawn(self.keeper_link, ("web", 1), "env", env={"PATH": os.environ["PATH"], "A": "é \udcff"})
        self.keeper_link.event("gone")
        with open(self.log("web", "out"), "rb") as file:
            lines = dict(line.split(b"=", 1) for line in file.read().splitlines())
        self.assertEqual(sorted(lines), sorted([b"A", COOKIE.encode(), b"PATH"]))
        self.assertEqual(lines[b"A"], "é ".encode() + b"\xff")

    def test_name_and_program_may_differ(self) -> None:
        self.spawn(self.keeper_link, ("web", 1), "called", "-c", 'echo "$0"', executable="/bin/sh")
        self.keeper_link.event("gone")
        self.assertEqual(self.read("web"), "called\n")

    def test_path_from_the_working_directory(self) -> None:
        with open(os.path.join(self.place, "run"), "w") as file:
            file.write("#!/bin/sh\necho here")
        os.chmod(file.name, 0o755)
        for number, (program, path) in enumerate([("./run", "/bin"), ("run", "/nope:."), ("run", "/nope:")]):
            self.spawn(self.keeper_link, (f"w{number}", 1), program, env={"PATH": path})
            self.keeper_link.event("gone")
            self.assertEqual(self.read(f"w{number}"), "here\n")

    def test_session_of_its_own(self) -> None:
        pid = self.spawn(self.keeper_link, ("web", 1), "sleep", "60")
        self.assertEqual((os.getsid(pid), os.getpgid(pid)), (pid, pid))

    def test_outputs(self) -> None:
        self.assertEqual(self.output("pwd; cat; echo err >&2; echo again > /dev/stdout"), f"{self.place}\nagain\n")
        self.assertEqual(self.read("web", "err"), "err\n")

    def test_both_in_one_file_and_a_copy(self) -> None:
        path, copy = self.log("one", "out"), self.log("both", "out")
        self.output("echo a; echo b >&2", logs={"1": {"path": path}, "2": {"path": path}}, copy=copy)
        self.assertEqual([sorted(self.read(name).splitlines()) for name in ("one", "both")], [["a", "b"]] * 2)

    def test_nothing_of_the_keeper_is_open(self) -> None:
        self.assertEqual(self.output("ls /proc/self/fd").split(), ["0", "1", "2", "3"])

    def test_no_signal_is_ignored_or_blocked(self) -> None:
        _, blocked, _, ignored = self.output("grep -E 'Sig(Blk|Ign)' /proc/self/status").split()
        own = 0b11 << 31  # 32 and 33 are the C library's, whose posix_spawn, as of make, has them ignored for good
        self.assertEqual((int(blocked, 16), int(ignored, 16) & ~own), (0, 0))

    def test_umask_nice_and_limits(self) -> None:
        script = "umask; nice; ulimit -n; ulimit -Hn; ulimit -c"
        lines = self.output(script, umask=0o37, nice=7, rlimits={"nofile": [50, 60], "core": 0}).split()
        self.assertEqual(lines, ["0037", "7", "50", "60", "0"])

    def test_what_the_keeper_changed_for_itself_is_as_it_was(self) -> None:
        mask = os.umask(0)
        os.umask(mask)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertEqual(self.output("umask; ulimit -n; ulimit -Hn").split(), [f"{mask:04o}", str(soft), str(hard)])

    def test_same_order_again_is_the_same_child(self) -> None:
        order = self.order(("web", 1), "sleep", "60")
        first, second = (self.keeper_link.answer(number) for number in self.keeper_link.send(order, order))
        (third,) = (self.keeper_link.answer(number) for number in self.keeper_link.send(order))
        self.assertEqual(first["ok"], second["ok"])
        self.assertEqual(first["ok"], third["ok"])
        self.assertEqual(len(self.everyone()), 1)

    def test_identity(self) -> None:
        (number,) = self.keeper_link.send(self.order(("web", 1), "sleep", "60"))
        told = self.keeper_link.answer(number)["ok"]
        entry = read(told["pid"])
        assert entry is not None
        self.assertEqual(entry.start, told["start"])

    def test_exit_at_once_is_told_after_the_start(self) -> None:
        link = self.keeper_link
        numbers = link.send(*(self.order((f"w{i}", 1), "true") for i in range(20)))
        for _ in range(20):
            link.event("exit", status=0)
        self.assertEqual(sorted(link.answers), numbers)
        self.assertTrue(all("ok" in answer for answer in link.answers.values()))

    @skipUnless(ROOT, "needs root")
    def test_user_with_all_groups(self) -> None:
        member = next((user for user in pwd.getpwall() if len(os.getgrouplist(user.pw_name, user.pw_gid)) > 1), NOBODY)
        os.chmod(self.place, 0o755)
        lines = self.output("id -u; id -g; id -G; echo up > /dev/stdout", user=member.pw_name, cwd="/").splitlines()
        groups = {str(group) for group in os.getgrouplist(member.pw_name, member.pw_gid)}
        self.assertEqual(lines[:2], [str(member.pw_uid), str(member.pw_gid)])
        self.assertEqual((set(lines[2].split()), lines[3]), (groups, "up"))

    @skipUnless(ROOT, "needs root")
    def test_user_group_and_groups_by_number(self) -> None:
        lines = self.output("id -u; id -g; id -G", user=12345, group=23456, groups=[34567], cwd="/").splitlines()
        self.assertEqual(lines, ["12345", "23456", "23456 34567"])


class Waiting(SynchronousTestCase):
    """Between its fork and the word it is a copy of the keeper, and must not be taken for it."""

    def test_holds_nothing_and_ends_if_the_word_does_not_come(self) -> None:
        lock = os.open(self.mktemp(), os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, lock)
        go, word = os.pipe()
        complaint, end = os.pipe()
        order = Spawn.from_wire(
            {"id": "w", "inc": 1, "argv": ["true"], "env": {}, "cwd": "/", "cookie": ["C", "v"], "logs": {}}
        )
        cradle = Cradle(outputs={}, cgroup=None, brand=None, go=go, complaint=end, nofile=(64, 64), umask=0o22)
        pid = os.fork()
        if not pid:
            become(order, cradle)
        os.close(go)
        os.close(end)
        place = f"/proc/{pid}/fd"
        until(lambda: sorted(map(int, os.listdir(place))) == sorted([0, 1, 2, go, end]))
        os.close(word)
        self.assertEqual(os.waitpid(pid, 0)[1], 125 << 8)
        self.assertEqual(os.read(complaint, 100), b"")
        os.close(complaint)


class Failing(BirthTestCase):
    def test_program(self) -> None:
        for name, mode in (("plain", 0o644), ("bad", 0o755)):
            with open(os.path.join(self.place, name), "w") as file:
                file.write("no program")
            os.chmod(file.name, mode)
        expected = {
            "nope": errno.ENOENT,
            "./nope": errno.ENOENT,
            "./plain": errno.EACCES,
            "./bad": errno.ENOEXEC,
            self.place: errno.EACCES,
        }
        for program, number in expected.items():
            self.assertEqual(self.refusal(program), (number, "exec"), program)

    def test_what_is_there_and_cannot_be_run_is_told(self) -> None:
        with open(os.path.join(self.place, "run"), "w"):
            pass
        path = f"/nope:{self.place}:/nope"
        self.assertEqual(self.refusal("run", env={"PATH": path}), (errno.EACCES, "exec"))

    def test_arguments(self) -> None:
        self.assertEqual(self.refusal("true", "x" * 300_000), (errno.E2BIG, "exec"))
        self.assertEqual(self.refusal("true", "a\0b"), (errno.EINVAL, "exec"))

    def test_working_directory(self) -> None:
        self.assertEqual(self.refusal("true", cwd="/nope"), (errno.ENOENT, "cwd"))
        self.assertEqual(self.refusal("true", cwd="/etc/passwd"), (errno.ENOTDIR, "cwd"))

    def test_log(self) -> None:
        logs = {"1": {"path": "/nope/out"}, "2": {"path": "/nope/err"}}
        self.assertEqual(self.refusal("true", logs=logs), (errno.ENOENT, "log"))
        logs = {"1": {"path": self.place}, "2": {"path": self.place}}
        self.assertEqual(self.refusal("true", logs=logs)[1], "log")

    def test_user_and_group(self) -> None:
        self.assertEqual(self.refusal("true", user="nobody-of-that-name"), (0, "user"))
        self.assertEqual(self.refusal("true", group="none-of-that-name"), (0, "user"))

    def test_limits(self) -> None:
        self.assertEqual(self.refusal("true", rlimits={"hope": 1})[1], "rlimits")
        self.assertEqual(self.refusal("true", rlimits={"nofile": [20, 10]}), (errno.EINVAL, "rlimits"))

    def test_malformed_starts_nothing(self) -> None:
        (number,) = self.keeper_link.send(self.order(("../x", 1), "true"))
        self.assertEqual(self.keeper_link.answer(number)["error"], "malformed: id: not an id")

    def test_nothing_remains_of_a_failure(self) -> None:
        self.refusal("nope")
        self.assertEqual(self.keeper_link.ask("state")["ok"]["kids"], [])
        self.assertEqual(os.listdir(os.path.join(self.home, "fifo")), [])
        told = self.keeper_link.event("stillborn", ("web", 1))
        self.assertEqual((told["error"]["where"], self.keeper_link.seen), ("exec", []))

    def test_may_be_tried_again(self) -> None:
        self.refusal("nope")
        self.assertEqual(self.output("echo again"), "again\n")


@skipUnless(ROOT, "needs root")
class AsAPlainUser(KeeperTestCase):
    """What only root may do is refused, and where."""

    def test_refused(self) -> None:
        for path in (os.path.dirname(self.home), os.path.dirname(self.place), self.place):
            os.chmod(path, 0o777)
        os.mkdir(self.home)
        os.chown(self.home, NOBODY.pw_uid, NOBODY.pw_gid)

        # All is loaded before, as nobody may not be able to read any of it.
        change = f"os.setgroups([]); os.setgid({NOBODY.pw_gid}); os.setuid({NOBODY.pw_uid})"
        self.launch(lines=(change,))
        link = self.link()
        tries: list[tuple[Message, str]] = [({"user": "root"}, "user"), ({"nice": -5}, "nice"), ({"user": 0}, "user")]
        for more, where in tries:
            (number,) = link.send(self.order(("web", 1), "true", **more))
            error = link.answer(number)["error"]
            self.assertIn(error["errno"], (errno.EPERM, errno.EACCES))
            self.assertEqual(error["where"], where, error)
        (number,) = link.send(self.order(("web", 1), "id", "-un", user="nobody", group=grp.getgrgid(NOBODY.pw_gid)[0]))
        self.assertIn("ok", link.answer(number))
        link.event("gone")
        self.assertEqual(self.read("web"), "nobody\n")
