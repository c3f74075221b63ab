"""The architecture as rules: who may import whom, and which side effect has which address."""

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from functools import cached_property
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]

LAYERS = {
    "errors": "",
    "private": "",
    "core": "core errors",
    "protocol": "protocol core errors",
    "keeper": "keeper",
    "daemon": "daemon core errors keeper pmdaemon",
    "tokens": "core errors private",
    "web": "web protocol daemon core errors tokens private pmdaemon",
    "client": "client protocol core errors pmdaemon",
    "cli": "cli monit client core errors tokens private pmdaemon",
    "monit": "monit cli client core errors pmdaemon",
    "console": "",
    "lean": "",
    "options": "console daemon web core errors tokens pmdaemon",
    "pmdaemon": "",
}
"""Who may import whom; ``pmdaemon`` is the package itself. What joins all may import everything."""

ROOTS = {"parts", "service"}

NO_SIDE_EFFECTS = {"core", "protocol"}
"""Packages without input, output, clock, chance or concurrency."""

EFFECTS = re.compile(
    r"(asyncio|concurrent|fcntl|glob|io|mmap|multiprocessing|os|pathlib|pickle|psutil|random|secrets|select|selectors"
    r"|shutil|socket|sqlite3|ssl|subprocess|sys|tempfile|threading|time|twisted|uuid)(\.|$)"
)

APART = {"keeper", "cli", "client", "monit", "tokens"}
"""What runs as, or in, a program of its own, with no service to inject anything."""

ADDRESSES = {
    r"twisted\.internet\.reactor": {"service.py"},
    r"psutil(\..*)?": {"daemon/sampler.py", "daemon/proctable.py", "web/peer.py"},
    r"os\.(environ|environb|getenv|putenv)": {"parts.py", "service.py", "options.py"},
    r"time\.(time|monotonic|perf_counter|sleep)(_ns)?": {"parts.py"},
    r"random(\..*)?": {"parts.py"},
    r"sqlite3(\..*)?": {"daemon/store.py", "daemon/journal.py", "daemon/history.py", "options.py"},
    r"subprocess(\..*)?": {"daemon/launch.py", "daemon/spawn.py", "daemon/keeperlaunch.py"},
    r"os\.(fork|forkpty|posix_spawn.*|exec.*)": {"service.py"},
}
"""What only these files use."""

LOG_CALLS = {"debug", "info", "warn", "error", "critical", "failure", "emit"}


