"""What surrounds a child: its variables, port, pid file, readiness and last lines, and that nothing of it is left."""

import os
import socket
from pathlib import Path
from typing import Any

from pmdaemon.core.ports import PortPool
from pmdaemon.daemon.launch import SpawnError
from pmdaemon.daemon.portcheck import is_free
from tests.daemon.supervised import SupervisedTestCase


class LauncherTestCase(SupervisedTestCase):
    def env(self, name: str = "web") -> dict[str, str]:
        (child,) = self.daemon.children.of(self.daemon.process(name))
        return child.env

    def folder(self) -> str:
        path = os.path.realpath(self.mktemp())
        os.mkdir(path)
        return path


class VariableTests(LauncherTestCase):
    def test_what_a_child_is_told(self) -> None:
        self.succeeds(self.daemon.start("other"))
        self.succeeds(self.daemon.start(instances=2, namespace="front", port="4000-4001"))
        expected = {
            "PORT": "4001",
            "PM2_INSTANCE_ID": "1",
            "NODE_APP_INSTANCE": "1",
            "PMDAEMON_PROCESS_NAME": "web-1",
            "PMDAEMON_PROCESS_ID": "2",
            "PMDAEMON_NAMESPACE": "front",
            "PYTHONUNBUFFERED": "1",
        }
        env = self.env("web-1")
        self.assertEqual({name: env[name] for name in expected}, expected)

    def test_no_port(self) -> None:
        self.succeeds(self.daemon.start())
        self.assertNotIn("PORT", self.env())
        self.assertNotIn("NOTIFY_SOCKET", self.env())


class PortTests(LauncherTestCase):
    def test_kept_over_restarts(self) -> None:
        """[P6]: an app that takes any port of a range keeps the one it has, as long as nobody else takes it."""
        self.daemon.taken = {4000}
        self.succeeds(self.daemon.start(port="auto:4000-4009", restart_delay="1s"))
        self.daemon.taken = set()
        self.daemon.children.last.exit(1)
        self.assertIsNone(self.daemon.ports.owner_of(4001))
        self.daemon.pass_time(1.0)
        self.assertEqual((self.daemon.process().port, self.env()["PORT"]), (4001, "4001"))
        self.daemon.children.last.exit(1)
        self.daemon.taken = {4001}
        self.daemon.pass_time(1.0)
        self.assertEqual(self.env()["PORT"], "4000")

    def test_conflict(self) -> None:
        """The owner is named; who has it not is not named, and gets it when it is free."""
        self.succeeds(self.daemon.start("proxy", port=4000))
        self.fails(self.daemon.start(port=4000), "PORT_IN_USE", "port 4000 is taken by 'proxy'")
        self.assertEqual(self.daemon.statuses()["web"], "errored")
        self.succeeds(self.daemon.do("stop", "proxy"))
        self.succeeds(self.daemon.do("start", "web"))
        self.fails(self.daemon.do("start", "proxy"), "PORT_IN_USE", "port 4000 is taken by 'web'")

    def test_bind_tested(self) -> None:
        """A program of somebody else's that listens is found by trying."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.daemon.launcher._ports = PortPool(is_free)
            error = self.fails(self.daemon.start(port=port), "PORT_IN_USE", f"port {port} is taken by another program")
            self.assertEqual(error.details, {"port": port, "owner": None})
        self.succeeds(self.daemon.do("start", "web"))

    def test_given_back_when_nothing_comes_of_it(self) -> None:
        self.daemon.children.refusal = SpawnError("no such program", 2)
        self.fails(self.daemon.start(port=4000), "PROCESS_START_FAILED", "no such program")
        self.assertIsNone(self.daemon.ports.owner_of(4000))
        self.assertEqual(self.daemon.logs.open_for, [])


class PidFileTests(LauncherTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.folder(), "run", "web.pid")

    def pid(self, path: Path | None = None) -> int:
        return int((path or self.path).read_text())

    def test_while_it_lives(self) -> None:
        self.succeeds(self.daemon.start(pid_file=str(self.path)))
        self.assertEqual(self.pid(), 1001)
        self.daemon.children.last.exit(1)
        self.assertFalse(self.path.exists())
        self.daemon.pass_time()
        self.assertEqual(self.pid(), 1002)
        self.succeeds(self.daemon.do("stop", "web"))
        self.assertEqual(os.listdir(self.path.parent), [])

    def test_instances(self) -> None:
        """One each, as with logs."""
        self.succeeds(self.daemon.start(pid_file=str(self.path), instances=2))
        pids = [self.pid(self.path.with_name(f"web-{number}.pid")) for number in range(2)]
        self.assertEqual(pids, [1001, 1002])

    def test_reload(self) -> None:
        """The old one's until it has ended, the new one's then; the old one's again if the new one fails."""
        self.succeeds(self.daemon.start(pid_file=str(self.path)))
        reload = self.daemon.do("reload", "web")
        self.daemon.pass_time(0.5)
        self.assertEqual((len(self.daemon.children.alive), self.pid()), (2, 1001))
        self.succeeds(reload)
        self.assertEqual(self.pid(), 1002)
        reload = self.daemon.do("reload", "web")
        self.daemon.children.last.exit(1)
        self.fails(reload, "PROCESS_START_FAILED", "did not stay up")
        self.assertEqual(self.pid(), 1002)

    def test_cannot_be_written(self) -> None:
        """The child is worth more than the file."""
        path = Path(self.folder(), "file")
        path.write_text("")
        self.succeeds(self.daemon.start(pid_file=str(path / "web.pid")))
        self.assertEqual(self.daemon.statuses(), {"web": "online"})
        self.succeeds(self.daemon.do("stop", "web"))


