"""What an app's configuration means: its defaults, units and paths, and what is refused [R5]."""

import signal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.ports import PortRequest
from pmdaemon.core.spec import AppSpec, CheckTiming, LogLine, Timing, check_name, parse_app
from pmdaemon.errors import InvalidConfiguration

BASE = "/srv/shop"


def app(**fields: Any) -> AppSpec:
    return parse_app({"name": "web", "script": "server.js", **fields}, where="config", base=BASE)


class ValueTests(SynchronousTestCase):
    def test_the_documents_own_example(self) -> None:
        config = {"script": "node", "args": ["server.js"], "port": "3002"}
        spec = parse_app(config, where="config", base=BASE, name="new-service")
        self.assertEqual((spec.name, spec.script, spec.argv_tail), ("new-service", "node", ["server.js"]))
        self.assertEqual(spec.port_request, PortRequest("fixed", 3002, 3002))

    def test_the_defaults(self) -> None:
        spec = app()
        expected = Timing(
            min_uptime=1.0,
            restart_window=60.0,
            restart_delay=0.0,
            exp_backoff_restart_delay=0.0,
            kill_timeout=1.6,
            listen_timeout=30.0,
        )
        self.assertEqual(spec.timing, expected)
        self.assertEqual((spec.max_restarts, spec.autorestart, spec.autostart), (16, True, True))
        self.assertEqual((spec.namespace, spec.instances, spec.cwd), ("default", 1, BASE))
        self.assertEqual((spec.stop_signal_number, spec.memory_limit, spec.check), (signal.SIGTERM, None, None))
        self.assertEqual((spec.ready_when, spec.port_request, spec.env_files), ("exec", None, []))

    def test_values_are_kept_as_written_and_given_in_the_daemons_units(self) -> None:
        spec = app(kill_timeout="5s", restart_delay=250, max_memory_restart="100M")
        self.assertEqual((spec.kill_timeout, spec.restart_delay, spec.max_memory_restart), ("5s", 250, "100M"))
        self.assertEqual((spec.timing.kill_timeout, spec.timing.restart_delay), (5.0, 0.25))
        self.assertEqual(spec.memory_limit, 100 * 1024**2)

    def test_null_means_absent(self) -> None:
        """[E2]"""
        self.assertEqual(app(port=None, env=None, user=None, out=None, watch=None, health_check=None), app())

    def test_arguments_are_split_like_a_shell_splits_them(self) -> None:
        self.assertEqual(app(args="--name 'a b' c").argv_tail, ["--name", "a b", "c"])
        self.assertEqual(app(args=["a b", ""]).argv_tail, ["a b", ""])
        self.assertEqual(app(interpreter_args="-u -O").interpreter_argv_tail, ["-u", "-O"])

    def test_the_environment_is_text(self) -> None:
        spec = app(env={"A": "x", "B": 1, "C": 1.5, "D": True, "E": False, "F": ""})
        self.assertEqual(spec.environment, {"A": "x", "B": "1", "C": "1.5", "D": "true", "E": "false", "F": ""})

    def test_a_signal_has_a_name_with_or_without_sig(self) -> None:
        for name in ("SIGINT", "INT", "sigint"):
            self.assertEqual(app(stop_signal=name).stop_signal_number, signal.SIGINT)
        self.assertEqual(app(stop_signal="SIGKILL").stop_signal_number, signal.SIGKILL)

    def test_readiness(self) -> None:
        check = {"check_type": "http", "url": "http://localhost:3000/health"}
        self.assertEqual(app(health_check=check).ready_when, "health")
        self.assertEqual(app(health_check={**check, "enabled": False}).ready_when, "exec")
        self.assertEqual(app(health_check=check, readiness="exec").ready_when, "exec")
        self.assertEqual(app(readiness="notify").ready_when, "notify")
        self.assertEqual(app(readiness={"log_line": "listening"}).ready_when, LogLine("listening"))

    def test_a_health_check(self) -> None:
        spec = app(health_check={"check_type": "tcp", "port": 5432, "interval": "1m", "timeout": 2})
        assert spec.check is not None
        self.assertEqual((spec.check.host, spec.check.retries, spec.check.restart), ("localhost", 3, True))
        self.assertEqual(spec.check.timing, CheckTiming(interval=60.0, timeout=2.0, start_period=0.0))
        self.assertIsNone(app(health_check={"check_type": "tcp", "port": 1, "enabled": False}).check)


