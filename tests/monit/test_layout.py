"""The table and the lines above it as text: whatever the width, nothing is wider and nothing is lost that matters."""

from datetime import UTC, datetime

from msgspec import structs
from rich.cells import cell_len
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.client import PMDaemonError, ProcessMetrics
from pmdaemon.monit.header import header
from pmdaemon.monit.keys import KEYS, footer
from pmdaemon.monit.layout import Cell, cut, header_cells, place, row_cells
from pmdaemon.monit.model import Model
from pmdaemon.monit.spark import spark
from tests.monit.made import SYSTEM, begun, message, process


def text(cells: list[Cell], between: str = "") -> str:
    return between.join(each for each, _ in cells)


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.model = Model(lambda: 0.0)
        self.processes = [
            process(0, "web", health="healthy", port=8080, cpu=99.9),
            process(1, "a-name-so-long-that-it-does-not-fit-into-any-terminal-at-all", "restarting"),
            process(2, "日本語のとても長い名前", "errored", restarts=12),
        ]
        self.model.take(begun(*self.processes))
        self.model.take(message(ProcessMetrics(self.processes)))

    def drawn(self, width: int, *, unicode: bool = True) -> list[str]:
        rows = self.model.listed()
        placed = place(rows, width)
        lines = [header_cells(placed, self.model, width, unicode=unicode)]
        lines += [row_cells(row, placed, self.model, unicode=unicode) for row in rows]
        return [text(line, " ") for line in lines]

    def test_every_width(self) -> None:
        for width in range(1, 220):
            lines = self.drawn(width)
            self.assertEqual(len({cell_len(line) for line in lines}), 1, width)
            if width >= 20:
                self.assertLessEqual(cell_len(lines[0]), width)
                self.assertIn("errored", lines[3], width)
                self.assertIn("web", lines[1], width)

    def test_columns_drop(self) -> None:
        for width, there, gone in (
            (200, ["ID▲", "PID", "Port", "CPU %", "Memory", "Uptime", "Restarts", "Health"], []),
            (80, ["Status", "CPU %", "Memory", "Uptime", "Rst"], ["ID", "Port", "Restarts"]),
            (40, ["Status", "Name", "CPU %"], ["Memory", "Uptime"]),
            (24, ["Status", "Name"], ["CPU"]),
        ):
            title = self.drawn(width)[0]
            for each in there:
                self.assertIn(each, title, width)
            for each in gone:
                self.assertNotIn(each, title, width)

    def test_what_nobody_has_is_not_there(self) -> None:
        model = Model(lambda: 0.0)
        model.take(begun(process(0, "a")))
        titles = text(header_cells(place(model.listed(), 200), model, 200, unicode=True))
        self.assertNotIn("Health", titles)
        self.assertNotIn("Port", titles)

    def test_without_unicode(self) -> None:
        self.processes.pop()
        self.model.take(message(ProcessMetrics(self.processes)))
        for width in (30, 80, 200):
            for each in self.drawn(width, unicode=False):
                self.assertTrue(each.isascii(), each)

    def test_status_is_told_by_shape_and_word(self) -> None:
        lines = self.drawn(100)
        for line, shape in zip(lines[1:], ("● online", "◐ restarting", "✗ errored"), strict=True):
            self.assertIn(shape, line)

    def test_cut(self) -> None:
        self.assertEqual(cut("short", 10, unicode=True), "short")
        self.assertEqual(cut("abcdefghij", 7, unicode=True), "abc…hij")
        self.assertEqual(cut("abcdefghij", 7, unicode=False), "abc~hij")
        for width in range(1, 12):
            self.assertLessEqual(cell_len(cut("日本語日本語", width, unicode=True)), width)


class SparkTests(SynchronousTestCase):
    def test_braille(self) -> None:
        self.assertEqual(spark([], 3, 0, 1, unicode=True), "   ")
        self.assertEqual(spark([0, 1], 2, 0, 1, unicode=True), " ⣸")
        self.assertEqual(spark([1, None, 5, 5], 2, 0, 1, unicode=True), "⡇⣿")
        self.assertEqual(len(spark(range(1000), 7, 0, 1000, unicode=True)), 7)

    def test_ascii(self) -> None:
        self.assertEqual(spark([0, 1, None, 0.5, 2], 6, 0, 1, unicode=False), " _# =#")

    def test_no_range(self) -> None:
        self.assertEqual(spark([3, 3], 1, 3, 3, unicode=True), "⣀")


class HeaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.model = Model(lambda: 0.0)
        self.model.info = SYSTEM
        self.model.measured(SYSTEM)
        self.model.take(begun(process(0, "a"), process(1, "b", "errored")))

    def lines(self, width: int = 120, retry_in: float | None = None, *, unicode: bool = True) -> list[str]:
        return [text(line) for line in header(self.model, width, retry_in, unicode=unicode)]

    def test_live(self) -> None:
        first, second = self.lines()
        for each in ("1.2.3", "machine", "● live", "2 processes", "1 errored", "1 online"):
            self.assertIn(each, first)
        for each in ("25 % of 4 cores", "2.0 GB of 8.0 GB", "0.50 0.25", "Lag 0.4 ms"):
            self.assertIn(each, second)

    def test_every_width(self) -> None:
        for width in range(40, 150):
            for each in self.lines(width):
                self.assertLessEqual(cell_len(each), width)

    def test_a_daemon_in_trouble(self) -> None:
        daemon = structs.replace(SYSTEM.daemon, trouble="No space left on device")
        self.model.info = structs.replace(SYSTEM, daemon=daemon)
        self.assertEqual(self.lines()[1], "error: the daemon cannot write its state: No space left on device")
        self.assertEqual(cell_len(self.lines(30)[1]), 30)

    def test_lost_and_refused(self) -> None:
        self.model.live = False
        self.assertIn("connecting", self.lines()[0])
        self.model.lost = datetime(2026, 1, 31, 14, 2, 9, tzinfo=UTC)
        self.assertIn("reconnecting in 3 s, stale since 14:02:09", self.lines(retry_in=3.1)[0])
        self.assertIn("reconnecting, stale", self.lines(retry_in=0.1)[0])
        self.assertTrue("".join(self.lines(unicode=False)).isascii())
        self.model.refused = PMDaemonError("cannot go on")
        self.assertIn("no connection", self.lines()[0])


class KeyTests(SynchronousTestCase):
    def test_each_key_is_there_once(self) -> None:
        keys = [each for key in KEYS for each in key.key.split(",")]
        self.assertEqual(len(keys), len(set(keys)))

    def test_the_footer_fits_and_has_every_command_in_80_columns(self) -> None:
        for width in range(10, 200):
            for line in footer(width, 2):
                said = " ".join(f"{key.shown} {key.label}" for key in line)
                self.assertTrue(len(said) <= width or len(line) == 1, said)
        said = {key.label for line in footer(80, 2) for key in line}
        asked = {
            "Scale",
            "Signal",
            "Delete",
            "Info",
            "Why",
            "Events",
            "Filter",
            "Find",
            "Pause",
            "Follow",
            "Help",
            "Quit",
        }
        plain = {key.label for key in KEYS if "act(" in key.action}
        self.assertEqual((asked | plain) - said, set())
