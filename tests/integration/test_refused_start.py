"""A start that cannot succeed: one clear line, a non-zero exit, and nothing started or left behind."""

import json
import os
import shutil
import socket
import sqlite3
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from pmdaemon.service import Options, makeService
from tests.integration.program import Program, twistd

APP = {"name": "web", "script": "touch", "args": ["started"], "autorestart": False}


class RefusedStartCase(TestCase):
    """Has a directory of the test's own, in which the home is not there yet."""

    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pmdaemon-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.home = self.place / "home"

    def write(self, name: str, text: str | bytes) -> str:
        path = self.place / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def kept(self) -> list[str]:
        """The apps that the home's state holds."""
        with sqlite3.connect(self.home / "state.db") as db:
            names = [name for (name,) in db.execute("SELECT name FROM apps")]
        db.close()
        return names


class WordsTests(RefusedStartCase):
    """What a start says, made in this process: there are many cases."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.umask, os.umask(0o022))

    def assert_refused(self, options: list[str], words: str) -> None:
        with self.assertRaises(SystemExit) as caught:
            parsed = Options()
            parsed.parseOptions(options)
            makeService(parsed)
        self.assertRegex(caught.exception.code, r"\Apmdaemon: [^\n]+\Z")
        self.assertIn(words, caught.exception.code)

    def test_files_and_options(self) -> None:
        text = json.dumps({"apps": [{**APP, "max_restart": 3}]})
        unknown = "apps[0].max_restart is not a known key; did you mean 'max_restarts'?"
        for name, content, words in (
            ("typo.json", text, f"typo.json: {unknown}"),
            ("typo.yaml", text, f"typo.yaml: {unknown}"),
            ("typo.toml", "[[apps]]\nname = 'web'\nscript = 'x'\nmax_restart = 3", f"typo.toml: {unknown}"),
            ("broken.yaml", "apps:\n  - name: [web\n", "cannot read broken.yaml: line "),
            ("binary.yaml", b"\xff\xfe\x00", "not UTF-8"),
            ("apps.ini", "[web]", "cannot read apps.ini: "),
        ):
            self.assert_refused(["--config", self.write(name, content), "--home", str(self.home)], words)
        for options, words in (
            (["--config", str(self.place / "nowhere.yaml")], "nowhere.yaml: No such file or directory"),
            (["--www", str(self.place / "nowhere")], "cannot serve --www"),
            (["--allow-origin", "example.org"], "cannot allow the origin example.org"),
            (["--allow-host", "http://example.org"], "cannot allow the host http://example.org"),
            (["--port", "70000"], "a port is a number from 0 to 65535"),
            (["--tls-cert", ""], "cannot use TLS: a certificate and its key are needed"),
            (["--tls-cert", "", "--tls-key", ""], "cannot use the TLS certificate : no such file or directory"),
            (["--log-cap", "lots"], 'a size must be a number of bytes or a size such as "512K"'),
            (["--log-cap", "1G", "--no-keeper"], "cannot keep logs within --log-cap: with --no-keeper nobody rotates"),
            (["--prot", "1"], "option --prot not recognized; see twistd pmdaemon --help"),
            (["start"], "Wrong number of arguments"),
        ):
            self.assert_refused([*options, "--home", str(self.home)], words)
        self.assertFalse(self.home.exists(), "what can be known before is not looked for in the home")

    def test_a_home_that_cannot_be_used(self) -> None:
        file = self.write("file", "")
        for name in ("foreign", "obstructed", "newer"):
            (self.place / name).mkdir()
        (self.place / "obstructed/logs").touch()
        with sqlite3.connect(self.place / "newer/state.db") as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        cases = {
            file: f"cannot use the home {file}: file exists; give another with --home DIR",
            f"{file}/home": f"cannot use the home {file}/home: not a directory",
            f"{self.place}/obstructed": "/obstructed/logs: file exists",
            f"{self.place}/newer": "it was written by a newer pmdaemon (schema 99",
            "~nobody-of-this-name/home": "cannot tell where the home ~nobody-of-this-name/home is",
        }
        if os.geteuid() == 0:
            os.chown(self.place / "foreign", 12345, 12345)
            cases[f"{self.place}/foreign"] = "it belongs to another user"
        else:
            cases["/proc/home"] = "cannot use the home /proc/home: "
        for home, words in cases.items():
            self.assert_refused(["--home", home, "--port", "0"], words)
        self.assertEqual(os.listdir(self.place / "foreign"), [])

    def test_hosts_that_are_not_there(self) -> None:
        for index, (host, words) in enumerate(
            (
                ("192.0.2.1", "cannot listen on 192.0.2.1:0: cannot assign requested address"),
                ("::1%nowhere", "cannot listen on [::1%nowhere]:0: name or service not known"),
            )
        ):
            options = ["--home", f"{self.home}{index}", "--port", "0", "--insecure-remote", "--host", host]
            self.assert_refused(options, words)


class RefusedStartTests(RefusedStartCase):
    """The same seen from outside, ``twistd -n pmdaemon``."""

    async def refusal(self, *options: str, before: tuple[str, ...] = ()) -> str:
        """The one line with which a start ends; ``before`` goes to twistd itself."""
        cwd = tempfile.mkdtemp(dir=self.place)
        program = Program.start(self, [*twistd("-n", *before), "pmdaemon", "--home", str(self.home), *options], cwd=cwd)
        code = await program.ended(60)
        self.assertRegex(program.output, r"\Apmdaemon: [^\n]+\n\Z")
        self.assertEqual(program.output, program.errors, "it is said on standard error")
        self.assertEqual(code, 1)
        self.assertEqual(os.listdir(cwd), [], "no pid file, no log")
        return program.output

    def taken(self, host: str) -> int:
        """A port of ``host`` that somebody listens on until the test ends."""
        listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.addCleanup(listening.close)
        return int(listening.getsockname()[1])

    async def test_before_the_home_is_touched(self) -> None:
        config = self.write("apps.yaml", "apps: [{name: web, script: sleep, port: many}]")
        first, second = await gatherResults(
            [
                Deferred.fromCoroutine(self.refusal("--config", config)),
                Deferred.fromCoroutine(self.refusal(before=("--uid", "65534"))),
            ]
        )
        self.assertIn("apps.yaml: apps[0].port", first)
        self.assertIn("cannot be started with --uid; start twistd as the user it is to be", second)
        self.assertFalse(self.home.exists())

    async def test_a_port_that_is_taken_starts_and_keeps_nothing(self) -> None:
        config = self.write("apps.json", json.dumps({"apps": [{**APP, "cwd": str(self.place)}]}))
        port = self.taken("127.0.0.1")
        line = await self.refusal("--port", str(port), "--config", config)
        self.assertIn(f"cannot listen on 127.0.0.1:{port}: the port is taken; ", line)
        self.assertFalse((self.place / "started").exists())
        self.assertFalse((self.home / "twistd.pid").exists())
        self.assertEqual(self.kept(), [], "an app of a start that failed is not taken up")

    async def test_a_port_that_is_taken_on_ipv6_alone(self) -> None:
        """Another user could have it, and would get whoever asks for localhost there."""
        try:
            port = self.taken("::1")
        except OSError:
            return  # no IPv6 here; tests.web.test_listen has the same without it
        line = await self.refusal("--port", str(port))
        self.assertIn(f"cannot listen on [::1]:{port}: the port is taken; ", line)
        socket.create_server(("127.0.0.1", port)).close()

    async def test_an_app_that_clashes_with_a_kept_one(self) -> None:
        """The whole file is refused; the apps before it are not taken up."""
        many = self.write("many.json", json.dumps({"apps": [{**APP, "instances": 2, "autostart": False}]}))
        other = self.write("other.json", json.dumps({"apps": [{**APP, "name": "new"}, {**APP, "name": "web-1"}]}))
        options = ["--home", str(self.home), "--port", "0", "--config", many]
        program = Program.start(self, [*twistd("-n"), "pmdaemon", *options])
        await program.line("PMDaemon listens")
        program.signal("TERM")
        self.assertEqual(await program.ended(), 0)
        self.assertIn("'web-1' is in use", await self.refusal("--port", "0", "--config", other))
        self.assertEqual(self.kept(), ["web"])
