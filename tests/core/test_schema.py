"""The JSON Schema that is checked in is the one the Structs make."""

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.pm2 import HARMLESS, SPELLINGS
from pmdaemon.core.schema import DIALECT, ecosystem_schema, schema_text
from pmdaemon.core.spec import AppSpec, HealthCheck

ROOT = Path(__file__).parent.parent.parent
SCHEMA = "examples/schema/ecosystem.schema.json"


def in_order(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its alternatives in an order of their own."""
    return {**schema, "anyOf": sorted(schema["anyOf"], key=repr)} if "anyOf" in schema else schema


class SchemaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.schema = ecosystem_schema()
        self.definitions: dict[str, dict[str, Any]] = self.schema["$defs"]

    def test_the_file_is_current(self) -> None:
        """But for the order of alternatives, which is not the same with each msgspec."""
        file = (ROOT / SCHEMA).read_text("utf-8")
        current = json.loads(file, object_hook=in_order) == json.loads(schema_text(), object_hook=in_order)
        self.assertTrue(current, f"regenerate it: python -m pmdaemon.core.schema > {SCHEMA}")

    def test_the_dialect(self) -> None:
        self.assertEqual(self.schema["$schema"], DIALECT)
        self.assertIn("2020-12", DIALECT)

    def test_unknown_keys_are_refused_everywhere(self) -> None:
        """[E5]"""
        for name, definition in self.definitions.items():
            self.assertIs(definition["additionalProperties"], False, name)

    def test_every_key_is_there_and_described(self) -> None:
        for struct in (AppSpec, HealthCheck):
            properties = self.definitions[struct.__name__]["properties"]
            self.assertLessEqual(set(struct.__struct_fields__), set(properties))
        for definition in self.definitions.values():
            for key, schema in definition["properties"].items():
                self.assertTrue(schema.get("description", "").endswith("."), key)

    def test_pm2s_keys_are_known_and_deprecated(self) -> None:
        properties = self.definitions["AppSpec"]["properties"]
        for key in (*SPELLINGS, *HARMLESS):
            self.assertIs(properties[key]["deprecated"], True)
        self.assertEqual(properties["watch"]["enum"], [False])
