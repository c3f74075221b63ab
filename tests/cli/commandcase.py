"""The installed command line as people run it, against a live daemon: into pipes, and on a terminal of tmux's."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import ROOT, require, within

_INSTALLED = Path(sys.executable).with_name("pmdaemon")
COMMAND = [str(_INSTALLED)] if _INSTALLED.exists() else [sys.executable, "-m", "pmdaemon.cli"]
"""The program: as it is installed beside this Python, else out of the checkout."""

APPS = """
apps:
  - {name: web, script: sleep 1000, kill_timeout: 300}
  - {name: worker, script: sleep 1000, instances: 2, namespace: jobs, kill_timeout: 300, env: {QUEUE: mail}}
  - {name: idle, script: sleep 1000, autostart: false}
  - name: talker
    script: sh
    args:
      - -c
      - 'echo one; echo "WARN two"; echo three >&2; printf "\\\\033[31mred\\\\033[0m\\\\033]0;t\\\\007\\\\n"; sleep 99'
    kill_timeout: 300
  - name: broken
    script: sh
    args: [-c, 'echo trying; echo "no such host: db" >&2; sleep 0.1; exit 3']
    max_restarts: 0
"""


class Ended(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as one JSON document of the schema."""
        document = json.loads(self.out)
        assert document["schema"] == 1, self
        return document


class CommandCase(TestCase):
    """Runs commands, as a user whose home is that of ``daemon``."""

    daemon: LiveDaemon

    async def begin(self, config: str = APPS, **more: Any) -> None:
        """Start the daemon with some apps, and wait until they are as they will stay."""
        self.daemon = await LiveDaemon.start(self, config=config, **more)
        client = await self.daemon.connect()
        reply = await client.request("subscribe", {"events": ["process_status"], "since": "0" * 16})
        assert reply["type"] == "subscribed", reply
        for name, status in (("worker-1", "online"), ("talker", "online"), ("broken", "errored")):
            if name.partition("-")[0] in config:
                await client.expect_status(name, status)

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a command."""
        inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
        return {**inherited, "PMDAEMON_HOME": self.daemon.home, "PYTHONPATH": str(ROOT), "TZ": "UTC", **more}

    def run_it(self, *arguments: str, cwd: str | None = None, **env: str) -> "Deferred[Ended]":
        """Run one command into pipes, with nothing to read."""

        def run() -> Ended:
            done = subprocess.run(
                [*COMMAND, *arguments],
                env=self.env(**env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert "Traceback" not in done.stderr, done.stderr
            return Ended(done.returncode, done.stdout, done.stderr)

        return within(70, deferToThread(run), lambda: f"the end of pmdaemon {' '.join(arguments)}")

    async def ok(self, *arguments: str, **env: str) -> Ended:
        """Run one command that has to succeed."""
        ended = await self.run_it(*arguments, **env)
        self.assertEqual(ended.code, 0, f"{arguments}: {ended}")
        return ended

    async def fails(self, code: int, *arguments: str, **env: str) -> Ended:
        """Run one command that has to end with ``code``, and say so in the three lines at most."""
        ended = await self.run_it(*arguments, **env)
        self.assertEqual(ended.code, code, f"{arguments}: {ended}")
        self.assertIn(f"(exit {code})\n", ended.err)
        return ended

    async def all_fail(self, *expected: tuple[Any, ...]) -> list[Ended]:
        """`fails` for each code and its arguments, which have nothing to do with each other, all at once."""
        awaited = [Deferred.fromCoroutine(self.fails(code, *arguments)) for code, *arguments in expected]
        return list(await gatherResults(awaited, consumeErrors=True))

    def until(self, true: Any, what: Any) -> "Deferred[None]":
        """Wait until ``true()``, which nothing tells of."""

        def look() -> None:
            if true():
                looking.stop()

        looking = LoopingCall(look)
        looked = looking.start(0.05)
        waited = within(30, looked, what)
        waited.addBoth(lambda result: (looking.stop() if looking.running else None, result)[1])
        return waited


class Screen:
    """A terminal of 100x40, or another size, in a tmux server of its own."""

    def __init__(self, case: CommandCase, *, width: int = 100, height: int = 40) -> None:
        self._case = case
        self._tmux = require(case, "tmux")
        self._place = tempfile.mkdtemp(prefix="pmd-tmux-")
        case.addCleanup(shutil.rmtree, self._place, ignore_errors=True)
        case.addCleanup(self._call, "kill-server")
        env = case.env(TERM="screen-256color", PS1="$ ", LC_ALL="C.UTF-8")
        bin_ = Path(self._place) / "bin"
        bin_.mkdir()
        program = bin_ / "pmdaemon"
        program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
        program.chmod(0o755)
        env["PATH"] = f"{bin_}:{env['PATH']}"
        self._env = {key: value for key, value in env.items() if key not in ("TMUX", "TMUX_PANE")}
        size = ["-x", str(width), "-y", str(height)]
        self._call("-f", "/dev/null", "new-session", "-d", *size, "-s", "it", "env -u ENV sh")
        self._count = 0

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._tmux, "-u", "-S", f"{self._place}/socket", *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout

    def text(self, *, colors: bool = False) -> str:
        """What is on it, with what has scrolled away."""
        return self._call("capture-pane", "-p", "-t", "it", "-S", "-200", *(["-e"] if colors else []))

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self._call("send-keys", "-t", "it", *keys)

    def type(self, text: str) -> None:
        """Type a line, and Enter."""
        self._call("send-keys", "-t", "it", "-l", text)
        self.keys("Enter")

    def shows(self, text: str) -> "Deferred[None]":
        """Wait until it shows a text."""
        return self._case.until(lambda: text in self.text(), lambda: f"{text!r} on the terminal:\n{self.text()}")

    async def run_it(self, command: str, *, colors: bool = False, answer: str | None = None) -> tuple[int, str]:
        """Run one command line, and ``answer`` what it asks: its exit code, and what it showed."""
        self._count += 1
        mark = f"ended-{self._count}-"
        self._call("clear-history", "-t", "it")
        self.type(f"clear; {command}; echo {mark}$?")
        if answer is not None:
            await self.shows("? [y/N]:")
            self.keys(answer, "Enter")
        done = lambda: [line for line in self.text().splitlines() if line.startswith(mark)]  # noqa: E731  # asked twice
        await self._case.until(done, lambda: f"the end of {command}:\n{self.text()}")
        shown = self.text(colors=colors)
        return int(done()[0].removeprefix(mark)), shown[: shown.rindex(mark)]
