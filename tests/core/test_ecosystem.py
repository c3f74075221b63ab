"""Ecosystem files: three kinds of text, the same apps, and errors with a place."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.ecosystem import MAX_TEXT, READERS, parse
from pmdaemon.core.spec import AppSpec
from pmdaemon.errors import InvalidConfiguration

JSON = """{
  "$schema": "./ecosystem.schema.json",
  "apps": [
    {"name": "web", "script": "./server.js", "instances": 2, "port": "3000-3001", "env": {"DEBUG": true}},
    {"name": "worker", "script": "worker.py", "kill_timeout": "5s"}
  ]
}"""
YAML = """
apps:
  - name: web
    script: ./server.js
    instances: 2
    port: 3000-3001
    env:
      DEBUG: true
  - name: worker
    script: worker.py
    kill_timeout: 5s
"""
TOML = """
[[apps]]
name = "web"
script = "./server.js"
instances = 2
port = "3000-3001"
env = { DEBUG = true }

[[apps]]
name = "worker"
script = "worker.py"
kill_timeout = "5s"
"""


def parsed(text: str, filename: str = "ecosystem.json") -> list[AppSpec]:
    return parse(text, filename, "/srv/shop")


def apps(*names: str, **fields: object) -> str:
    return json.dumps(
        {"apps": [{"name": name, "script": "x", **(fields if not index else {})} for index, name in enumerate(names)]}
    )


class EcosystemTests(SynchronousTestCase):
    def refused(self, text: str, filename: str = "ecosystem.json") -> InvalidConfiguration:
        return self.assertRaises(InvalidConfiguration, parsed, text, filename)

    def test_three_kinds_of_text_declare_the_same_apps(self) -> None:
        web, worker = parsed(JSON)
        self.assertEqual((web.name, web.script, web.environment), ("web", "/srv/shop/server.js", {"DEBUG": "true"}))
        self.assertEqual((worker.cwd, worker.timing.kill_timeout), ("/srv/shop", 5.0))
        for text, filename in ((YAML, "a.yaml"), (YAML, "a.yml"), (TOML, "a.toml"), ("\ufeff" + JSON, "/x/A.JSON")):
            self.assertEqual(parsed(text, filename), [web, worker])

    def test_no_apps(self) -> None:
        self.assertEqual(parsed('{"apps": []}'), [])

    def test_a_typo_names_the_file_the_path_and_the_nearest_key(self) -> None:
        error = self.refused("apps:\n- name: web\n  script: x\n  instanses: 2", "shop.yaml")
        self.assertEqual(error.message, "cannot read shop.yaml: apps[0].instanses is not a known key")
        self.assertEqual(error.hint, "did you mean 'instances'?")
        self.assertEqual(error.details, {"path": "apps[0].instanses"})

    def test_a_name_is_required(self) -> None:
        self.assertEqual(
            self.refused('{"apps": [{"script": "x"}]}').message, "cannot read ecosystem.json: apps[0].name is missing"
        )

    def test_only_apps_stand_at_the_top(self) -> None:
        self.assertIn("deploy is not a known key", self.refused('{"apps": [], "deploy": {}}').message)
        self.assertIn("apps must be a list, not an object", self.refused('{"apps": {}}').message)
        for text, filename in (("[]", "a.json"), ("", "a.yaml"), ("5", "a.json")):
            self.assertEqual(self.refused(text, filename).message, f"cannot read {filename}: it has no key 'apps'")

    def test_a_key_twice(self) -> None:
        """[E5]"""
        for text, filename, words in (
            ('{"apps": [{"name": "web", "script": "a", "script": "b"}]}', "a.json", "with the name 'web'"),
            ("apps:\n- name: web\n  script: a\n  script: b", "a.yaml", "line 4, column 3: the key 'script'"),
            ('[[apps]]\nname = "web"\nname = "b"', "a.toml", "cannot overwrite a value"),
        ):
            self.assertIn(words, self.refused(text, filename).message)

    def test_a_name_twice(self) -> None:
        error = self.refused(apps("web", "api", "web"))
        self.assertEqual(error.message, "cannot read ecosystem.json: apps[2].name: 'web' is the name of apps[0] too")

    def test_a_name_that_an_instance_has(self) -> None:
        error = self.refused(apps("web", "web-1", instances=2))
        self.assertEqual(
            error.message,
            "cannot read ecosystem.json: apps[1].name: 'web-1' is what instance 1 of apps[0], 'web', is called",
        )
        self.refused(apps("web", "web-7", instances="max"))
        for others in (("web", "web-2"), ("web", "web-01"), ("web", "web-x")):
            self.assertEqual(len(parsed(apps(*others, instances=2))), 2)
        self.assertEqual(len(parsed(apps("web", "web-0"))), 2)

    def test_a_file_of_another_kind(self) -> None:
        self.assertIn("ecosystem.json", self.refused("", "ecosystem.config.js").hint or "")
        self.assertIn(".json, .yaml, .yml or .toml", self.refused("", "apps.ini").hint or "")

    def test_text_that_is_not_what_it_should_be_has_a_place(self) -> None:
        for text, filename, words in (
            ('{"apps": [],}', "a.json", "line 1, column 13"),
            ("apps: 'x", "a.yaml", "line 1, column 9"),
            ("apps = [\n1", "a.toml", "end of document"),
            ("apps = ]", "a.toml", "line 1, column 8: invalid value"),
        ):
            error = self.refused(text, filename)
            self.assertIn(f"cannot read {filename}: ", error.message)
            self.assertIn(words, error.message)
            self.assertIsNotNone(error.hint)

    def test_numbers_that_are_none(self) -> None:
        for text in ('{"apps": NaN}', '{"apps": -Infinity}', '{"apps": ' + "9" * 5000 + "}"):
            self.assertIn("number", self.refused(text).message)
        self.refused("apps = " + "9" * 5000, "a.toml")

    def test_depth_is_refused_not_suffered(self) -> None:
        for text, filename in (
            ("[" * 100_000, "a.json"),
            ('{"a":' * 100_000, "a.json"),
            ("[" * 100_000, "a.yaml"),
            ("- " * 100_000, "a.yaml"),
            ("apps = " + "[" * 100_000, "a.toml"),
        ):
            self.assertIn("nest", self.refused(text, filename).message)
        self.refused("apps = [{" + "a." * 50_000 + "a = 1}]", "a.toml")

    def test_size_is_bounded(self) -> None:
        for suffix in READERS:
            self.assertIn("are the most", self.refused("#" * (MAX_TEXT + 1), f"a{suffix}").message)

    def test_a_hostile_file_name_is_shown_printable(self) -> None:
        self.assertTrue(self.refused("", "a\x1b[31m\n.json").message.isprintable())

    @settings(max_examples=200, deadline=None)
    @given(
        st.text(max_size=50) | st.text(alphabet="aps:=[]{}\"'- \n,name1.#", max_size=60),
        st.sampled_from([f"a{suffix}" for suffix in READERS]),
    )
    def test_any_text_is_apps_or_an_invalid_configuration(self, text: str, filename: str) -> None:
        try:
            parsed(text, filename)
        except InvalidConfiguration as error:
            self.assertTrue(error.message.startswith(f"cannot read {filename}: "))
