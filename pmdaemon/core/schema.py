"""The JSON Schema of an ecosystem file: ``python -m pmdaemon.core.schema`` prints it.

An editor that is given it completes and checks the file while it is written.
"""

import json
from typing import Any

import msgspec

from pmdaemon.core.ecosystem import Ecosystem
from pmdaemon.core.pm2 import HARMLESS, SPELLINGS
from pmdaemon.core.spec import CHECK_KEYS

__all__ = ["DIALECT", "ecosystem_schema", "schema_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def ecosystem_schema() -> dict[str, Any]:
    """Return the schema of an ecosystem file as JSON values, in draft 2020-12."""
    schema = msgspec.json.schema(Ecosystem)
    for definition in schema["$defs"].values():
        definition["description"] = definition["description"].partition("\n")[0]
    app = schema["$defs"]["AppSpec"]
    app["properties"] |= _pm2_properties(app["properties"])
    schema["$defs"]["HealthCheck"]["allOf"] = [_check_rule(kind) for kind in CHECK_KEYS]
    return {"$schema": DIALECT, "title": "PMDaemon ecosystem file", **schema}


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(ecosystem_schema(), indent=2) + "\n"


def _pm2_properties(properties: dict[str, Any]) -> dict[str, Any]:
    spelled = {
        key: {**properties[ours], "description": f"PM2's spelling of {ours}.", "deprecated": True}
        for key, ours in SPELLINGS.items()
    }
    dropped = {
        key: {"enum": list(values), "description": "Read for PM2's sake; it changes nothing.", "deprecated": True}
        for key, (values, _, _) in HARMLESS.items()
    }
    return spelled | dropped


def _check_rule(kind: str) -> dict[str, Any]:
    """Return what a check of this type must and must not have beside its type."""
    own = CHECK_KEYS[kind]
    foreign = {key for keys in CHECK_KEYS.values() for key in keys} - set(own) - {"host"}
    return {
        "if": {"properties": {"check_type": {"const": kind}}},
        "then": {"required": [own[0]], "properties": {key: {"type": "null"} for key in sorted(foreign)}},
    }


if __name__ == "__main__":
    print(schema_text(), end="")