class NameTests(SynchronousTestCase):
    def test_names_that_may_be_given(self) -> None:
        for name in ("web", "web-api.v2", "a@b:c_d", "0a", "x" * 64, "allx", "nsx:y"):
            check_name(name)

    def test_names_that_may_not_be_given(self) -> None:
        """[P2]"""
        for name in ("", "12", "all", "ns:web", "-web", "a b", "a/b", "wéb", "x" * 65, "web\n", "<b>"):
            error = self.assertRaises(InvalidConfiguration, check_name, name)
            self.assertIn("cannot use", error.message)
            self.assertRaises(InvalidConfiguration, app, name=name)

    def test_a_name_given_beside_the_configuration_wins(self) -> None:
        """[R5]"""
        spec = parse_app({"name": "other", "script": "x"}, where="config", base=BASE, name="web")
        self.assertEqual(spec.name, "web")

    def test_a_name_is_required(self) -> None:
        error = self.assertRaises(InvalidConfiguration, parse_app, {"script": "x"}, where="config", base=BASE)
        self.assertEqual(error.message, "cannot read config: name is missing")

    def test_an_app_may_be_named_after_its_script(self) -> None:
        for script, name in (("./bin/My server.js", "My"), ("server.js", "server"), ("/opt/x y/app.py z", "x")):
            spec = parse_app({"script": script}, where="config", base=BASE, require_name=False)
            self.assertEqual(spec.name, name)
        for script in ("42.js", "...", " ", 5):
            error = self.assertRaises(
                InvalidConfiguration, parse_app, {"script": script}, where="config", base=BASE, require_name=False
            )
            self.assertIn("name is missing", error.message)

    def test_instances_have_names_of_their_own(self) -> None:
        """[P3]"""
        self.assertEqual(app().process_names(8), ["web"])
        self.assertEqual(app(instances=3).process_names(8), ["web-0", "web-1", "web-2"])
        self.assertEqual(app(instances="max").process_names(2), ["web-0", "web-1"])
        self.assertEqual(app(instances="max").process_names(1), ["web"])
        self.assertEqual(app(instances="max").instance_count(5000), 1000)

    def test_the_names_of_instances_must_be_names_too(self) -> None:
        app(name="x" * 62, instances=10)
        error = self.assertRaises(InvalidConfiguration, app, name="x" * 62, instances=11)
        self.assertIn("too long with the number of an instance", error.message)
        self.assertRaises(InvalidConfiguration, app, name="x" * 61, instances="max")


class PathTests(SynchronousTestCase):
    def test_relative_paths_start_from_the_base(self) -> None:
        for key, path, expected in (
            ("cwd", "api", "/srv/shop/api"),
            ("cwd", "../other", "/srv/other"),
            ("cwd", "/opt/x/../y", "/opt/x/../y"),
            ("script", "./server.js", "/srv/shop/server.js"),
            ("script", "bin/../server.js", "/srv/shop/server.js"),
            ("script", "server.js", "server.js"),
            ("script", "node server.js", "node server.js"),
            ("script", "./my server.js", "./my server.js"),
            ("interpreter", "./venv/bin/python", "/srv/shop/venv/bin/python"),
            ("interpreter", "node", "node"),
            ("env_file", ".env", "/srv/shop/.env"),
            ("env_file", [".env", "/etc/env"], ["/srv/shop/.env", "/etc/env"]),
            ("out_file", "logs/out.log", "/srv/shop/logs/out.log"),
            ("error_file", "/var/log/x.log", "/var/log/x.log"),
            ("log_file", "a/../b.log", "/srv/shop/b.log"),
            ("pid_file", "web.pid", "/srv/shop/web.pid"),
        ):
            self.assertEqual(getattr(app(**{key: path}), key), expected)

    def test_a_check_script_is_a_path_where_it_holds_a_slash(self) -> None:
        for script, expected in (("./check.sh", "/srv/shop/check.sh"), ("check", "check"), ("sh a/b", "sh a/b")):
            spec = app(health_check={"check_type": "script", "script": script})
            assert spec.check is not None
            self.assertEqual(spec.check.script, expected)

    def test_what_the_daemon_writes_stays_below_the_base(self) -> None:
        for key in ("out_file", "error_file", "log_file", "pid_file"):
            for path in ("../x", "a/../../x", ".."):
                error = self.assertRaises(InvalidConfiguration, app, **{key: path})
                self.assertIn(f"{key} leaves the directory", error.message)
            self.assertEqual(getattr(app(**{key: "..x"}), key), "/srv/shop/..x")

    def test_a_tilde_is_not_silently_a_directory(self) -> None:
        for key in ("cwd", "script", "out_file", "env_file"):
            error = self.assertRaises(InvalidConfiguration, app, **{key: "~/x"})
            self.assertEqual(error.hint, "write the whole path")

    def test_paths_that_are_absolute_stay_as_they_are(self) -> None:
        spec = app(
            cwd="api",
            out_file="o",
            env_file=["e"],
            script="./s",
            health_check={"check_type": "script", "script": "a/b"},
        )
        again = parse_app(msgspec.to_builtins(spec), where="config", base="/elsewhere")
        self.assertEqual(again, spec)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from([*AppSpec.__struct_fields__, "out", "watch", "exec_mode", "user", "node_args"])
