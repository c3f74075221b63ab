"""Who may come in, what is spoken, and when the keeper leaves."""

import json
import os
import signal
import stat
import subprocess

from tests.keeper.harness import KeeperTestCase, prepared, until

KEY = ("web", 1)


class Home(KeeperTestCase):
    def test_private(self) -> None:
        self.start()
        modes = {name: stat.S_IMODE(os.stat(os.path.join(self.home, name)).st_mode) for name in os.listdir(self.home)}
        self.assertEqual(stat.S_IMODE(os.stat(self.home).st_mode), 0o700)
        self.assertEqual(
            modes,
            {"keeper.lock": 0o600, "keeper.sock": 0o600, "keeper.jsonl": 0o600, "keeper.log": 0o600, "fifo": 0o700},
        )

    def test_second_keeper_is_refused(self) -> None:
        first = self.start()
        second = self.launch()
        self.assertEqual(second.wait(15), 75)
        assert second.stderr is not None
        pid = first.hello["keeper"]["pid"]
        self.assertEqual(
            second.stderr.read().decode(), f"cannot keep {self.home}: another keeper does, with pid {pid}\n"
        )
        self.assertEqual(first.ask("ping"), {"re": 2, "ok": {}})

    def test_next_keeper_is_not_refused_though_children_live(self) -> None:
        self.spawn(self.start(), KEY, "sleep", "60")
        self.kill(self.keepers[0])
        self.assertEqual(len(self.start().ask("state")["ok"]["kids"]), 1)

    def test_loads_little(self) -> None:
        """What is loaded stays for as long as a child lives; each of these costs megabytes or, at a fork, time."""
        costly = {"asyncio", "ctypes", "inspect", "logging", "msgspec", "psutil", "subprocess", "tempfile", "threading",
                  "traceback", "twisted", "pmdaemon.core", "pmdaemon.daemon", "pmdaemon.errors"}  # fmt: skip
        code = f"import sys; print(*({costly!r} & sys.modules.keys()))"
        said = subprocess.run(prepared(self.home, code, "sys.exit()"), capture_output=True, check=True, timeout=15)
        self.assertEqual(said.stdout, b"\n")

    def test_path_that_is_too_long_for_a_socket(self) -> None:
        self.home = os.path.join(self.home, "x" * 100)
        os.makedirs(os.path.dirname(self.home))
        self.launch()
        until(lambda: os.path.exists(os.path.join(self.home, "keeper.sock")))


