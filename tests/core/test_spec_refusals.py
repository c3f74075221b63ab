"""What an app's configuration may not be, in which words, and what is never shown of it [E5] [R9]."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.pm2 import UNSUPPORTED
from pmdaemon.core.spec import AppSpec, parse_app
from pmdaemon.errors import InvalidConfiguration

HTTP = {"check_type": "http", "url": "http://localhost/"}


def app(where: str = "config", **fields: Any) -> AppSpec:
    return parse_app({"name": "web", "script": "server.js", **fields}, where=where, base="/srv/shop")


class RefusalTests(SynchronousTestCase):
    def assert_refused(self, message: str, hint: str | None, **fields: Any) -> None:
        error = self.assertRaises(InvalidConfiguration, app, **fields)
        self.assertEqual(error.message, f"cannot read config: {message}")
        self.assertEqual(error.hint, hint)

    def test_a_typo_names_the_file_the_path_and_the_nearest_key(self) -> None:
        error = self.assertRaises(
            InvalidConfiguration, app, "ecosystem.yaml: apps[2]", health_check={**HTTP, "intervall": 1}
        )
        self.assertEqual(error.message, "cannot read ecosystem.yaml: apps[2].health_check.intervall is not a known key")
        self.assertEqual(error.hint, "did you mean 'interval'?")
        self.assertEqual(error.details, {"path": "apps[2].health_check.intervall"})

    def test_a_value_that_is_no_object(self) -> None:
        for value in (None, 5, "x", [], True):
            error = self.assertRaises(InvalidConfiguration, parse_app, value, where="config", base="/")
            self.assertIn("must be an object", error.message)

    def test_quotes_that_are_not_closed(self) -> None:
        for key in ("args", "interpreter_args"):
            self.assert_refused(
                f"{key} cannot be split into words: no closing quotation", "write it as a list", **{key: "a 'b"}
            )

    def test_signals(self) -> None:
        problem = "stop_signal must be the name of a signal, not 'SIGTREM'"
        self.assert_refused(problem, "did you mean 'SIGTERM'?", stop_signal="SIGTREM")
        for name in ("", "SIG", "SIGSIGTERM", "SIG_DFL", "15"):
            self.assertRaises(InvalidConfiguration, app, stop_signal=name)

    def test_durations_and_sizes(self) -> None:
        self.assert_refused("min_uptime must be 0 or more", None, min_uptime=-1)
        for fields in (
            {"min_uptime": "1d"},
            {"kill_timeout": 10**12},
            {"restart_window": 0},
            {"listen_timeout": "0s"},
            {"max_memory_restart": 0},
            {"max_memory_restart": "lots"},
            {"health_check": {**HTTP, "interval": 0}},
            {"health_check": {**HTTP, "timeout": "0ms"}},
        ):
            self.assertRaises(InvalidConfiguration, app, **fields)

    def test_ports_must_be_enough_for_all_instances(self) -> None:
        for port, holds, hint in ((3000, 1, "3000-3003"), ("3000-3001", 2, "3000-3003"), ("auto:1-2", 2, "auto:1-4")):
            self.assert_refused(
                f"port must hold 4 ports, one for each instance, and holds {holds}",
                f'give a range such as "{hint}"',
                port=port,
                instances=4,
            )
        app(port="3000-3003", instances=4)
        app(port=3000, instances="max")
        self.assertRaises(InvalidConfiguration, app, port="auto")

    def test_instances(self) -> None:
        for instances in (0, -1, 1001, 1.5, True, "2", "all"):
            self.assertRaises(InvalidConfiguration, app, instances=instances)

    def test_the_parts_of_a_health_check_must_fit_together(self) -> None:
        self.assert_refused(
            "health_check.url is missing, a check of type http needs it",
            "add 'url'",
            health_check={"check_type": "http"},
        )
        self.assert_refused(
            "health_check.port has no meaning in a check of type http",
            "leave out 'port'",
            health_check={**HTTP, "port": 80},
        )
        for check in (
            {"check_type": "script"},
            {"check_type": "tcp"},
            {"check_type": "ftp", "url": "ftp://x"},
            {"url": "http://x"},
            {"check_type": "tcp", "port": 65536},
        ):
            self.assertRaises(InvalidConfiguration, app, health_check=check)

    def test_urls_of_a_health_check(self) -> None:
        for url in (
            "localhost:80",
            "ftp://x",
            "http://",
            "http://[::1",
            "http://x:99999",
            "http://x/ö",
            "http://x/ y",
            "http://x:0",
        ):
            error = self.assertRaises(InvalidConfiguration, app, health_check={"check_type": "http", "url": url})
            self.assertIn("must be an http or https URL", error.message)
        for url in ("http://localhost:3000/health?x=1", "https://[::1]:8443/", "HTTP://X"):
            app(health_check={"check_type": "http", "url": url})

    def test_readiness_needs_what_it_waits_for(self) -> None:
        self.assert_refused(
            "readiness is 'health', but no health check is enabled", "add a health_check", readiness="health"
        )
        self.assert_refused("readiness is 'port', but the app has no port", "add a port", readiness="port")
        for readiness in ("online", {"log_line": ""}, {"log_line": "a\nb"}, {"line": "x"}, 5):
            self.assertRaises(InvalidConfiguration, app, readiness=readiness)

    def test_texts_that_no_program_could_be_given(self) -> None:
        for text in ("a\0b", "\ud800", "x" * 65537, "ü" * 40000):
            for fields in (
                {"script": text},
                {"args": text},
                {"args": ["x", text]},
                {"cwd": text},
                {"env": {"A": text}},
                {"env_file": [text]},
                {"health_check": {"check_type": "script", "script": text}},
                {"readiness": {"log_line": text}},
            ):
                self.assertRaises(InvalidConfiguration, app, **fields)
        for script in ("", "  "):
            self.assertRaises(InvalidConfiguration, app, script=script)

    def test_environments_that_no_program_could_be_given(self) -> None:
        for env in (
            {"A=B": "x"},
            {"": "x"},
            {"A\0": "x"},
            {"A": None},
            {"A": []},
            {"A": float("nan")},
            {"A": 2**63},
            {f"N{index}": "" for index in range(1001)},
            {f"N{index}": "x" * 60000 for index in range(5)},
        ):
            self.assertRaises(InvalidConfiguration, app, env=env)

    def test_more_arguments_than_are_allowed(self) -> None:
        app(args=["x"] * 1000)
        self.assertRaises(InvalidConfiguration, app, args=["x"] * 1001)
        self.assertRaises(InvalidConfiguration, app, args="x " * 1001)


class PM2Tests(SynchronousTestCase):
    def test_its_spellings_mean_ours(self) -> None:
        pasted = app(
            out="o.log", error="e.log", exec_interpreter="node", node_args="--inspect", exec_mode="fork", watch=False
        )
        ours = app(out_file="o.log", error_file="e.log", interpreter="node", interpreter_args="--inspect")
        self.assertEqual(pasted, ours)
        self.assertEqual(app(exec_mode="fork_mode"), app())

    def test_one_spelling_at_a_time(self) -> None:
        for fields in ({"out": "a", "out_file": "b"}, {"out_file": "b", "out": "a"}):
            error = self.assertRaises(InvalidConfiguration, app, **fields)
            self.assertIn("out_file is given twice", error.message)
            self.assertEqual(error.hint, "keep 'out_file' only")
        self.assertEqual(app(out=None, out_file="a"), app(out="a", out_file=None))

    def test_what_would_change_something_is_refused(self) -> None:
        for key, value in (
            ("exec_mode", "cluster"),
            ("exec_mode", 1),
            ("watch", True),
            ("watch", ["src"]),
            ("watch", 0),
        ):
            error = self.assertRaises(InvalidConfiguration, app, **{key: value})
            self.assertIn("is not supported yet", error.message)
            self.assertIn("leave it out", error.hint or "")

    def test_what_is_to_come_is_no_unknown_key(self) -> None:
        for key in UNSUPPORTED:
            error = self.assertRaises(InvalidConfiguration, app, **{key: "x"})
            self.assertEqual(error.message, f"cannot read config: {key} is not supported yet")
            self.assertIn("leave it out", error.hint or "")


class PublicTests(SynchronousTestCase):
    def test_what_is_written_and_what_one_looks_for(self) -> None:
        self.assertEqual(
            app(kill_timeout="5s").public(),
            {
                "name": "web",
                "script": "server.js",
                "args": [],
                "cwd": "/srv/shop",
                "env": [],
                "instances": 1,
                "namespace": "default",
                "autorestart": True,
                "kill_timeout": "5s",
            },
        )

    def test_no_secret_is_shown(self) -> None:
        """[R9]"""
        spec = app(
            script="node server.js --token hunter2",
            args=["--password", "hunter2", "--api-key=hunter2", "--port", "80"],
            interpreter_args="--secret hunter2 -u",
            env={"B": "hunter2", "A": "hunter2"},
            health_check={"check_type": "http", "url": "http://me:hunter2@localhost/?token=hunter2&x=1"},
        )
        shown = spec.public()
        self.assertEqual(shown["env"], ["A", "B"])
        self.assertEqual(shown["args"], ["--password", "***", "--api-key=***", "--port", "80"])
        self.assertEqual(shown["interpreter_args"], "--secret *** -u")
        self.assertEqual(shown["script"], "node server.js --token ***")
        self.assertEqual(shown["health_check"]["url"], "http://***@localhost/?token=***&x=1")
        self.assertNotIn("hunter2", repr(spec))
        self.assertEqual(spec.argv_tail[1], "hunter2", "the spec itself keeps it")

    def test_no_error_shows_a_value_of_the_environment(self) -> None:
        for env in ({"A": ["hunter2"]}, {"A": "hunter2\0"}, {"hunter": "hunter2" * 10000}):
            error = self.assertRaises(InvalidConfiguration, app, env=env)
            self.assertNotIn("hunter2", f"{error.message} {error.hint} {error.details}")
