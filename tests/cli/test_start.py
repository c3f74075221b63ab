"""``pmdaemon start``: with a daemon and without, programs and files; and the ends: upgrade and kill."""

import re
import shutil
import tempfile
from pathlib import Path

import msgspec

from pmdaemon.cli.appoptions import config_of
from pmdaemon.cli.start import start_command
from pmdaemon.cli.startup import unit
from pmdaemon.core.spec import AppSpec, HealthCheck, parse_app
from tests.cli.commandcase import CommandCase
from tests.integration.harness import LiveDaemon
from tests.integration.program import ROOT

FILE = """
apps:
  - {name: one, script: sleep 1000, kill_timeout: 200}
  - {name: two, script: sleep 1000, kill_timeout: 200}
"""


class FlagTests(CommandCase):
    def test_every_field_has_a_flag(self) -> None:
        """But for the script, which is the argument, and the args, which stand behind ``--``."""
        names = {param.name for param in start_command.params}
        fields = {field.encode_name for field in msgspec.structs.fields(AppSpec)} - {"script", "args", "health_check"}
        checks = {f"health_{field.encode_name}" for field in msgspec.structs.fields(HealthCheck)}
        self.assertEqual((fields | checks) - names, set())
        texts = {param.name: param.help for param in start_command.params if hasattr(param, "help")}
        self.assertEqual([name for name in fields | checks if not texts[name]], [])

    def read(self, *flags: str) -> dict[str, object]:
        context = start_command.make_context("start", [*flags, "x"])
        return config_of(context.params)

    def test_what_they_mean(self) -> None:
        config = self.read(
            *("--instances", "2", "--port", "3000-3001", "--env", "A=1", "--env", "B=x=y", "--no-autorestart"),
            *("--stop-exit-codes", "0", "--stop-exit-codes", "3", "--kill-timeout", "5s", "--min-uptime", "250"),
            *("--umask", "022", "--rlimits", "nofile=100:200", "--rlimits", "core=unlimited", "--user", "1000"),
            *("--env-file", "/a", "--env-file", "/b", "--readiness", "log_line=ready to go", "--nice", "-5"),
            *("--health-url", "http://localhost/", "--health-retries", "2", "--no-health-restart"),
            *("--interpreter-args", "-u -X dev", "--on-full", "drop", "--max-memory-restart", "1G"),
        )
        self.assertEqual(
            config,
            {
                "instances": 2,
                "port": "3000-3001",
                "env": {"A": "1", "B": "x=y"},
                "autorestart": False,
                "stop_exit_codes": [0, 3],
                "kill_timeout": "5s",
                "min_uptime": 250,
                "umask": "022",
                "rlimits": {"nofile": [100, 200], "core": "unlimited"},
                "user": 1000,
                "env_file": ["/a", "/b"],
                "readiness": {"log_line": "ready to go"},
                "nice": -5,
                "interpreter_args": "-u -X dev",
                "on_full": "drop",
                "max_memory_restart": "1G",
                "health_check": {"check_type": "http", "url": "http://localhost/", "retries": 2, "restart": False},
            },
        )
        parse_app({**config, "name": "x", "script": "x"}, where="config", base="/")
        self.assertEqual(self.read(), {})
        self.assertEqual(self.read("--health-port", "5")["health_check"], {"check_type": "tcp", "port": 5})


