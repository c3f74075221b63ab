"""What the keeper does for an app, as it is declared."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.spec import AppSpec, parse_app
from pmdaemon.errors import InvalidConfiguration


def app(**fields: Any) -> AppSpec:
    return parse_app({"script": "x", **fields}, where="config", base="/", name="web")


class UpkeepTests(SynchronousTestCase):
    def test_nothing_said_needs_no_keeper(self) -> None:
        self.assertEqual(app().needs_keeper, [])
        self.assertEqual(app().rights, {})
        self.assertEqual(
            app().log_limits,
            {"max_size": 50 << 20, "max_files": 10, "compress": True, "max_age": None, "total": 500 << 20},
        )

    def test_rights(self) -> None:
        spec = app(user="www-data", group=33, umask="027", nice=5, rlimits={"nofile": 10, "core": ["unlimited", 7]})
        rights = {"user": "www-data", "group": 33, "umask": 0o27, "nice": 5}
        self.assertEqual(spec.rights, {**rights, "rlimits": {"nofile": [10, 10], "core": [-1, 7]}})
        self.assertEqual(spec.needs_keeper, ["user", "group", "umask", "nice", "rlimits"])

    def test_pm2_calls_them_otherwise(self) -> None:
        self.assertEqual(app(uid=1, gid=2).rights, {"user": 1, "group": 2})

    def test_log_limits(self) -> None:
        limits = app(log_max_size="1M", log_max_files=3, log_max_age="1h", log_compress=False).log_limits
        self.assertEqual(
            limits, {"max_size": 1 << 20, "max_files": 3, "compress": False, "max_age": 3600.0, "total": 3 << 20}
        )
        self.assertEqual(app(log_max_size=0).log_limits["total"], None)

    def test_what_does_not_go(self) -> None:
        for fields, path in (
            ({"umask": "9"}, "umask"),
            ({"umask": ""}, "umask"),
            ({"umask": 4096}, "umask"),
            ({"nice": 20}, "nice"),
            ({"rlimits": {"files": 1}}, "rlimits.files"),
            ({"rlimits": {"nofile": -1}}, "rlimits.nofile"),
            ({"log_max_size": "much"}, "log_max_size"),
            ({"log_max_files": 0}, "log_max_files"),
            ({"log_max_age": 0}, "log_max_age"),
            ({"on_full": "explode"}, "on_full"),
            ({"user": ""}, "user"),
        ):
            error = self.assertRaises(InvalidConfiguration, app, **fields)
            self.assertTrue(str(error.details["path"]).startswith(f"config.{path}"), (fields, error.details))
