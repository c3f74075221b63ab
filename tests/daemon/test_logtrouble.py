"""What is told of a log that cannot be written, or of which old parts had to go."""

import os

from pmdaemon.daemon.logtrouble import LogTrouble
from tests.daemon.supervised import SupervisedTestCase


class LogTroubleTests(SupervisedTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.succeeds(self.daemon.start())
        self.process = self.daemon.process()
        self.trouble = LogTrouble(self.daemon.supervisor, self.daemon.clock.seconds)

    def told(self, **fact: object) -> None:
        about = {"id": str(self.process.id), "inc": self.process.incarnation}
        self.trouble.told({**about, "ev": "trouble", "dropped_bytes": 9, "dropped_lines": 2, **fact})

    def test_a_full_disk_and_room(self) -> None:
        self.told(errno=28)
        details = self.daemon.told.details("log_trouble")
        self.assertEqual(details, {"error": os.strerror(28), "dropped_bytes": 9, "dropped_lines": 2})
        self.told(errno=28)
        self.assertEqual(self.daemon.told.story().count("+log_trouble"), 1, "it is not told each second")
        self.daemon.clock.advance(61)
        self.told(errno=28)
        self.told(errno=None)
        self.told(errno=28)
        self.assertEqual(self.daemon.told.story().count("+log_trouble"), 4)

    def test_of_a_child_that_is_no_more(self) -> None:
        self.told(errno=28, inc=99)
        self.told(errno=28, id="77")
        self.told(errno=28, id="x")
        self.assertNotIn("+log_trouble", self.daemon.told.story())

    def test_capped(self) -> None:
        path = os.path.realpath(self.daemon.supervisor.log_paths(self.process)[0])
        self.trouble.told({"ev": "capped", "path": path, "bytes": 5})
        self.trouble.told({"ev": "capped", "path": "/elsewhere", "bytes": 5})
        self.trouble.told({"ev": "of a later keeper"})
        self.assertEqual(self.daemon.told.details("log_capped"), {"path": path, "bytes": 5})
        self.assertEqual(self.daemon.told.story().count("+log_capped"), 1)