class Versions(KeeperTestCase):
    def test_hello(self) -> None:
        link = self.start()
        keeper = link.hello["keeper"]
        self.assertEqual((link.hello["version"], keeper["versions"]), (1, [1, 1]))
        self.assertEqual(keeper["pid"], self.keepers[0].pid)
        self.assertEqual(set(keeper), {"pid", "start", "boot", "python", "linux", "versions"})

    def test_newer_daemon_is_answered_in_the_older_version(self) -> None:
        """What it says that this one does not know is ignored, or refused by a word it can go by."""
        self.launch()
        link = self.link(version=2)
        self.assertEqual(link.hello["version"], 1)
        self.assertEqual(link.ask("warp", speed=9)["error"], "unknown")
        (number,) = link.send(self.order(KEY, "sleep", "60", colour="red"))
        self.assertIn("ok", link.answer(number))

    def test_version_that_is_not_spoken_is_told_and_changes_nothing(self) -> None:
        serving = self.start()
        old = self.link(version=0)
        self.assertEqual((old.hello["error"], old.hello["keeper"]["versions"]), ("version", [1, 1]))
        self.assertEqual(old.ask("state")["error"], "hello first")
        self.assertIn("ok", serving.ask("ping"))

    def test_version_1_to_the_letter(self) -> None:
        """What a daemon of version 1 says and must be told, as long as any keeper speaks it."""
        self.launch()
        link = self.link(version=None)
        place = self.place
        link.send_line(b'{"op":"hello","n":1,"version":1}')
        self.assertEqual(set(link.answer(1)), {"re", "version", "keeper"})
        spawn = {
            "op": "spawn", "n": 2, "id": "7", "inc": 3, "argv": ["sh", "-c", "echo hi; exit 4"], "executable": None,
            "env": {"PATH": os.environ["PATH"]}, "cwd": place, "cookie": ["C", "v"],
            "logs": {"1": {"path": f"{place}/o", "max_size": 1000, "max_files": 2, "compress": False, "max_age": None,
                           "total": None}, "2": {"path": f"{place}/e"}},
            "copy": None, "user": None, "group": None, "groups": None, "umask": None, "nice": None, "rlimits": None,
            "on_full": "block",
        }  # fmt: skip
        link.send_line(json.dumps({"orders": [spawn, {**spawn, "n": 3, "inc": 4, "argv": ["nope"]}]}).encode())
        self.assertEqual(set(link.answer(2)["ok"]), {"pid", "start", "at"})
        self.assertEqual(
            link.answer(3), {"re": 3, "error": {"errno": 2, "where": "exec", "message": "No such file or directory"}}
        )
        exit = link.event("exit")
        self.assertEqual(set(exit), {"ev", "id", "inc", "pid", "status", "how", "at", "end"})
        self.assertEqual((exit["id"], exit["inc"], exit["status"], exit["end"]), ("7", 3, 1024, {"1": 3, "2": 0}))
        self.assertEqual(link.event("gone"), {"ev": "gone", "id": "7", "inc": 3, "end": {"1": 3, "2": 0}})
        self.assertEqual(link.event("log"), {"ev": "log", "path": f"{place}/o", "base": 0, "end": 3})
        link.send_line(b'{"op":"state","n":4}')
        (kid,) = link.answer(4)["ok"]["kids"]
        self.assertEqual(
            set(kid),
            {"id", "inc", "pid", "start", "boot", "at", "own", "born", "alive", "asked", "exit", "acked", "gone",
             "logs", "copy", "trouble"},
        )  # fmt: skip
        self.assertEqual(set(kid["exit"]), {"pid", "status", "how", "at", "end"})
        self.assertEqual(
            kid["logs"], {"1": {"path": f"{place}/o", "at": None}, "2": {"path": f"{place}/e", "at": None}}
        )
        for line in (
            b'{"op":"signal","n":5,"id":"7","inc":3,"sig":15,"scope":"group","stop":true}',
            b'{"op":"ack","n":6,"id":"7","inc":3}',
            b'{"op":"limits","n":7,"path":"/x","max_size":5}',
            b'{"op":"reopen","n":8}',
            b'{"op":"flush","n":9,"id":"7"}',
            b'{"op":"forget","n":10,"id":"7"}',
            b'{"op":"ping","n":11}',
            b'{"op":"leave","n":12}',
            b'{"op":"quit","n":13}',
        ):
            link.send_line(line)
        answers = [link.answer(number) for number in range(5, 14)]
        nothing = {"logs": {}, "failed": {}}
        self.assertEqual(answers[0], {"re": 5, "error": "ended"})
        self.assertEqual([answer["ok"] for answer in answers[1:]], [{}, {}, nothing, nothing, {}, {}, {}, {}])


class Connections(KeeperTestCase):
    def test_newer_daemon_replaces_the_older(self) -> None:
        first = self.start()
        second = self.link()
        first.hung_up()
        self.assertIn("ok", second.ask("ping"))

    def test_whoever_says_no_hello_replaces_nobody(self) -> None:
        first = self.start()
        other = self.link(version=None)
        self.assertEqual(other.ask("quit")["error"], "hello first")
        self.assertIn("ok", first.ask("ping"))

    def test_no_order_is_a_defect(self) -> None:
        link = self.start()
        for line in (b"x", b"[]", b'{"orders":[1]}', b"\xff"):
            link.send_line(line)
            link.wait(lambda message: str(message.get("error", "")).startswith("malformed"))
        for order in ({}, {"op": 1}, {"op": None}, {"op": ["x"]}):
            (number,) = link.send(order)
            self.assertEqual(link.answer(number)["error"], "unknown")
        for op in ("spawn", "signal", "ack", "forget", "limits"):
            self.assertIn("malformed", link.ask(op)["error"], op)
            self.assertIn("malformed", link.ask(op, id={}, inc="x", path=1)["error"], op)
        self.assertFalse(os.path.getsize(os.path.join(self.home, "keeper.log")))

    def test_order_without_a_number_is_not_answered(self) -> None:
        link = self.start()
        link.send_line(b'{"op":"ping"}\n{"op":"nope"}')
        self.assertEqual(link.ask("ping")["ok"], {})
        self.assertEqual(link.seen, [])

    def test_batch_in_pieces(self) -> None:
        link = self.start()
        line = json.dumps({"orders": [{"op": "ping", "n": 100 + i, "pad": "x" * 5000} for i in range(400)]}).encode()
        link.send_line(line)
        for number in range(400):
            self.assertIn("ok", link.answer(100 + number))

    def test_one_that_does_not_read_keeps_nobody_waiting(self) -> None:
        """The keeper goes on, tells it no more of logs than it can take, and all of the rest once it reads."""
        link = self.start()
        self.sh(link, KEY, "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done; exit 3")
        for _ in range(3000):
            link.send_line(b'{"op":"state","n":77}')
        self.lines("web", 20_000)
        self.assertEqual(link.event("exit")["status"], 3 << 8)
        link.event("gone")
        link.event("log", path=self.log("web", "out"), end=len(self.read("web")))
        self.assertLess(sum(message.get("ev") == "log" for message in link.seen), 200)


