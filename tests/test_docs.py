"""The documents tell the truth: what they name is there, and what is there they name."""

import ast
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from docutils import nodes
from docutils.core import publish_doctree
from twisted.trial.unittest import SynchronousTestCase

import pmdaemon
from pmdaemon import errors
from pmdaemon.core import commands, events, info, past
from pmdaemon.core.ecosystem import parse
from pmdaemon.core.health import DETAILS
from pmdaemon.core.lifecycle import STATUS
from pmdaemon.core.lines import LEVELS
from pmdaemon.core.pm2 import HARMLESS, SPELLINGS, UNSUPPORTED
from pmdaemon.core.spec import AppSpec, HealthCheck
from pmdaemon.core.upkeep import Upkeep
from pmdaemon.service import Options

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {path: path.read_text() for path in (ROOT / "pmdaemon").rglob("*.py")}
QUIET = {"report_level": 1, "halt_level": 2, "syntax_highlight": "none", "file_insertion_enabled": False}

PAGES = ("README.rst", "CHANGES.rst", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.rst"))))


class Document:
    """One file, read as reStructuredText; nothing in it may be wrong."""

    def __init__(self, name: str) -> None:
        self.text = (ROOT / name).read_text()
        self.tree = publish_doctree(self.text, source_path=name, settings_overrides=QUIET)

    def section(self, title: str) -> nodes.Element:
        """The section with this title."""
        (found,) = (each for each in self.tree.findall(nodes.section) if each[0].astext() == title)
        return found

    def titles(self, within: str) -> list[str]:
        """The titles of the sections in a section."""
        return [each[0].astext() for each in self.section(within).findall(nodes.section)][1:]

    def table(self, title: str) -> dict[str, list[nodes.Element]]:
        """The rows of the table with this title: what its first cell has in literals, then the other cells."""
        (found,) = (each for each in self.tree.findall(nodes.table) if each[0].astext() == title)
        (body,) = found.findall(nodes.tbody)
        return {name: row[1:] for row in body for name in literals(row[0])}

    def snippets(self, language: str) -> list[str]:
        """The code of one language."""
        blocks = self.tree.findall(nodes.literal_block)
        return [block.astext() for block in blocks if language in block["classes"]]


def literals(node: nodes.Element) -> list[str]:
    """What stands in double backquotes."""
    return [each.astext() for each in node.findall(nodes.literal)]


def mentioned(pattern: str) -> set[str]:
    """What the pattern's group finds in the sources."""
    return {name for text in SOURCES.values() for name in re.findall(pattern, text)}


class ReadmeTests(SynchronousTestCase):
    readme: ClassVar = Document("README.rst")

    def test_every_option(self) -> None:
        options = Options()
        known = {f"--{name.rstrip('=').replace('_', '-')}" for name in options.longOpt}
        known |= {f"-{letter}" for letter in options.shortOpt if letter != ":"}
        told = set(self.readme.table("twistd pmdaemon --help"))
        self.assertEqual(told, known - {"--reactor"})

    def test_every_make_target_named_is_there_and_every_public_one_named(self) -> None:
        makefile = (ROOT / "Makefile").read_text()
        (phony,) = re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)
        for name in PAGES:
            named = set(re.findall(r"\bmake ([a-z]\w*)\b(?=``|  |$| [A-Z]+=)", (ROOT / name).read_text()))
            self.assertEqual(named - set(phony.split()), set(), name)
        listed = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True).stdout
        self.assertEqual(
            set(re.findall(r"^make (\w+)", listed, re.MULTILINE)) | {"help", "tools"}, set(phony.split()), listed
        )

    def test_snippets(self) -> None:
        (config,) = self.readme.snippets("yaml")
        apps = parse(config, "README.yaml", "/srv")
        self.assertEqual([app.name for app in apps], ["web", "worker"])
        (python,) = self.readme.snippets("python")
        ast.parse(python)
        self.assertEqual(len(self.readme.snippets("javascript")), 2)  # tests.integration.test_readme runs them

    def test_requests_actions_and_events_are_all_named(self) -> None:
        paragraph = next(
            each for each in self.readme.tree.findall(nodes.paragraph) if each.astext().startswith("Requests are")
        )
        known = {*commands.REQUESTS, "command", *commands.ACTIONS, *events.EVENTS}
        self.assertEqual({name for name in literals(paragraph) if "/" not in name}, known)

    def test_links_lead_somewhere(self) -> None:
        for name in PAGES:
            document = Document(name)
            for each in document.tree.findall(nodes.reference):
                target = each.get("refuri", "")
                if not target.startswith("http"):
                    self.assertTrue((ROOT / name).parent.joinpath(target).exists(), f"{name}: {target}")
            for path in re.findall(r"``((?:examples|tests|docs)/[\w./-]+)``", document.text):
                self.assertTrue((ROOT / path).exists(), f"{name}: {path}")

    def test_the_newest_change_is_of_this_version(self) -> None:
        newest = next(iter(Document("CHANGES.rst").tree.findall(nodes.subtitle)), None)
        titles = [each.astext() for each in Document("CHANGES.rst").tree.findall(nodes.title)]
        first = newest.astext() if newest is not None else titles[1]
        self.assertEqual(first.split()[0], pmdaemon.__version__)