class StartTests(CommandCase):
    def place(self) -> Path:
        made = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, made)
        return made

    async def test_programs(self) -> None:
        await self.begin("apps: []")
        place = self.place()
        (place / "it.sh").write_text('echo "$@" "$COLOR"; exec sleep 1000\n')
        here = str(place)
        ended = await self.run_it("start", "it.sh", "--env", "COLOR=red", "--", "--name", "x y", cwd=here)
        self.assertEqual((ended.code, ended.err), (0, ""), ended)
        self.assertRegex(ended.out, r"^started it, pid \d+")
        config = (await self.ok("info", "it", "--json")).json["processes"][0]["config"]
        self.assertEqual((config["script"], config["cwd"], config["args"]), (f"{here}/it.sh", here, ["--name", "x y"]))
        await self.until(
            lambda: Path(self.daemon.home, "logs/it-out.log").read_text() == "--name x y red\n", lambda: "output"
        )
        await self.fails(11, "start", f"{here}/it.sh")
        await self.ok("start", f"{here}/it.sh", "--replace", "--kill-timeout", "200ms")
        await self.all_fail(
            (20, "start", "sleep 1000", "--name", "all"),
            (20, "start", "sleep 1000", "--port", "99999"),
            (10, "start", "itt"),
            (2, "start", "sleep 1", "--max-restarts", "many"),
            (2, "start", "sleep 1", "sleep 2", "--name", "both"),
            (2, "start", "sleep 1", "--env", "COLOR"),
            (2, "start"),
        )
        missing = await self.fails(12, "start", "/nowhere/gone.sh")
        self.assertIn("/nowhere/gone.sh", missing.err)
        same = await self.fails(30, "start", "sleep 1000", "--name", "port", "--port", str(self.daemon.port))
        self.assertIn(str(self.daemon.port), same.err)

    async def test_files(self) -> None:
        await self.begin("apps: []")
        place = self.place()
        file = place / "apps.yaml"
        file.write_text(FILE)
        self.assertRegex((await self.ok("start", "-c", str(file), "--only", "two")).out, r"^started two, pid \d+")
        again = await self.ok("start", "-c", str(file))
        self.assertRegex(again.out, r"^started one, pid \d+")
        self.assertIn("running already: two;", again.err)
        await self.ok("stop", "one")
        file.write_text(FILE.replace("1000", "2000"))
        self.assertRegex((await self.ok("start", "-c", str(file))).out, r"^started one, pid \d+")
        await self.ok("reload", "two", "--timeout", "20s")
        scripts = [each["config"]["script"] for each in (await self.ok("info", "all", "--json")).json["processes"]]
        self.assertEqual(scripts, ["sleep 2000"] * 2)
        near = await self.fails(10, "start", "-c", str(file), "--only", "tow")
        self.assertIn("did you mean: two", near.err)
        await self.fails(21, "start", "-c", "/nowhere.yaml")
        (place / "bad.json").write_text("{,}")
        await self.fails(22, "start", "-c", str(place / "bad.json"))
        (place / "bad.yaml").write_text("apps: [{name: x, script: y, prot: 1}]")
        wrong = await self.fails(20, "start", "-c", str(place / "bad.yaml"))
        self.assertIn("did you mean 'port'?", wrong.err)
        await self.fails(2, "start", "-c", str(file), "one")
        await self.fails(2, "start", "web", "--only", "one")

    async def test_a_file_over_there(self) -> None:
        """By its URL the daemon is sent the apps, not the name of the file."""
        await self.begin("apps: []")
        file = self.place() / "apps.yaml"
        file.write_text(FILE)
        ended = await self.ok("start", "-c", str(file), "--url", self.daemon.http, "--json")
        self.assertEqual([each["status"] for each in ended.json["processes"]], ["online", "online"])