class Module:
    """One source file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self.tree = ast.parse(self.text)

    @property
    def place(self) -> str:
        """Its path below the package."""
        return self.path.relative_to(ROOT / "pmdaemon").as_posix()

    @property
    def layer(self) -> str:
        """Which rule it falls under."""
        first = self.place.split("/")[0].removesuffix(".py")
        return "pmdaemon" if first == "__init__" else first

    @property
    def name(self) -> str:
        return ".".join(("pmdaemon", *Path(self.place).with_suffix("").parts)).removesuffix(".__init__")

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and full name of what it imports, wherever in the file: ``from a import b`` is ``a.b``."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        return found

    @cached_property
    def uses(self) -> list[tuple[int, str]]:
        """Its imports, and what it says with a dot of the modules it imports."""
        dotted = [node for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)]
        said = [(node.lineno, ast.unparse(node)) for node in dotted if isinstance(node.value, ast.Name)]
        return [*self.imports, *said]


PACKAGE = [Module(path) for path in sorted((ROOT / "pmdaemon").rglob("*.py"))]
TESTS = [Module(path) for path in sorted((ROOT / "tests").rglob("*.py"))]


def layer_of(name: str) -> str | None:
    """The layer that an imported name is in, or None where it is not ours; a relative name is in none that may be."""
    parts = name.split(".")
    if parts[0] != "pmdaemon":
        return None if parts[0] else name
    return parts[1] if len(parts) > 1 and parts[1] in {*LAYERS, *ROOTS} else "pmdaemon"


class RulesCase(SynchronousTestCase):
    def assert_nowhere(
        self, modules: list[Module], broken: Callable[[Module], Iterator[tuple[int, str]]], rule: str
    ) -> None:
        """No module breaks ``rule``; each place that does is named."""
        found = [
            f"{module.path.relative_to(ROOT)}:{line}: {what}" for module in modules for line, what in broken(module)
        ]
        self.assertEqual(found, [], rule)


class ImportTests(RulesCase):
    def test_every_layer_has_its_rule(self) -> None:
        self.assertEqual({module.layer for module in PACKAGE} - {*LAYERS, *ROOTS}, set())

    def test_who_imports_whom(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            allowed = LAYERS[module.layer].split() if module.layer in LAYERS else [*LAYERS, *ROOTS]
            return ((line, name) for line, name in module.imports if layer_of(name) not in {*allowed, None})

        self.assert_nowhere(PACKAGE, broken, "the arrows between packages point one way")

    def test_what_decides_does_not_act(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            if module.layer not in NO_SIDE_EFFECTS:
                return
            yield from ((line, name) for line, name in module.imports if EFFECTS.match(name))
            for node in ast.walk(module.tree):
                if isinstance(node, ast.AsyncFunctionDef | ast.Await):
                    yield node.lineno, "async"
                elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "input"):
                    yield node.lineno, ast.unparse(node)

        self.assert_nowhere(PACKAGE, broken, "core and protocol have no input, output, clock, chance or concurrency")

    def test_every_side_effect_has_one_address(self) -> None:
        for pattern, places in ADDRESSES.items():

            def broken(module: Module, pattern: str = pattern, places: set[str] = places) -> Iterator[tuple[int, str]]:
                if module.layer in APART or module.place in places:
                    return iter(())
                return ((line, name) for line, name in module.uses if re.fullmatch(pattern, name))

            self.assert_nowhere(PACKAGE, broken, f"{pattern} only in {sorted(places)}")
            unused = [place for place in places if not (ROOT / "pmdaemon" / place).exists()]
            self.assertEqual(unused, [], f"the rule for {pattern} names a file that is not there")

    def test_what_is_imported_is_required(self) -> None:
        """By setup.cfg, so that it is installed; what a required distribution always brings counts with it."""
        brought = {
            "twisted": {"twisted", "zope", "OpenSSL", "cryptography"},
            "autobahn": {"autobahn", "txaio"},
            "PyYAML": {"yaml"},
            "python-dotenv": {"dotenv"},
            "google-re2": {"re2"},
            "PyJWT": {"jwt"},
        }
        setup = ConfigParser()
        setup.read(ROOT / "setup.cfg")

        def required(text: str) -> set[str]:
            names = re.findall(r"^[\w-]+", text, re.MULTILINE)
            return {module for name in names for module in brought.get(name, {name.replace("-", "_")})}

        always = required(setup["options"]["install_requires"])
        for modules, known in (
            (PACKAGE, {"pmdaemon"} | always),
            (TESTS, {"pmdaemon", "tests", "torture"} | always | required(setup["options.extras_require"]["test"])),
        ):

            def broken(module: Module, known: set[str] = known) -> Iterator[tuple[int, str]]:
                first = ((line, name.split(".")[0]) for line, name in module.imports)
                return ((line, name) for line, name in first if name and name not in known | sys.stdlib_module_names)

            self.assert_nowhere(modules, broken, "setup.cfg names what is imported")

    def test_the_keeper_needs_nothing_but_python(self) -> None:
        """It outlives the daemon, also while packages are being replaced."""
        foreign = {"twisted", "autobahn", "msgspec", "psutil", "zope", "yaml", "dotenv", "re2"}

        def broken(module: Module) -> Iterator[tuple[int, str]]:
            ours = module.layer == "keeper"
            return ((line, name) for line, name in module.imports if ours and name.split(".")[0] in foreign)

        self.assert_nowhere(PACKAGE, broken, "the keeper is made of the standard library")


class FormTests(RulesCase):
    def test_length(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            length = module.text.count("\n")
            return iter([(length, "past 400 lines")] if length > 400 else [])

        self.assert_nowhere(PACKAGE + TESTS, broken, "a file past 400 lines is split along a noun")

    def test_every_module_says_its_job(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            first = (ast.get_docstring(module.tree) or "").partition("\n\n")[0]
            return iter([] if first.endswith((".", "]")) else [(1, "no docstring whose first paragraph is a sentence")])

        documented = [module for module in TESTS if module.text]
        self.assert_nowhere(PACKAGE + documented, broken, "a module's first docstring paragraph says its one job")

    def test_public_names_exist(self) -> None:
        for module in PACKAGE:
            if module.path.name == "__main__.py":
                continue
            imported = importlib.import_module(module.name)
            public = getattr(imported, "__all__", [])
            missing = [name for name in public if not hasattr(imported, name)]
            self.assertEqual(missing, [], f"{module.name}.__all__")
            self.assertEqual(len(public), len(set(public)), f"{module.name}.__all__")

    def test_names_that_mean_something(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            if module.path.stem in {"util", "utils", "common", "helper", "helpers", "base", "misc"}:
                yield 1, module.path.name
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Handler|Helper|Utils?)$", node.name):
                    yield node.lineno, node.name

        self.assert_nowhere(PACKAGE, broken, "a name says what it is")

    def test_nothing_is_put_off_or_silenced_without_a_reason(self) -> None:
        silent = re.compile(r"# (type: ignore(\[[\w, -]+\])?|noqa(: [\w, ]+)?)$")
        later = re.compile(r"\b(TODO|FIXME|XXX)\b")
        caught = re.compile(r"^\s*except (Exception|BaseException|\([^)]*\bException\b.*)( as \w+)?:$")

        def broken(module: Module) -> Iterator[tuple[int, str]]:
            lines = ["", *module.text.splitlines(), "", "", ""]
            for number, line in enumerate(lines):
                told = lines[number - 1].lstrip().startswith("#") or silent.search(lines[number - 1])
                raised = any("raise" in after for after in lines[number + 1 : number + 4])
                silenced = silent.search(line) and not told
                if silenced or later.search(line) or (caught.match(line) and not raised):
                    yield number, line.strip()

        self.assert_nowhere(PACKAGE, broken, "a reason stands beside what is silenced")

    def test_log_calls_take_fields(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                    logs = node.func.attr in LOG_CALLS and "log" in ast.unparse(node.func.value)
                    if logs and not isinstance(node.args[0], ast.Constant | ast.Name | ast.Attribute):
                        yield node.lineno, ast.unparse(node)

        self.assert_nowhere(PACKAGE, broken, "an f-string in a log call would be formatted twice")

    def test_tests_wait_for_events(self) -> None:
        def broken(module: Module) -> Iterator[tuple[int, str]]:
            kills_at_random_moments = module.path == ROOT / "tests/keeper/load.py"
            sleeps = ("time.sleep", "asyncio.sleep")
            return (use for use in module.uses if use[1] in sleeps and not kills_at_random_moments)

        self.assert_nowhere(TESTS, broken, "a test waits for an event with a deadline, never for a duration")
