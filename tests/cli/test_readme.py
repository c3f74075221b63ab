"""A newcomer's path, as the README prints it."""

import shutil
import tempfile

from tests.cli.commandcase import CommandCase, Screen
from tests.integration.harness import LiveDaemon
from tests.integration.program import ROOT, free_port
from tests.test_docs import Document

SHOWN = {
    "pmdaemon start examples/apps/web.py": r"started web, pid \d+",
    "pmdaemon start examples/apps/worker.py": r"started worker, pid \d+ \d+",
    "pmdaemon list": r"worker-1 +│ online",
    "pmdaemon logs worker": r"worker-1 \| info worker 1 is ready",
    "pmdaemon signal KILL web": r"sent KILL to web",
    "pmdaemon why web": r"web is \w+.*\n  Last crash, .*: killed by SIGKILL",
    "pmdaemon reload web": r"reloaded web, pid \d+",
    "pmdaemon stop all": r"3 ok, 0 failed",
    "pmdaemon kill": r"stopped the daemon",
}
"""What each line of it shows."""


class NewcomerTests(CommandCase):
    async def test_first_steps(self) -> None:
        """Typed line by line on a terminal, with free ports. That it can be installed is tested elsewhere."""
        (path,) = Document("README.rst").snippets("sh")
        first, *lines = path.splitlines()
        self.assertEqual(first, "pip install .")
        home = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        self.daemon = LiveDaemon(self, home, "", None)  # type: ignore[arg-type]  # only its home is asked for
        self.addCleanup(self.run_it, "kill", "--yes")
        screen = Screen(self, width=110)
        await screen.run_it(f"cd {ROOT}; export PMDAEMON_PORT=0")
        for line, (begin, shown) in zip(lines, SHOWN.items(), strict=True):
            self.assertTrue(line.startswith(begin), line)
            typed = line.replace("8100", str(free_port())).partition("  #")[0]
            asked = "y" if line in ("pmdaemon stop all", "pmdaemon kill") else None
            code, text = await screen.run_it(typed, answer=asked)
            while begin == "pmdaemon why web" and "never crashed" in text:  # told a moment after the signal was sent
                code, text = await screen.run_it(typed)
            self.assertEqual(code, 0, text)
            self.assertRegex(text, shown)
