"""Stretches of logs, delivered one after another [S7]."""

from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.lines import Line
from pmdaemon.daemon.backfill import Backfill, Stretch
from pmdaemon.daemon.logfile import LogFile


class BackfillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.backfill = Backfill(self.clock)
        self.told: list[tuple[str, bytes]] = []
        self.watch: Callable[[], object] = lambda: None

    def add(self, name: str, data: bytes, start: int = 0, end: int | None = None) -> Stretch:
        """A stretch of a log with these bytes."""
        path = self.mktemp()
        Path(path).write_bytes(data)
        file = LogFile(path)
        self.addCleanup(file.close)

        def deliver(lines: list[Line]) -> None:
            self.told += [(name, line.data) for line in lines]
            self.watch()

        return self.backfill.add(file, deliver, start, len(data) if end is None else end)

    def turns(self, number: int) -> None:
        for _ in range(number):
            self.clock.advance(0)

    def test_a_stretch(self) -> None:
        stretch = self.add("a", b"one\ntwo\nthree\nfour\n", 4, 14)
        self.assertEqual((stretch.behind, stretch.position, self.told), (True, 4, []))
        self.turns(2)
        self.assertEqual((stretch.behind, stretch.position), (False, 14))
        self.assertEqual(self.told, [("a", b"two"), ("a", b"three")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_after_another_and_a_little_in_each_turn(self) -> None:
        size = 700_000
        stretches = [self.add(name, b"y" * 99 + b"\n" + b"y\n" * (size // 2)) for name in "ab"]
        seen: list[tuple[int, int]] = []
        self.watch = lambda: seen.append((stretches[0].position, stretches[1].position))
        self.turns(2)
        self.assertGreater(len(seen), 6)
        self.assertEqual({second for first, second in seen if first < stretches[0].end}, {0})
        self.assertEqual(
            self.told, [("a", b"y" * 99), *[("a", b"y")] * (size // 2), ("b", b"y" * 99), *[("b", b"y")] * (size // 2)]
        )

    def test_one_that_has_no_lines(self) -> None:
        """As the rest of a line that was too long."""
        empty = self.add("a", b"x" * 70_000 + b"\n", 66_000)
        after = self.add("b", b"line\n")
        self.turns(6)
        self.assertEqual((empty.behind, after.behind, self.told), (False, False, [("b", b"line")]))

    def test_stopped(self) -> None:
        stretches = [self.add(name, b"line\n") for name in "abc"]
        stretches[0].stop()
        self.turns(6)
        self.assertEqual([name for name, _ in self.told], ["b", "c"])
        self.add("d", b"line\n")
        self.backfill.stop()
        self.turns(3)
        self.assertEqual((len(self.told), self.clock.getDelayedCalls()), (2, []))