class LifeTests(CommandCase):
    """A daemon that the command itself has started."""

    def home(self) -> str:
        home = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        self.daemon = LiveDaemon(self, home, "", None)  # type: ignore[arg-type]  # only its home is asked for
        self.addCleanup(self.run_it, "kill", "--yes")
        return home

    async def test_from_nothing_to_nothing(self) -> None:
        home = self.home()
        await self.fails(51, "start", "sleep 1000", "--no-daemon")
        ended = await self.ok("start", "sleep 1000", "--name", "it", "--daemon-port", "0", "--kill-timeout", "200")
        self.assertEqual(
            ended.err, f"started a daemon in the background; its home is {home}, its log {home}/twistd.log\n"
        )
        self.assertRegex(ended.out, r"^started it, pid (\d+)")
        before = (await self.ok("list", "--json")).json["processes"][0]
        self.assertRegex(
            (await self.ok("upgrade")).out, r"^the daemon is version \S+ now, was \S+; 1 of 1 processes went on\n$"
        )
        after = (await self.ok("list", "--json")).json["processes"][0]
        self.assertEqual((after["pid"], after["started_at"]), (before["pid"], before["started_at"]))
        self.assertRegex((await self.ok("kill")).out, r"^stopped the daemon \(pid \d+\) and everything it ran\n$")
        self.assertFalse(Path(f"/proc/{before['pid']}").exists())
        await self.fails(51, "list")
        await self.fails(51, "kill")
        again = await self.ok("start", "--daemon-port", "0")
        self.assertEqual(again.out, "")
        self.assertEqual((await self.ok("list", "--format", "{name} {status}")).out, "it online\n")
        await self.fails(2, "start")

    async def test_a_port_that_is_taken(self) -> None:
        self.home()
        other = await LiveDaemon.start(self)
        ended = await self.fails(50, "start", "sleep 1000", "--daemon-port", str(other.port))
        self.assertIn("choose another port: --daemon-port N", ended.err)


class OutputTests(CommandCase):
    """What needs no daemon."""

    async def test_startup(self) -> None:
        self.daemon = LiveDaemon(self, "/srv/it is", "", None)  # type: ignore[arg-type]  # only its home is asked for
        ended = await self.ok("startup", "--user", "--port", "9700")
        self.assertRegex(
            ended.out, r'(?m)^ExecStart=/\S+twistd -n --pidfile= pmdaemon --home "/srv/it is" --port 9700$'
        )
        self.assertIn("WantedBy=default.target\n", ended.out)
        self.assertNotIn("User=", ended.out)
        self.assertIn("systemctl --user enable --now pmdaemon", ended.err)

    def test_the_example_is_such_a_unit(self) -> None:
        made = unit(
            twistd="/opt/pmdaemon/bin/twistd",
            home="/var/lib/pmdaemon",
            options=["--config", "/etc/pmdaemon/ecosystem.yaml"],
            user="deploy",
            directory="StateDirectory=pmdaemon\nStateDirectoryMode=0700\n",
        )
        example = (ROOT / "examples/systemd/pmdaemon.service").read_text()
        self.assertEqual(made, example[example.index("[Unit]") :])

    async def test_completion(self) -> None:
        await self.begin("apps: [{name: web, script: sleep 1000, autostart: false}]")
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("_PMDAEMON_COMPLETE", (await self.ok("completion", shell)).out)
        await self.fails(2, "completion", "csh")
        told = await self.run_it(_PMDAEMON_COMPLETE="bash_complete", COMP_WORDS="pmdaemon stop w", COMP_CWORD="2")
        self.assertIn(told.out, ("plain,web\n", "\n", ""), "within 100 ms, or not at all")
        told = await self.run_it(_PMDAEMON_COMPLETE="bash_complete", COMP_WORDS="pmdaemon sc", COMP_CWORD="1")
        self.assertEqual(told.out, "plain,scale\n")
        home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, home)
        told = await self.run_it(
            _PMDAEMON_COMPLETE="fish_complete", COMP_WORDS="pmdaemon stop w", COMP_CWORD="w", PMDAEMON_HOME=home
        )
        self.assertEqual((told.out.strip(), told.err), ("", ""))

    async def test_wrong_usage(self) -> None:
        self.daemon = LiveDaemon(self, "/nowhere", "", None)  # type: ignore[arg-type]  # only its home is asked for
        near = await self.fails(2, "lst")
        self.assertEqual(
            near.err, "error: no such command 'lst' (exit 2)\n  did you mean: list, st, ls\n  see: pmdaemon --help\n"
        )
        wrong = await self.fails(2, "list", "--jsn")
        self.assertRegex(wrong.err, r"^error: no such option.*--jsn.* \(exit 2\)\n  see: pmdaemon list --help\n$")
        helped = (await self.ok("--help")).out
        examples = re.findall(r"(?m)^    pmdaemon ", helped)
        self.assertEqual(len(examples), 3)
        self.assertIn("del", helped)
