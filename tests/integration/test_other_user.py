"""Apps of another user under root's daemon: what that user puts in its files' way harms nobody but themselves."""

import json
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from pmdaemon.keeper.identity import Owner, acting_as
from tests.integration.harness import Client, LiveDaemon
from tests.integration.keepercase import KeeperCase

USER = GROUP = 12_345
"""Somebody who needs no account."""

CANARY = "root's alone"


def say_ready(user: int, path: Path) -> None:
    """Tell the socket at *path* that a service is ready, as some user. Raises PermissionError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to, acting_as(Owner(user, user, [user])):
        to.sendto(b"READY=1", str(path))


class OtherUserCase(KeeperCase):
    """A place that is the user's, and a directory that is root's with a file of root's in it."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can run an app as another user")
        super().setUp()
        self.roots, self.theirs = (Path(tempfile.mkdtemp(prefix="pmdaemon-")) for _ in range(2))
        for each in (self.roots, self.theirs):
            self.addCleanup(shutil.rmtree, each, ignore_errors=True)
            each.chmod(0o755)
        os.chown(self.theirs, USER, GROUP)
        self.secret = self.roots / "secret"
        self.secret.write_text(CANARY)
        self.secret.chmod(0o600)
        self.before = self.look()

    def look(self) -> dict[str, tuple[int, int, int, bytes]]:
        """What is in root's directory, and whose."""
        return {
            each.name: (each.stat().st_mode, each.stat().st_uid, each.stat().st_nlink, each.read_bytes())
            for each in self.roots.iterdir()
        }

    def assert_untouched(self) -> None:
        self.assertEqual(self.look(), self.before)

    def app(self, script: str = "while :; do echo said; sleep 0.05; done", **more: Any) -> dict[str, Any]:
        """An app of the user's whose files are in their place."""
        return {
            "name": "web",
            "script": "/bin/sh",
            "args": ["-c", script],
            "cwd": "/",
            "user": USER,
            "group": GROUP,
            "out_file": str(self.theirs / "logs/out.log"),
            "error_file": str(self.theirs / "logs/err.log"),
            "pid_file": str(self.theirs / "run/web.pid"),
            **more,
        }

    async def begin(self, **more: Any) -> tuple[LiveDaemon, Client]:
        daemon = await self.start(self.app(**more))
        client = await self.follow(daemon)
        return daemon, client

    def whose(self, path: Path) -> tuple[int, int]:
        there = path.lstat()
        return there.st_uid, stat.S_IMODE(there.st_mode)


class FilesTests(OtherUserCase):
    """As it should be."""

    async def test_all_of_them_are_the_users(self) -> None:
        _, client = await self.begin(log_max_size=200)
        await client.until_online("web")
        logs = self.theirs / "logs"
        await self.until(lambda: list(logs.glob("out.log.*.gz")), "a compressed segment")
        self.assertEqual({self.whose(each)[0] for each in self.theirs.rglob("*")}, {USER})
        self.assertEqual(self.whose(logs / "out.log"), (USER, 0o600))
        info = (await client.request("get_info", {"process": "web"}))["data"]
        self.assertEqual((self.theirs / "run/web.pid").read_text(), f"{info['pid']}\n")
        lines = (await client.request("get_logs", {"process": "web", "lines": 3}))["data"]["lines"]
        self.assertEqual([each["message"] for each in lines], ["said"] * 3)
        after = len(client.messages)
        await client.request("subscribe", {"events": ["log_message"]})
        await client.expect("log_message", after=after)
        await client.command("flush", "web")
        await self.kill_keeper()
        await self.until(lambda: alive_keeper(self), "another keeper")
        after = len(client.messages)
        await client.expect("log_message", after=after, timeout=20)
        await client.command("delete", "web", purge=True)
        self.assertEqual([each.name for each in self.theirs.rglob("*") if each.is_file()], [])
        self.assert_untouched()

    async def test_a_log_in_the_home_is_roots(self) -> None:
        app = {key: value for key, value in self.app().items() if not key.endswith("_file")}
        daemon = await self.start(app)
        client = await self.follow(daemon)
        await client.until_online("web")
        log = Path(self.home, "logs/web-out.log")
        await self.until(lambda: log.exists() and log.stat().st_size, "a line")
        self.assertEqual(self.whose(log), (0, 0o600))

    async def test_it_can_say_that_it_is_ready(self) -> None:
        """[P8]: on a socket that it gets to, other users do not, and that is gone afterwards."""
        app = self.app('echo "$NOTIFY_SOCKET"; exec sleep 1000', readiness="notify")
        del app["out_file"]
        daemon = await self.start(app)
        client = await self.follow(daemon)
        log = Path(self.home, "logs/web-out.log")
        await self.until(lambda: log.exists() and log.read_text().endswith("\n"), "the path of the socket")
        path = Path(self.lines("web")[0])
        self.assertRaises(PermissionError, say_ready, USER + 1, path)
        say_ready(USER, path)
        await client.until_online("web")
        self.assertEqual([self.whose(each) for each in (path, path.parent)], [(USER, 0o600), (0, 0o711)])
        await daemon.crash()
        client = await self.follow(await self.start())
        self.assertEqual((await self.processes(client))["web"]["status"], "online")
        await client.command("stop", "web")
        self.assertFalse(path.parent.exists())

    async def test_a_health_check_is_no_way_to_root(self) -> None:
        script = self.theirs / "check"
        script.write_text(f"#!/bin/sh\nid -u > {self.theirs}/was\n")
        script.chmod(0o755)
        check = {"check_type": "script", "script": str(script), "interval": 0.1}
        _, client = await self.begin(health_check=check)
        await client.until_online("web")
        self.assertEqual((self.theirs / "was").read_text(), f"{USER}\n")


