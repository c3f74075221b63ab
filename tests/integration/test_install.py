"""The installed package: twistd shows the plugin from any directory, and looking costs next to nothing."""

import os
import shutil
import sys
import venv
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

import pmdaemon
from tests.integration.program import ROOT, Program, twistd

SOURCES = ("pmdaemon", "twisted", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE")
CHEAP = """
import sys
import twisted.plugins.pmdaemon_plugin
heavy = ("autobahn", "msgspec", "sqlite3", "pmdaemon", "twisted.internet.reactor")
print("after the plugin:", [name for name in heavy if name in sys.modules])
import pmdaemon.service
unused = ("twisted.internet.reactor", "yaml", "dotenv", "jwt", "websockets")
print("after the service:", [name for name in unused if name in sys.modules])
"""


class InstallTests(TestCase):
    async def run_to_end(self, argv: list[str], *, cwd: str = "/") -> str:
        program = Program.start(self, argv, cwd=cwd, env={"PYTHONPATH": "", "PIP_NO_INPUT": "1"})
        self.assertEqual(await program.ended(120), 0, program)
        return program.output

    async def install(self, name: str, *how: str) -> None:
        """A venv of its own, which sees the dependencies of this one, and a copy of the sources: pip writes beside."""
        place = Path(self.mktemp()).absolute() / name
        venv.create(place / "venv", symlinks=True)
        (packages,) = place.glob("venv/lib/python*/site-packages")
        (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if "packages" in path))
        sources = place / "sources"
        sources.mkdir()
        for each in SOURCES:
            copy = shutil.copytree if (ROOT / each).is_dir() else shutil.copy
            copy(ROOT / each, sources / each)
        python = str(place / "venv/bin/python")
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed", "--disable-pip-version-check"]
        await self.run_to_end([python, "-m", "pip", "install", *options, *how, str(sources)])
        help_text = await self.run_to_end([python, *twistd("--help")[1:]])
        self.assertRegex(help_text, r"(?m)^ +pmdaemon +\S", name)
        said = await self.run_to_end([str(place / "venv/bin/pmdaemon"), "--version"])
        self.assertEqual(said, f"pmdaemon {pmdaemon.__version__}\n")
        where = await self.run_to_end([python, "-c", "import pmdaemon.web; print(pmdaemon.web.__file__)"])
        installed = Path(where.strip()).parent
        self.assertTrue(installed.is_relative_to(packages if name == "copied" else sources), where)
        for file in ("static/dashboard.html", "static/pmdaemon.js", "../py.typed"):
            self.assertTrue((installed / file).exists(), file)
        self.assertNotIn("tests", os.listdir(packages), "only what is ours is installed")

    async def test_copied_and_editable(self) -> None:
        installs = (self.install("copied"), self.install("editable", "--editable"))
        await gatherResults([Deferred.fromCoroutine(each) for each in installs])

    async def test_looking_for_plugins_imports_nothing_heavy(self) -> None:
        """``twistd --help`` loads every plugin; one that installed a reactor would take the choice away."""
        program = Program.start(self, [sys.executable, "-c", CHEAP])
        self.assertEqual(await program.ended(), 0, program)
        self.assertEqual(program.output, "after the plugin: []\nafter the service: []\n")

    async def test_help_and_version(self) -> None:
        shown = await gatherResults(
            [Program.start(self, [*twistd("pmdaemon"), option]).ended() for option in ("--help", "--version")]
        )
        self.assertEqual(shown, [0, 0])
