"""What a caller's scope and processes allow of a command, beyond what the request alone tells."""

import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.access import Caller, Scope
from pmdaemon.core.commands import ACTIONS
from pmdaemon.core.ecosystem import parse
from pmdaemon.core.selection import EVERYTHING, Selection
from pmdaemon.errors import PermissionDenied, ProcessNotFound
from tests.daemon.supervised import Supervised


class PermissionTests(SynchronousTestCase):
    """One app of two instances, and one of another's."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=Path(self.mktemp()).absolute().parent))
        self.daemon = Supervised(str(self.directory / "state.db"))
        self.addCleanup(self.daemon.store.close)
        self.file = self.directory / "apps.yaml"
        self.write(args="[]")
        text = self.file.read_text()
        self.daemon.supervisor.configure(parse(text, "apps.yaml", str(self.directory)), str(self.file))

    def write(self, *, args: str) -> None:
        self.file.write_text(
            f"apps: [{{name: web, script: /bin/sh, instances: 2, args: {args}}}, {{name: hidden, script: /bin/sh}}]"
        )

    def begin(
        self, action: str, process: str | int, *selectors: str, scope: Scope = "start", **fields: Any
    ) -> set[str]:
        """The names of the processes that a command is about."""
        processes = Selection(selectors) if selectors else EVERYTHING
        caller = Caller(name="t", kind="token", scope=scope, processes=processes)
        jobs = self.daemon.actions.begin(ACTIONS[action](process=process, **fields), caller)
        return {process.name for job in jobs for process in job.processes()}

    def test_only_its_own_of_an_app(self) -> None:
        self.assertEqual(self.begin("reset", "web", "web-1"), {"web-1"})
        self.assertEqual(self.begin("reset", "all", "web-*"), {"web-0", "web-1"})
        self.assertEqual(self.begin("stop", "all", "ns:default"), {"web-0", "web-1", "hidden"})

    def test_the_rest_does_not_exist(self) -> None:
        for action, more in (
            *((each, {}) for each in ("start", "stop", "restart", "reload", "delete", "reset")),
            ("scale", {"instances": 3}),
            ("signal", {"signal": "HUP"}),
        ):
            for selector in ("hidden", "hidde?", 2):
                error = self.assertRaises(ProcessNotFound, self.begin, action, selector, "web-*", **more)
                self.assertEqual(error.details, {"matches": []}, action)

    def test_no_other_names_can_be_taken_or_made(self) -> None:
        config = {"script": "/bin/sh"}
        for process, selectors, more in (
            ("other", ("web-*",), {}),
            ("hidden", ("web-*",), {"replace": True}),
            ("web", ("web-0",), {"replace": True}),
            ("fresh", ("fresh-0",), {"instances": 2}),
        ):
            whole = {"config": {**config, "instances": more.get("instances", 1)}, "replace": more.get("replace")}
            self.assertRaises(PermissionDenied, self.begin, "start", process, *selectors, **whole)
        self.assertRaises(PermissionDenied, self.begin, "scale", "web", "web-[01]", instances=3)
        self.assertEqual(self.begin("start", "fresh", "fresh", config=config), {"fresh"})

    def test_a_changed_configuration_needs_the_scope_to_start_something(self) -> None:
        self.assertEqual(self.begin("reload", "web", scope="operate"), {"web-0", "web-1"})
        self.write(args="[-c, 'exec anything']")
        error = self.assertRaises(PermissionDenied, self.begin, "reload", "web", scope="operate")
        self.assertEqual(error.details["needed"], "start")
        self.assertEqual(self.begin("reload", "web", scope="start"), {"web-0", "web-1"})
