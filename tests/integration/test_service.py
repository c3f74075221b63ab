"""The daemon as twistd runs it: its options, what it prints, and the modes of what it makes."""

import os
import re
import stat
from pathlib import Path
from unittest.mock import patch

from twisted.internet.error import ConnectionRefusedError
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pmdaemon import console
from pmdaemon.service import Options
from tests.integration.harness import LiveDaemon, Refused
from tests.integration.program import twistd

NO_IPV6 = """
import errno, socket
class Socket(socket.socket):
    def __init__(self, family=-1, *rest, **more):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest, **more)
socket.socket = Socket
"""


def printed(daemon: LiveDaemon) -> list[str]:
    """The lines that it printed, without their time."""
    lines = daemon.log.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", line) for line in lines), lines
    return [line.partition(" ")[2] for line in lines]


class AddressTests(TestCase):
    async def test_both_loopbacks_and_little_is_printed(self) -> None:
        daemon = await LiveDaemon.start(self)
        for host in ("127.0.0.1", "[::1]"):
            if host == "[::1]" and "there is no ::1" in daemon.log:
                continue
            self.assertEqual((await daemon.get("/", host=host))[0], 302)
        first = [line for line in printed(daemon) if "there is no ::1" not in line]
        self.assertEqual(first, [f"PMDaemon listens on http://localhost:{daemon.port}/ with home {daemon.home}"])
        await daemon.stop()
        self.assertEqual(
            [line for line in printed(daemon) if "there is no ::1" not in line][1:],
            ["PMDaemon is stopping, and waits for its processes to end", "PMDaemon has stopped"],
        )

    async def test_without_ipv6(self) -> None:
        daemon = await LiveDaemon.start(self, command=(*twistd("-n", "--pidfile=", before=NO_IPV6), "pmdaemon"))
        self.assertEqual((await daemon.get("/", host="127.0.0.1"))[0], 302)
        self.assertIn("there is no ::1 on this machine, listening without it", daemon.log)

    async def test_one_host(self) -> None:
        daemon = await LiveDaemon.start(self, "--host", "127.0.0.2")
        self.assertIn(f"PMDaemon listens on http://127.0.0.2:{daemon.port}/ with", daemon.log)
        self.assertNotIn("warn", daemon.log)
        self.assertEqual((await daemon.get("/", host="127.0.0.2"))[0], 302, "the name it was given is its own")
        with self.assertRaises(ConnectionRefusedError):
            await daemon.get("/", host="127.0.0.1")

    async def test_every_host_is_warned_of(self) -> None:
        daemon = await LiveDaemon.start(self, "--host", "0.0.0.0", "--insecure-remote")
        self.assertIn("warn: listening on 0.0.0.0 without TLS: tokens can be read on their way", daemon.log)


class AccessTests(TestCase):
    async def test_refusals_say_how_to_allow(self) -> None:
        daemon = await LiveDaemon.start(self)
        for origin, host, status, words in (
            ("https://evil.example", None, 403, "--allow-origin https://evil.example"),
            ("null", None, 403, "--www DIRECTORY"),
            (f"http://localhost:{daemon.port + 1}", None, 403, f"--allow-origin http://localhost:{daemon.port + 1}"),
            (None, f"evil.example:{daemon.port}", 421, "--allow-host evil.example"),
        ):
            with self.assertRaises(Refused) as caught:
                await daemon.connect(origin=origin, host=host)
            self.assertEqual(caught.exception.status, status)
            self.assertEqual(daemon.log.count(words), 1, daemon.log)
        await daemon.connect(origin=f"http://127.0.0.1:{daemon.port}", host=f"127.0.0.1:{daemon.port}")

    async def test_what_was_allowed_and_pages_of_the_users_own(self) -> None:
        pages = Path(self.mktemp())
        pages.mkdir()
        (pages / "mine.html").write_text("<p>mine")
        allowed = ("--allow-origin", "https://one.example", "--allow-origin", "https://two.example:8443")
        daemon = await LiveDaemon.start(self, *allowed, "--allow-host", "box.lan", "--www", str(pages.absolute()))
        await daemon.connect(origin="https://one.example")
        await daemon.connect(origin="https://two.example:8443")
        await daemon.connect(host="box.lan:80")
        status, headers, body = await daemon.get("/www/mine.html")
        self.assertEqual((status, body), (200, b"<p>mine"))
        self.assertFalse(headers.hasHeader("content-security-policy"))
        self.assertEqual(len(printed(daemon)), 1, "requests that are served are not logged")