class ConfigurationTests(SynchronousTestCase):
    document: ClassVar = Document("docs/configuration.rst")
    ELSEWHERE: ClassVar = {"interpreter", "out_file", "error_file", "readiness"}  # a default that is not a value

    def assert_fields(self, spec: type[msgspec.Struct]) -> None:
        rows = self.document.table(spec.__name__)
        inherited = set(Upkeep.__struct_fields__) if spec is AppSpec else set()
        fields = {field.name: field for field in msgspec.structs.fields(spec) if field.name not in inherited}
        self.assertEqual(list(rows), list(fields), "all of them, in the order of the code")
        for name, field in fields.items():
            told = rows[name][0].astext()
            if field.required:
                self.assertEqual(told, "required", name)
            elif name not in self.ELSEWHERE:
                value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
                expected = "none" if value is None else msgspec.json.encode(value).decode()
                self.assertEqual(told, expected, name)

    def test_fields_of_an_app(self) -> None:
        self.assert_fields(AppSpec)

    def test_fields_that_need_the_keeper(self) -> None:
        self.assert_fields(Upkeep)

    def test_fields_of_a_health_check(self) -> None:
        self.assert_fields(HealthCheck)

    def test_environment_of_a_child(self) -> None:
        launching = "\n".join((ROOT / f"pmdaemon/daemon/{name}.py").read_text() for name in ("launcher", "invocation"))
        given = set(re.findall(r'"((?:PM2?|NODE|NOTIFY|PORT|PYTHON)[A-Z0-9_]*)"(?::|\]| *$)', launching, re.MULTILINE))
        self.assertEqual(set(self.document.table("Environment")), given)

    def test_what_is_pasted_from_pm2(self) -> None:
        rows = self.document.table("Other spellings")
        self.assertEqual(set(rows), {*SPELLINGS, *HARMLESS})
        for theirs, ours in SPELLINGS.items():
            self.assertEqual(rows[theirs][0].astext(), ours)
        refused = next(
            each for each in self.document.tree.findall(nodes.paragraph) if each.astext().startswith("Not there yet")
        )
        self.assertEqual(set(literals(refused)), set(UNSUPPORTED))