class HarmTests(OtherUserCase):
    """As the user would like it."""

    def in_the_way(self) -> dict[str, Path]:
        """What the user may have put where a log is to be, by what it is; the paths are those of the logs."""
        places = {}
        for what in ("a directory", "a log", "an index", "another name", "a pipe"):
            place = self.theirs / what
            places[what] = place / "out.log"
            if what != "a directory":
                place.mkdir()
                os.chown(place, USER, GROUP)
        (self.theirs / "a directory").symlink_to(self.roots)
        places["a log"].symlink_to(self.secret)
        places["an index"].with_name("out.log.idx").symlink_to(self.roots / "new")
        self.secret.chmod(0o644)
        os.link(self.secret, places["another name"])
        os.mkfifo(places["a pipe"], 0o666)
        os.chown(places["a pipe"], USER, GROUP)
        self.before = self.look()
        return places

    async def test_what_is_in_the_way_of_a_log(self) -> None:
        places = self.in_the_way()
        apps = [
            self.app(
                name=what.replace(" ", "-"),
                autostart=False,
                out_file=str(path),
                error_file=str(path.with_name("err.log")),
            )
            for what, path in places.items()
        ]
        daemon = await self.start(*apps)
        client = await daemon.connect()
        for app in apps:
            reply = await client.request("command", {"action": "start", "process": app["name"]})
            self.assertEqual(reply["type"], "error", app["name"])
            if app["name"] in ("a-directory", "another-name"):
                self.assertIn("ermission denied", reply["data"]["message"], app["name"])
            self.assert_untouched()
        daemon.assert_quiet_log()

    async def test_a_pid_file_that_is_a_link(self) -> None:
        (self.theirs / "run").mkdir()
        os.chown(self.theirs / "run", USER, GROUP)
        (self.theirs / "run/.web.pid.new").symlink_to(self.secret)
        _, client = await self.begin()
        await client.until_online("web")
        self.assertEqual((self.theirs / "run/web.pid").read_text()[-1:], "\n")
        self.assert_untouched()

    async def test_a_pid_file_in_roots_directory(self) -> None:
        (self.theirs / "run").symlink_to(self.roots)
        daemon, client = await self.begin()
        await client.until_online("web")
        await client.command("stop", "web")
        self.assertIn("cannot write the pid file", daemon.log)
        self.assert_untouched()

    async def test_a_directory_that_becomes_a_link_while_the_log_is_rotated(self) -> None:
        """Everything that a keeper does by name: to rename, to begin anew, to compress, to delete."""
        for name in ("out.log", "out.log.idx", "out.log.new", "out.log.000000000000000", "out.log.000000000000000.gz"):
            (self.roots / name).write_text(CANARY)
            (self.roots / name).chmod(0o600)
        self.before = self.look()
        daemon, client = await self.begin(log_max_size=200, log_max_files=4)
        await client.until_online("web")
        logs = self.theirs / "logs"
        await self.until(lambda: list(logs.glob("out.log.*.gz")), "a compressed segment")
        logs.rename(self.theirs / "aside")
        logs.symlink_to(self.roots)
        keeper = Path(self.home, "keeper.log")
        aside = self.theirs / "aside/out.log"
        size = aside.stat().st_size
        await self.until(lambda: aside.stat().st_size > size + 400, "more of the log, which cannot be rotated")
        for action in ("flush", "restart"):
            await client.request("command", {"action": action, "process": "web"})
        for type_ in ("get_logs", "get_info", "get_crash"):
            reply = await client.request(type_, {"process": "web"})
            self.assertNotIn(CANARY, json.dumps(reply))
        await client.request("command", {"action": "delete", "process": "web", "purge": True})
        self.assertNotIn("Traceback", keeper.read_text() if keeper.exists() else "")
        daemon.assert_quiet_log()
        self.assert_untouched()

    async def test_the_next_daemon_begins_whatever_the_log_is_then(self) -> None:
        daemon, client = await self.begin()
        await client.until_online("web")
        await daemon.crash()
        log = self.theirs / "logs/out.log"
        log.unlink()
        log.symlink_to(self.secret)
        daemon = await self.start()
        client = await self.follow(daemon, "process_status", "log_message")
        await client.until_online("web")
        reply = await client.request("get_logs", {"process": "web", "lines": 10})
        self.assertNotIn(CANARY, json.dumps(reply))
        daemon.assert_quiet_log()
        self.assert_untouched()


class NoKeeperTests(OtherUserCase):
    async def test_an_app_of_another_users_is_never_started_as_root(self) -> None:
        script = f"id -u > {self.theirs}/was; exec sleep 1000"
        daemon, client = await self.begin(script=script)
        await client.until_online("web")
        await self.until(lambda: (self.theirs / "was").exists(), "its start")
        await daemon.stop()
        (self.theirs / "was").unlink()
        daemon = await LiveDaemon.start(self, "--no-keeper", home=self.home)
        client = await daemon.connect()
        reply = await client.request("command", {"action": "start", "process": "web"})
        self.assertEqual(reply["data"]["code"], "PROCESS_START_FAILED")
        self.assertIn("needs the keeper", reply["data"]["message"])
        self.assertFalse((self.theirs / "was").exists())


def alive_keeper(case: KeeperCase) -> bool:
    try:
        os.kill(case.keeper(), 0)
    except (ProcessLookupError, ValueError):
        return False
    return True