class ReadinessTests(LauncherTestCase):
    """[P8]: the forms that need no network; each is real in the integration tests."""

    def test_notify(self) -> None:
        """A socket of its own for each start, gone with the child."""
        sockets = FakeSockets()
        self.daemon.launcher._reactor = sockets
        done = self.daemon.start(readiness="notify")
        path = self.env()["NOTIFY_SOCKET"]
        self.assertTrue(path.startswith("/nowhere/notify-0-"))
        self.assertEqual(sockets.open, [path])
        sockets.protocol.datagramReceived(b"STATUS=warming up", None)
        self.daemon.pass_time()
        self.assertNoResult(done)
        sockets.protocol.datagramReceived(b"READY=1\n", None)
        self.succeeds(done)
        self.succeeds(self.daemon.do("stop", "web"))
        self.assertEqual(sockets.open, [])

    def test_log_line(self) -> None:
        from pmdaemon.core.lines import Line

        done = self.daemon.start(readiness={"log_line": "listening on"})
        (seen,) = self.daemon.logs.watchers
        seen([Line(offset=0, end=6, data=b"hello")])
        self.daemon.pass_time()
        self.assertNoResult(done)
        seen([Line(offset=6, end=30, data=b"now listening on 80")])
        self.succeeds(done)
        self.assertEqual(self.daemon.logs.watchers, [])


class FakeSockets:
    """A reactor that opens datagram sockets only."""

    def __init__(self) -> None:
        self.open: list[str] = []

    def listenUNIXDatagram(self, path: str, protocol: Any, mode: int) -> Any:
        self.open.append(path)
        self.protocol = protocol
        self.path = path
        return self

    def stopListening(self) -> None:
        self.open.remove(self.path)


class LastLinesTests(LauncherTestCase):
    """[P10]: of the latest child only, both streams, within bounds."""

    def setUp(self) -> None:
        super().setUp()
        self.logs = Path(self.folder())
        self.out, self.err = self.logs / "out", self.logs / "err"
        self.daemon.logs.paths = lambda process: (str(self.out), str(self.err), None)
        self.out.write_text("old out\n")
        self.err.write_text("old err\n")
        self.succeeds(self.daemon.start())

    def last(self, out: str = "", err: str = "") -> list[str]:
        for path, text in ((self.out, out), (self.err, err)):
            with path.open("a") as file:
                file.write(text)
        return self.daemon.launcher.last_lines(self.daemon.process())

    def test_this_childs_only(self) -> None:
        self.assertEqual(self.last(), [])
        self.assertEqual(self.last("a\nb\n", "c\nd"), ["a", "b", "c", "d"])

    def test_twenty(self) -> None:
        lines = self.last("".join(f"out {number}\n" for number in range(30)), "err\n")
        self.assertEqual(lines, [*(f"out {number}" for number in range(11, 30)), "err"])

    def test_bytes(self) -> None:
        lines = self.last("x" * 5000 + "\n", "y" * 6000 + "\n")
        self.assertLessEqual(sum(map(len, lines)), 8 * 1024)
        self.assertEqual(lines[-1], "y" * 6000)

    def test_one_file_for_both(self) -> None:
        self.err = self.out
        self.succeeds(self.daemon.do("restart", "web"))
        self.assertEqual(self.last("a\n"), ["a"])
