"""From birth until nobody has to hear of it: what the daemon is told, in what order, and what is kept until then."""

import json
import os
import signal
import time
from typing import Any

from pmdaemon.keeper.table import read
from tests.keeper.harness import KeeperTestCase, Message, alive, until

KEY = ("web", 1)


class Ends(KeeperTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.daemon = self.start()

    def records(self, kind: str) -> list[Message]:
        """What is in the journal of this kind."""
        with open(os.path.join(self.home, "keeper.jsonl")) as file:
            return [record for record in map(json.loads, file) if record["op"] == kind]

    def test_statuses(self) -> None:
        """As `os.waitpid` gives them."""
        for number, (script, status) in enumerate(
            [("exit 0", 0), ("exit 137", 137 << 8), ("kill -KILL $$", 9), ("ulimit -c 0; kill -SEGV $$", 11)]
        ):
            key = (f"w{number}", 1)
            pid = self.sh(self.daemon, key, script)
            told = self.daemon.event("exit", key)
            self.assertEqual((told["status"], told["pid"], told["how"]), (status, pid, "child"), script)

    def test_time(self) -> None:
        before = time.time()
        self.sh(self.daemon, KEY, "true")
        self.assertTrue(before <= self.daemon.event("exit")["at"] <= time.time())

    def test_all_output_is_in_the_log_before_the_end_is_told(self) -> None:
        for inc in range(5):
            self.sh(self.daemon, ("web", inc), "head -c 300000 /dev/zero; head -c 60000 /dev/zero >&2")
            end = self.daemon.event("exit", ("web", inc))["end"]
            self.assertEqual(end, {"1": 300_000 * (inc + 1), "2": 60_000 * (inc + 1)})
            self.assertEqual(os.stat(self.log("web", "out")).st_size, end["1"])

    def test_log_is_told_as_it_grows(self) -> None:
        self.sh(self.daemon, KEY, "echo one; sleep 60")
        told = self.daemon.event("log", path=self.log("web", "out"))
        self.assertEqual((told["base"], told["end"]), (0, 4))

    def test_closed_outputs_are_no_end(self) -> None:
        pid = self.sh(self.daemon, KEY, "exec >&- 2>&-; exec sleep 60")
        until(lambda: os.listdir(f"/proc/{pid}/fd") == ["0"])
        self.assertTrue(self.kid(self.daemon, KEY)["alive"])

    def test_kept_until_acknowledged(self) -> None:
        self.sh(self.daemon, KEY, "exit 3")
        self.daemon.event("gone")
        exit = self.kid(self.daemon, KEY)["exit"]
        self.assertEqual(exit["status"], 3 << 8)
        again = self.link()
        kid = self.kid(again, KEY)
        self.assertEqual((kid["exit"], kid["alive"], kid["gone"], kid["acked"]), (exit, False, True, False))
        again.ask("ack", id="web", inc=1)
        again.ask("ack", id="web", inc=1)
        self.assertEqual(again.ask("state")["ok"]["kids"], [])

    def test_one_that_lives_is_not_acknowledged(self) -> None:
        self.spawn(self.daemon, KEY, "sleep", "60")
        self.assertEqual(self.daemon.ask("ack", id="web", inc=1)["error"], "alive")

    def test_forget_takes_all_that_ended_of_an_id(self) -> None:
        for key in (("web", 1), ("web", 2), ("api", 1)):
            self.sh(self.daemon, key, "true")
            self.daemon.event("gone", key)
        self.daemon.ask("forget", id="web")
        self.assertEqual([kid["id"] for kid in self.daemon.ask("state")["ok"]["kids"]], ["api"])

    def test_incarnations_side_by_side(self) -> None:
        pids = [self.spawn(self.daemon, ("web", inc), "sleep", "60") for inc in (1, 2)]
        os.kill(pids[0], signal.SIGKILL)
        self.daemon.event("gone", ("web", 1))
        self.assertTrue(self.kid(self.daemon, ("web", 2))["alive"])

    def test_pipes_go_with_the_child(self) -> None:
        self.spawn(self.daemon, KEY, "sleep", "60")
        place = os.path.join(self.home, "fifo")
        self.assertEqual(sorted(os.listdir(place)), ["web.1.1", "web.1.2"])
        self.assertEqual({os.stat(os.path.join(place, name)).st_mode & 0o777 for name in os.listdir(place)}, {0o600})
        self.daemon.ask("signal", id="web", inc=1, sig=signal.SIGKILL)
        self.daemon.event("gone")
        self.assertEqual(os.listdir(place), [])

    def test_strangers_are_reaped(self) -> None:
        """Orphans come to the keeper, and nobody else would."""
        self.sh(self.daemon, KEY, "(setsid sh -c 'echo $$ >&2; sleep 0.05' &); exec sleep 60")
        until(lambda: self.read("web", "err"))
        orphan = int(self.read("web", "err"))
        until(lambda: read(orphan) is None)

    def test_descriptors_do_not_leak(self) -> None:
        (keeper,) = self.keepers
        place = f"/proc/{keeper.pid}/fd"
        numbers = []
        for inc in range(3):
            self.sh(self.daemon, ("web", inc), "echo a")
            self.daemon.event("gone")
            self.daemon.ask("ack", id="web", inc=inc)
            numbers.append(len(os.listdir(place)))
        self.assertEqual(numbers, numbers[:1] * 3)

    def test_state_tells_where_logs_are(self) -> None:
        self.sh(self.daemon, KEY, "echo one; sleep 60", copy=self.log("web", "both"))
        self.daemon.event("log", path=self.log("web", "out"))
        kid = self.kid(self.daemon, KEY)
        self.assertEqual(kid["logs"]["1"], {"path": self.log("web", "out"), "at": [0, 4]})
        self.assertEqual((kid["copy"], kid["own"], kid["asked"]), (self.log("web", "both"), True, None))
        self.assertEqual(kid["trouble"], {"errno": None, "dropped_bytes": 0, "dropped_lines": 0})


class LogOrders(KeeperTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.daemon = self.start()

    def write(self, text: str, key: tuple[str, int] = KEY) -> None:
        self.sh(self.daemon, key, f"echo {text}; exec sleep 60")
        self.lines("web", 1)

    def test_flush(self) -> None:
        self.write("one")
        done: Message = self.daemon.ask("flush", id="web")["ok"]
        self.assertEqual(done["logs"][self.log("web", "out")], [4, 4])
        self.assertEqual((self.read("web"), done["failed"]), ("", {}))

    def test_flush_of_what_nobody_writes(self) -> None:
        path = self.log("old", "out")
        with open(path, "w") as file:
            file.write("12345\n")
        self.assertEqual(self.daemon.ask("flush", paths=[path])["ok"]["logs"], {path: [6, 6]})
        self.assertEqual(self.read("old"), "")
        self.assertIn("error", self.daemon.ask("flush", paths=["/nope/x"]))

    def test_reopen(self) -> None:
        self.write("one")
        os.rename(self.log("web", "out"), self.log("moved", "out"))
        self.daemon.ask("reopen")
        self.sh(self.daemon, ("web", 2), "echo two; exec sleep 60")
        self.lines("web", 1)
        self.assertEqual((self.read("moved"), self.read("web")), ("one\n", "two\n"))

    def test_total(self) -> None:
        """What is deleted for the sake of all is told."""
        script = "for i in 1 2 3 4 5 6; do head -c 2000 /dev/urandom | base64 -w 0; echo; done; exec sleep 60"
        path = self.log("web", "out")
        self.sh(self.daemon, KEY, script, logs={"1": {"path": path, "max_size": 1000, "compress": False}})
        until(lambda: len([name for name in os.listdir(self.place) if name.startswith("web-out.log.0")]) >= 10)
        self.assertEqual(self.daemon.ask("total", bytes=6000)["ok"], {})
        told = self.daemon.event("capped", path=path)
        self.assertGreater(told["bytes"], 0)
        until(lambda: sum(os.lstat(os.path.join(self.place, name)).st_size for name in os.listdir(self.place)) <= 6000)
        self.assertEqual(self.daemon.ask("total")["ok"], {})
        self.assertIn("malformed", self.daemon.ask("total", bytes="many")["error"])

    def test_limits_outlive_the_keeper(self) -> None:
        def limits(link: Any) -> None:
            self.sh(link, ("web", 7), f"head -c 200 /dev/zero | tr '\\0' x; echo; echo {os.getpid()}; sleep 60")
            until(lambda: sum(name.startswith("web-out.log.0") for name in os.listdir(self.place)) >= 1)

        self.write("one")
        self.daemon.ask("limits", path=self.log("web", "out"), max_size=100, compress=False)
        self.kill(self.keepers[0])
        limits(self.start())


class Relays(KeeperTestCase):
    """Signals, whom they reach, and what they mean for what comes after."""

    SAYS = "sh -c \"trap 'echo {0}' USR1; echo up; while :; do sleep 0.01; done\""
    TREE = f"{SAYS.format('group')} & setsid {SAYS.format('tree')} & exec {SAYS.format('main')}"

    def setUp(self) -> None:
        super().setUp()
        self.daemon = self.start()

    def reached(self, scope: str, number: int) -> list[str]:
        """Who says that it has got the signal."""
        self.sh(self.daemon, KEY, self.TREE)
        self.lines("web", 3)
        self.daemon.ask("signal", id="web", inc=1, sig=signal.SIGUSR1, scope=scope)
        lines = sorted(self.lines("web", 3 + number)[3:])
        self.daemon.ask("signal", id="web", inc=1, sig=signal.SIGKILL, scope="tree")
        self.daemon.event("gone")
        self.assertEqual(sorted(self.read("web").splitlines()[3:]), lines)
        return lines

    def test_main(self) -> None:
        self.assertEqual(self.reached("main", 1), ["main"])

    def test_group(self) -> None:
        self.assertEqual(self.reached("group", 2), ["group", "main"])

    def test_tree(self) -> None:
        self.assertEqual(self.reached("tree", 3), ["group", "main", "tree"])

    def test_relayed_is_no_stop(self) -> None:
        """What is left when it then crashes is not waited for."""
        self.sh(self.daemon, KEY, "trap '' HUP; sh -c 'sleep 60 & echo up; wait' & exec sleep 60")
        self.lines("web", 1)
        self.daemon.ask("signal", id="web", inc=1, sig=signal.SIGHUP)
        os.kill(self.kid(self.daemon, KEY)["pid"], signal.SIGKILL)
        self.daemon.event("gone")
        self.nothing_left()

    def test_refused(self) -> None:
        ask = self.daemon.ask
        self.assertEqual(ask("signal", id="no", inc=1, sig=15)["error"], "no such child")
        self.sh(self.daemon, KEY, "true")
        self.daemon.event("gone")
        self.assertEqual(ask("signal", id="web", inc=1, sig=15)["error"], "ended")
        self.assertEqual(ask("signal", id="web", inc=1, sig=15, stop=True)["error"], "ended")
        for wrong in ({"sig": 999}, {"sig": "TERM"}, {"sig": 15, "scope": "all"}, {}):
            self.assertTrue(ask("signal", id="web", inc=1, **wrong)["error"].startswith("malformed"), wrong)

    def test_main_only_leaves_the_others_to_the_rule(self) -> None:
        pid = self.sh(self.daemon, KEY, "sleep 60 & echo $!; wait")
        (line,) = self.lines("web", 1)
        self.daemon.ask("signal", id="web", inc=1, sig=signal.SIGTERM, scope="main", stop=True)
        self.daemon.event("gone")
        self.assertFalse(alive(pid) or alive(int(line)))


class RelaysWithoutGroups(Relays):
    without = "cgroup"


class RelaysWherePossibleOnly(Relays):
    without = "cgroup,pidfd,pidfd_exit,brand,waitid,subreaper"


class EndsWithoutAPeek(Ends):
    """Where a child cannot be looked at before the system forgets it, as on macOS."""

    without = "waitid,splice,pidfd"