class Leaving(KeeperTestCase):
    def ended(self) -> None:
        self.assertEqual(self.keepers[-1].wait(15), 0)
        self.assertFalse(os.path.exists(os.path.join(self.home, "keeper.sock")))

    def test_quit(self) -> None:
        link = self.start()
        self.assertEqual(link.ask("quit")["ok"], {})
        self.ended()

    def test_quit_with_children_is_refused(self) -> None:
        link = self.start()
        self.spawn(link, KEY, "sleep", "60")
        self.assertEqual(link.ask("quit")["error"], "children")
        link.ask("signal", id="web", inc=1, sig=signal.SIGKILL)
        link.event("gone")
        link.ask("quit")
        self.ended()

    def test_what_was_not_acknowledged_outlives_the_keeper(self) -> None:
        link = self.start()
        self.sh(link, KEY, "exit 3")
        link.event("gone")
        link.ask("quit")
        self.ended()
        self.assertEqual(self.kid(self.start(), KEY)["exit"]["status"], 3 << 8)

    def test_daemon_that_leaves(self) -> None:
        link = self.start()
        self.spawn(link, KEY, "sleep", "60")
        link.ask("leave")
        link.close()
        self.assertTrue(self.kid(self.link(), KEY)["alive"])

    def test_told_to_end_it_waits_for_its_children(self) -> None:
        """As at a shutdown, when all are told to at once."""
        link = self.start()
        (keeper,) = self.keepers
        self.spawn(link, KEY, "sleep", "60")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            keeper.send_signal(number)
        self.assertIn("ok", link.ask("ping"))
        link.ask("signal", id="web", inc=1, sig=signal.SIGKILL)
        link.event("gone")
        self.ended()

    def test_it_ends_where_no_daemon_can_find_it(self) -> None:
        """Somebody has deleted the home, with the socket and with what was to be acknowledged."""
        self.launch(lines=("main._IDLE = 0.3",))
        link = self.link()
        self.spawn(link, KEY, "sleep", "0.1")
        link.event("gone")
        link.close()
        os.unlink(os.path.join(self.home, "keeper.sock"))
        self.ended()

    def test_told_to_end_it_waits_for_what_a_child_has_left(self) -> None:
        link = self.start()
        (keeper,) = self.keepers
        left = "trap '' TERM; echo up; while :; do sleep 0.01; done"
        self.sh(link, KEY, f"trap 'exit 0' TERM; setsid sh -c \"{left}\" & while :; do sleep 0.01; done")
        until(lambda: self.read("web") == "up\n")
        link.ask("signal", id="web", inc=1, sig=signal.SIGTERM, scope="group", stop=True)
        link.event("exit")
        keeper.send_signal(signal.SIGTERM)
        with self.assertRaises(subprocess.TimeoutExpired):
            keeper.wait(1.5)  # it looks each second
        link.ask("signal", id="web", inc=1, sig=signal.SIGKILL, scope="tree", stop=True)
        link.event("gone")
        self.ended()

    def test_unneeded_for_a_while_it_ends(self) -> None:
        self.launch(lines=("main._IDLE = 0.3",))
        link = self.link()
        self.spawn(link, KEY, "sleep", "1")
        link.close()
        again = self.link()
        again.event("gone")
        again.ask("ack", id="web", inc=1)
        self.assertIsNone(self.keepers[0].poll())
        again.close()
        self.ended()

    def test_nothing_is_left_behind(self) -> None:
        link = self.start()
        self.sh(link, KEY, "true")
        link.event("gone")
        link.ask("ack", id="web", inc=1)
        link.ask("quit")
        self.ended()
        self.assertEqual(os.listdir(os.path.join(self.home, "fifo")), [])
