"""What is executed: argv, environment and directory of a start, as the configuration page says."""

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.spec import AppSpec, parse_app
from pmdaemon.daemon.invocation import Invocation, inherited, invocation
from pmdaemon.errors import ProcessStartFailed


class InvocationTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = os.path.realpath(self.mktemp())
        os.makedirs(f"{self.base}/bin")

    def file(self, name: str, *, executable: bool = False, text: str = "#!/bin/sh\n") -> str:
        path = Path(self.base, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if executable else 0o644)
        return str(path)

    def app(self, script: str, **fields: Any) -> AppSpec:
        return parse_app({"script": script, **fields}, where="config", base=self.base, name="web")

    def call(self, script: str, *, given: dict[str, str] | None = None, **fields: Any) -> Invocation:
        environment = {"PATH": f"{self.base}/bin", "HOME": "/root"}
        return invocation(self.app(script, **fields), name="web", inherited=environment, given=given or {})

    def refused(self, script: str, **fields: Any) -> ProcessStartFailed:
        error = self.assertRaises(ProcessStartFailed, self.call, script, **fields)
        self.assertTrue(error.message.startswith("cannot start 'web': "))
        return error


class ArgvTests(InvocationTestCase):
    def test_path(self) -> None:
        """Absolute, relative to the file that names it, or a bare word in cwd."""
        server = self.file("app/server", executable=True)
        for script, cwd in ((server, "/"), ("./app/server", "/"), ("app/server", "bin"), ("server", "app")):
            self.assertEqual(self.call(script, cwd=cwd).argv, [server], script)

    def test_program_on_path(self) -> None:
        node = self.file("bin/node", executable=True)
        self.assertEqual(self.call("node", args=["server.js", "--x"]).argv, [node, "server.js", "--x"])

    def test_own_path(self) -> None:
        """The PATH of ``env`` counts, not the daemon's."""
        tool = self.file("other/tool", executable=True)
        self.assertEqual(self.call("tool", env={"PATH": f"{self.base}/other"}).argv, [tool])

    def test_split(self) -> None:
        """Like a shell would, which is never run: what is one to a shell is text here."""
        node = self.file("bin/node", executable=True)
        argv = self.call("node 'my server.js' --port=$PORT;  >x", args="a 'b c'").argv
        self.assertEqual(argv, [node, "my server.js", "--port=$PORT;", ">x", "a", "b c"])

    def test_a_file_with_spaces(self) -> None:
        script = self.file("my server", executable=True)
        self.assertEqual(self.call("my server").argv, [script])

    def test_interpreter_by_suffix(self) -> None:
        for suffix, interpreter in ((".js", "node"), (".py", "python3"), (".sh", "sh"), (".rb", "ruby")):
            script = self.file(f"server{suffix}")
            self.assertEqual(self.call(f"server{suffix}").argv, [interpreter, script])
            self.file(f"server{suffix}", executable=True)
            self.assertEqual(self.call(f"server{suffix}").argv, [script])

    def test_interpreter_of_a_command_line(self) -> None:
        script = self.file("server.py")
        self.assertEqual(self.call("server.py --fast").argv, ["python3", script, "--fast"])

    def test_chosen_interpreter(self) -> None:
        script = self.file("server.py", executable=True)
        argv = self.call("server.py", interpreter="pypy3", interpreter_args="-X dev", args=["x"]).argv
        self.assertEqual(argv, ["pypy3", "-X", "dev", script, "x"])

    def test_no_interpreter(self) -> None:
        self.file("server.py")
        self.assertIn("is not executable", self.refused("server.py", interpreter="none").message)

    def test_not_executable(self) -> None:
        script = self.file("server")
        error = self.refused("server")
        self.assertIn(f"'{script}' is not executable", error.message)
        self.assertIn("chmod +x", str(error.hint))

    def test_not_found(self) -> None:
        """Where it was looked for is said."""
        self.assertIn(f"no file '{self.base}/app/server'", self.refused("app/server").message)
        message = self.refused("nodejs").message
        self.assertIn("'nodejs'", message)
        self.assertIn(f"PATH={self.base}/bin", message)
        self.refused("./bin")  # a directory

    def test_no_command_line(self) -> None:
        for script in ("node 'server", "'' x", "node \\"):
            self.assertIn("script", self.refused(script).message)

    def test_cwd(self) -> None:
        os.mkdir(f"{self.base}/app")
        server = self.file("server", executable=True)
        self.assertEqual(self.call(server, cwd="app").cwd, f"{self.base}/app")
        self.assertIn(f"'{self.base}/gone' does not exist", self.refused(server, cwd="gone").message)
        self.assertIn("does not exist", self.refused(server, cwd="server").message)


class EnvironmentTests(InvocationTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.script = self.file("server", executable=True)

    def env(self, **fields: Any) -> dict[str, str]:
        return self.call(self.script, **fields).env

    def test_order(self) -> None:
        """Each over the one before: the daemon's own, what it tells the child, env_file by env_file, env."""
        self.file("one.env", text="B=file\nC=file\nD=file\n")
        self.file("two.env", text="C=file2\n")
        env = self.env(
            given={"A": "given", "B": "given", "HOME": "given"}, env_file=["one.env", "two.env"], env={"D": 1}
        )
        told = {name: env[name] for name in ("A", "B", "C", "D", "HOME")}
        self.assertEqual(told, {"A": "given", "B": "file", "C": "file2", "D": "1", "HOME": "given"})

    def test_unbuffered(self) -> None:
        """Set unless somebody has."""
        self.assertEqual(self.env()["PYTHONUNBUFFERED"], "1")
        self.assertEqual(self.env(env={"PYTHONUNBUFFERED": ""})["PYTHONUNBUFFERED"], "")

    def test_kinds_of_values(self) -> None:
        env = self.env(env={"T": True, "N": 1.5, "S": "$HOME"})
        self.assertEqual((env["T"], env["N"], env["S"]), ("true", "1.5", "$HOME"))

    def test_env_file(self) -> None:
        """Quotes and comments as dotenv has them; nothing is put in for ``$X``."""
        self.file("x.env", text="# note\nexport A='a b'\nB=$A # note\nC\nD=\n")
        env = self.env(env_file="x.env")
        self.assertEqual((env["A"], env["B"], env["D"]), ("a b", "$A", ""))
        self.assertNotIn("C", env)

    def test_env_file_that_cannot_be_read(self) -> None:
        self.assertIn("No such file", self.refused(self.script, env_file="gone.env").message)
        Path(self.base, "bin.env").write_bytes(b"\xff")
        self.assertIn("not UTF-8", self.refused(self.script, env_file="bin.env").message)

    def test_read_at_each_start(self) -> None:
        for value in ("1", "2"):
            self.file("x.env", text=f"A={value}\n")
            self.assertEqual(self.env(env_file="x.env")["A"], value)

    def test_what_is_not_inherited(self) -> None:
        """The daemon's secrets, and what a service manager tells it alone."""
        ours = {"PATH": "/bin", "PMDAEMON_TOKEN": "x", "PMDAEMON_API_KEY": "x", "PMDAEMON_TOKEN_FILE": "x"}
        ours |= {"NOTIFY_SOCKET": "/run/x", "LISTEN_FDS": "1", "WATCHDOG_USEC": "1"}
        self.assertEqual(inherited(ours), {"PATH": "/bin"})