class ProtocolTests(SynchronousTestCase):
    document: ClassVar = Document("docs/websocket-api.rst")

    def keys(self, title: str) -> set[str]:
        return set(self.document.table(title))

    def assert_keys(self, title: str, struct: type[Any], besides: Iterable[str] = ()) -> None:
        self.assertEqual(self.keys(title), {*struct.__struct_encode_fields__, *besides}, title)

    def test_every_request_and_its_keys(self) -> None:
        self.assertEqual(set(self.document.titles("Requests")), {*commands.REQUESTS, "command"})
        for name, struct in commands.REQUESTS.items():
            if struct.__struct_fields__:
                self.assert_keys(name, struct)
        self.assert_keys("command", commands.Command, ["action"])

    def test_every_action_and_its_keys(self) -> None:
        rows = self.document.table("Actions")
        self.assertEqual(set(rows), set(commands.ACTIONS))
        for name, struct in commands.ACTIONS.items():
            own = set(struct.__struct_fields__) - set(commands.Command.__struct_fields__)
            self.assertEqual(set(literals(rows[name][0])), own, name)

    def test_every_reply(self) -> None:
        sent = mentioned(r'\bReply\(\s*"(\w+)"') | mentioned(r'\.reply\(\s*\w+,\s*"(\w+)"')
        self.assertEqual(set(self.document.titles("Replies")), sent)

    def test_every_notice(self) -> None:
        sent = mentioned(r'session\.tell\("(\w+)"') | mentioned(r'\bencode\("(\w+)",')
        told = {title for section in ("Coming back", "Slow clients") for title in self.document.titles(section)}
        self.assertEqual(told, sent)

    def test_every_event_and_its_keys(self) -> None:
        structs = {each.type: each for each in (*events.Event.__args__,)}
        self.assertEqual(set(structs), events.EVENTS)
        self.assertEqual(set(self.document.titles("The events")), events.EVENTS)
        for name, struct in structs.items():
            if name != "process_metrics":
                self.assert_keys(name, struct)
        self.assert_keys("process_metrics", events.ProcessMetricsEntry)
        self.assert_keys("The process object", info.ProcessObject)
        self.assert_keys("A line of logs", past.LogLine)
        self.assert_keys("A crash", past.Crash)
        lines = self.document.table("A crash")["lines"][0]
        self.assertEqual(set(literals(lines)), set(past.CrashLine.__struct_fields__))

    def test_nested_keys_are_named(self) -> None:
        system = self.document.table("system_metrics")
        nested = {"cpu": events.CpuUsage, "memory": events.MemoryUsage, "load": events.LoadAverage}
        for key, struct in nested.items():
            self.assertEqual(set(literals(system[key][0])), set(struct.__struct_fields__), key)
        told = set(literals(self.document.section("system_info")))
        known = {*info.SystemInfo.__struct_fields__, *info.DaemonInfo.__struct_fields__, "system_metrics"}
        self.assertEqual(told, known - set(nested) | {"memory"})
        details = self.document.table("health_update")["details"][0]
        self.assertEqual(set(literals(details)), {key for keys in DETAILS.values() for key in keys})

    def test_every_lifecycle_event(self) -> None:
        told = mentioned(r'\.tell\(\s*"(\w+)",\s*(?:\{|crash|told|details)')
        self.assertEqual(self.keys("What happened"), told)

    def test_every_status_and_level(self) -> None:
        status = set(literals(self.document.section("process_status")))
        self.assertLessEqual(set(STATUS.values()), status)
        self.assertLessEqual(set(LEVELS), set(literals(self.document.table("log_message")["level"][0])))

    def test_every_error_code(self) -> None:
        codes = {getattr(errors, name).code for name in errors.__all__}
        self.assertEqual(self.keys("Codes"), codes)

    def test_codes_in_the_text_are_codes(self) -> None:
        said = set(re.findall(r"\b[A-Z]{4,}(?:_[A-Z]+)+\b", self.document.text))
        self.assertEqual(said - self.keys("Codes"), set())

    def test_every_close_code(self) -> None:
        web = "\n".join(text for path, text in SOURCES.items() if path.parent.name == "web")
        used = set(re.findall(r"\b1(?:00[0-9]|01[0-5])\b(?=[^\d.]|$)", web)) - {"1000", "1005", "1006"}
        self.assertLessEqual(used, self.keys("Close codes"))