APP = """
apps:
  - name: web
    script: sh
    args: [-c, "umask; umask > made; exec sleep 1000"]
    cwd: "{cwd}"
    health_check: {{check_type: script, script: "sh -c 'umask > probed'"}}
"""


class FilesTests(TestCase):
    """What the daemon makes is for its user alone; its children make what they would have without it."""

    async def umasks(self, command: list[str]) -> tuple[LiveDaemon, list[str], int]:
        """A daemon, the umasks of a child and of its health check, and the mode of a file the child made."""
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        daemon = await LiveDaemon.start(self, config=APP.format(cwd=place), command=(*command, "pmdaemon"))
        await (await daemon.connect()).until_online("web")
        made = [(place / name).read_text().strip() for name in ("made", "probed")]
        return daemon, made, stat.S_IMODE((place / "made").stat().st_mode)

    async def test_modes(self) -> None:
        before = "import os; os.umask(0o027)"
        daemon, umasks, made = await self.umasks(twistd("-n", before=before))
        self.assertEqual((umasks, oct(made)), (["0027", "0027"], oct(0o640)))
        home = Path(daemon.home)
        modes = {str(path.relative_to(home)): path.stat().st_mode for path in (home, *home.rglob("*"))}
        self.assertLessEqual({"state.db", "state.db-wal", "logs/web-out.log", "daemon.lock", "twistd.pid"}, set(modes))
        for name, mode in modes.items():
            self.assertEqual(oct(stat.S_IMODE(mode)), oct(0o700 if stat.S_ISDIR(mode) else 0o600), name)

    async def test_the_umask_given_to_twistd_is_the_childrens(self) -> None:
        _, umasks, made = await self.umasks(twistd("-n", "--pidfile=", "--umask=002"))
        self.assertEqual((umasks, oct(made)), (["0002", "0002"], oct(0o664)))


class CommandLineTests(SynchronousTestCase):
    """What the options make of twistd's own."""

    def setUp(self) -> None:
        self.addCleanup(os.umask, os.umask(0o022))
        self.home = Path(self.mktemp()).absolute()

    def parse(self, *before: str, home: str = "") -> ServerOptions:
        options = ServerOptions()
        words = [*before, "pmdaemon", "--home", home or str(self.home)]
        with patch("sys.argv", ["twistd", *words]):
            options.parseOptions(words)
        return options

    def test_the_pid_file_is_in_the_home_unless_given(self) -> None:
        for number, (given, expected) in enumerate(
            (
                ((), "{home}/twistd.pid"),
                (("--pidfile=",), ""),
                (("--pidfile", "twistd.pid"), os.path.abspath("twistd.pid")),
                (("--pidf=other.pid",), os.path.abspath("other.pid")),
            )
        ):
            home = f"{self.home}{number}"
            self.assertEqual(self.parse("-n", *given, home=home)["pidfile"], expected.format(home=home), given)

    def test_the_log_is_in_the_home_unless_told_otherwise(self) -> None:
        self.addCleanup(console.name_for, None)
        for number, (given, ours, logfile) in enumerate(
            (
                ((), True, "{home}/twistd.log"),
                (("-n",), True, None),
                (("-n", "-l", "-"), True, None),
                (("-l", "mine.log"), True, "mine.log"),
                (("-n", "-l", "mine.log"), True, "mine.log"),
                (("--syslog",), False, None),
                (("-n", "--logger", "twisted.logger.LogPublisher"), False, None),
            )
        ):
            home = f"{self.home}{number}"
            console.name_for(None)
            options = self.parse(*given, home=home)
            self.assertEqual(options["logger"] is console.observer, ours, given)
            self.assertEqual(console._destination.get("path"), logfile and logfile.format(home=home), given)

    def test_which_home(self) -> None:
        for given, variable, expected in (
            ([], None, "{base}/.pmdaemon"),
            ([], "{base}/x", "{base}/x"),
            ([], "", "{base}/.pmdaemon"),
            (["--home", "{base}/y"], "{base}/x", "{base}/y"),
        ):
            base = Path(self.mktemp()).absolute()
            environ = {"HOME": str(base)}
            if variable is not None:
                environ["PMDAEMON_HOME"] = variable.format(base=base)
            options = Options()
            with patch.dict("os.environ", environ):
                options.parseOptions([word.format(base=base) for word in given])
            self.assertEqual(str(options["claimed"].path), expected.format(base=base))