words = st.sampled_from(
    ["web", "max", "5s", "100M", "3000-3003", "auto:1-9", "SIGINT", "health", "tcp", "a/b", "'", "\0"]
)
checks = st.fixed_dictionaries({"check_type": st.sampled_from(["http", "script", "tcp", "x"])}).flatmap(
    lambda start: st.dictionaries(
        st.sampled_from(["url", "script", "host", "port", "interval", "retries"]), json_values | words, max_size=4
    ).map(lambda rest: {**start, **rest})
)
likely = st.dictionaries(
    keys, json_values | words | checks | st.lists(words, max_size=3) | st.integers(0, 5), max_size=6
)


PLAUSIBLE: dict[str, list[Any]] = {
    "script": ["node server.js", "./a b", "bin/run"],
    "args": ["--a 'b c'", ["x", ""], []],
    "cwd": ["api", "/opt/x/../y"],
    "env": [{"A": 1.5, "B": True, "C": "\u00fc", "D": -(2**62), "E F": 1e300}],
    "env_file": [".env", ["a", "/b"]],
    "instances": ["max", 1, 2],
    "port": ["auto:4000-4100", "3000-3001"],
    "readiness": ["exec", "notify", {"log_line": "up"}],
    "health_check": [
        {"check_type": "http", "url": "http://localhost/", "interval": 0.5, "enabled": False},
        {"check_type": "script", "script": "./check.sh"},
    ],
    "max_memory_restart": ["1.5G", 1],
    "kill_timeout": [0, 0.5, "5s"],
    "out_file": ["logs/out.log", "/var/log/x"],
    "stop_exit_codes": [[0, 255]],
    "stop_signal": ["INT"],
    "autorestart": [False],
}


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(json_values | likely | likely.map(lambda value: {"name": "web", "script": "x", **value}))
    def test_any_value_is_an_app_or_an_invalid_configuration(self, value: object) -> None:
        try:
            spec = parse_app(value, where="config", base=BASE)
        except InvalidConfiguration as error:
            self.assertTrue(error.message.startswith("cannot read config: "), error.message)
            self.assertTrue(error.message.isprintable(), error.message)
            self.assertTrue(str(error.details["path"]).startswith("config"))
            msgspec.json.encode([error.message, error.hint, error.details])
            return
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(spec), type=AppSpec), spec)
        msgspec.json.encode(spec.public())
        spec.timing, spec.environment, spec.argv_tail, spec.port_request, spec.ready_when, spec.stop_signal_number  # noqa: B018
        self.assertEqual(len(spec.process_names(4)), spec.instance_count(4))

    @settings(max_examples=200, deadline=None)
    @given(st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in PLAUSIBLE.items()}))
    def test_a_spec_survives_the_store_and_another_base(self, fields: dict[str, Any]) -> None:
        spec = app(**fields)
        stored = msgspec.json.encode(spec)
        self.assertEqual(msgspec.json.decode(stored, type=AppSpec), spec)
        self.assertEqual(parse_app(msgspec.json.decode(stored), where="config", base="/elsewhere"), spec)
