"""The replies as a client reads them are those that the daemon gives."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon import crashes, logsearch
from pmdaemon.protocol import replies


class ReplyTests(SynchronousTestCase):
    def test_the_same_keys(self) -> None:
        for ours, theirs in (
            (replies.LogLine, logsearch.LogEntry),
            (replies.Crash, crashes.Crash),
            (replies.Capture, crashes.CrashLine),
        ):
            keys = [{field.encode_name for field in msgspec.structs.fields(each)} for each in (ours, theirs)]
            self.assertEqual(*keys, ours)
