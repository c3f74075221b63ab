"""A rotation and a compression that die between any two steps."""

import os
import subprocess
import sys
from collections.abc import Callable

from pmdaemon.keeper.layout import remove_log, segments
from tests.keeper.test_segments import SegmentsCase

_CRASH = """
import os, sys
from pmdaemon.keeper.housekeeper import Housekeeper
from pmdaemon.keeper.segments import Limits, SegmentedLog
log = SegmentedLog(sys.argv[1], Limits(), now=lambda: 1000.0)
for _ in range(3):
    log.append(b"one\\n" * 100)
    log.rotate()
housekeeper = Housekeeper(os.path.dirname(sys.argv[1]), say=print)
housekeeper._running = True
housekeeper.look(log)
housekeeper.work()
"""


class Crashes(SegmentsCase):
    """Killed between any two steps, nothing is lost and the next start goes on at the right offset."""

    def crash(self, place: str) -> None:
        environment = {"PMDAEMON_CRASH_AT": place, "PYTHONPATH": os.pathsep.join(sys.path)}
        ended = subprocess.run([sys.executable, "-c", _CRASH, self.path], env=environment, capture_output=True)
        self.assertEqual(ended.returncode, 137, ended)

    def check(self, end: int) -> None:
        reader = self.reader()
        self.assertEqual((reader.base, reader.end()), (0, end))
        self.assertEqual(reader.read(0, end + 9), b"one\n" * (end // 4))
        self.assertEqual([reader.time_at(offset) for offset in range(0, end, 100)], [1000.0] * (end // 100))

    def each(self, then: Callable[[int], None]) -> None:
        for rotation, end in ((1, 400), (2, 800)):
            for step in range(1, 5):
                remove_log(self.path)
                self.crash(f"mid_rotate_{step}:{rotation}")
                then(end)

    def test_a_reader_finds_all_before_anybody_writes_again(self) -> None:
        self.each(self.check)

    def test_the_next_writer_goes_on(self) -> None:
        def go_on(end: int) -> None:
            log = self.log()
            self.assertEqual(log.end, end)
            log.append(b"one\n" * 25)
            self.check(end + 100)
            self.assertFalse({name for name in self.names() if "new" in name})
            log.rotate()
            self.check(end + 100)
            self.assertEqual(log.base, end + 100)

        self.each(go_on)

    def test_offsets_go_on_though_all_segments_are_deleted(self) -> None:
        def go_on(end: int) -> None:
            self.log()
            for segment in segments(self.path):
                segment.remove()
            self.assertEqual(self.log().end, end)

        self.each(go_on)

    def test_while_compressing(self) -> None:
        for step in (1, 2):
            remove_log(self.path)
            self.crash(f"mid_pack_{step}")
            self.assertEqual(self.starts(), [0, 400, 800])
            self.check(1200)
            self.assertEqual(self.log().base, 1200)
