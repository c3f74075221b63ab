"""The audit file: what is in it, and how large it becomes."""

import json
import os
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.access import Caller
from pmdaemon.core.commands import Stop
from pmdaemon.daemon import audit
from pmdaemon.daemon.audit import Audit

CALLER = Caller(name="ci", kind="token", scope="operate")


class AuditTests(SynchronousTestCase):
    """Lines for commands."""

    def setUp(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir=Path(self.mktemp()).absolute().parent), "audit.jsonl")
        self.audit = Audit(self.path, Clock().seconds)

    def test_a_line(self) -> None:
        self.audit.record(CALLER, Stop(process="web\x1b\u202e\n"), "ok")
        (line,) = self.path.read_bytes().splitlines()
        self.assertTrue(line.isascii() and line.decode().isprintable())
        self.assertEqual(
            json.loads(line),
            {
                "at": "1970-01-01T00:00:00.000Z",
                "client": "ci",
                "kind": "token",
                "action": "stop",
                "process": "web\x1b\u202e\n",
                "outcome": "ok",
            },
        )
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_bounded(self) -> None:
        self.patch(audit, "MAX_SIZE", 1000)
        for number in range(100):
            self.audit.record(CALLER, Stop(process=number), "ok")
        self.assertEqual(sorted(os.listdir(self.path.parent)), ["audit.jsonl", "audit.jsonl.1"])
        older, newer = (self.path.with_name(name).read_bytes() for name in ("audit.jsonl.1", "audit.jsonl"))
        self.assertLess(max(len(older), len(newer)), 1200)
        numbers = [json.loads(line)["process"] for line in (older + newer).splitlines()]
        self.assertEqual(numbers, list(range(numbers[0], 100)), "the newest, and none lost in between")

    def test_a_link_is_not_followed(self) -> None:
        target = self.path.with_name("target")
        target.touch()
        self.path.symlink_to(target)
        self.audit.record(CALLER, Stop(process="web"), "ok")
        self.assertEqual(target.read_bytes(), b"")
