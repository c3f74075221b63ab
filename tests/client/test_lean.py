"""Who imports the client gets no framework with it."""

import json
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.program import ROOT


def loaded(statement: str) -> set[str]:
    """The packages that are there after ``statement`` in a fresh interpreter."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


class LeanTests(SynchronousTestCase):
    def test_no_framework(self) -> None:
        there = loaded("import pmdaemon.client, pmdaemon.client.aio, pmdaemon.client.blocking")
        self.assertEqual(there & {"twisted", "autobahn", "zope", "psutil", "re2", "yaml", "rich", "click"}, set())
        self.assertIn("asyncio", there)

    def test_no_asyncio_for_who_blocks(self) -> None:
        there = loaded("from pmdaemon.client import BlockingClient; BlockingClient")
        self.assertNotIn("asyncio", there)
        self.assertIn("websockets", there)

    def test_a_name_that_is_not_there(self) -> None:
        import pmdaemon.client

        with self.assertRaises(AttributeError):
            pmdaemon.client.Nothing  # noqa: B018  # that it raises is what is tested
        self.assertEqual([name for name in pmdaemon.client.__all__ if not hasattr(pmdaemon.client, name)], [])
