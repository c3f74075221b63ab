"""Lines looked up in the logs: which come, in what order, and how a search goes on where it stopped [R11], [E6]."""

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.logfilter import LogFilter
from pmdaemon.daemon import logsearch as module
from pmdaemon.daemon.describe import PAGE
from pmdaemon.daemon.logsearch import LogPage, LogQuery, LogSearch
from pmdaemon.daemon.logwriter import LogWriter
from pmdaemon.errors import InvalidMessage, LimitExceeded, OperationFailed, PMDaemonError
from pmdaemon.keeper.segments import Limits, SegmentedLog
from tests.fakes import app

START = 1_700_000_000


class Who:
    """A process, as far as its logs go."""

    def __init__(self, id_: int, name: str) -> None:
        self.id, self.name, self.app, self.instance, self.namespace = id_, name, name, 0, "default"
        self.spec, self.created_at = app(name), 0.0


class CountingClock(Clock):
    """Counts what it is asked to call later."""

    turns = 0

    def callLater(self, when: float, what: Callable[..., object], *args: Any, **kw: Any) -> Any:
        self.turns += 1
        return super().callLater(when, what, *args, **kw)


class SearchCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp())))
        self.clock = CountingClock()
        self.clock.advance(START)
        self.writers: dict[str, LogWriter] = {}
        self.web, self.job = Who(0, "web"), Who(1, "job")
        self.size = PAGE

    def paths(self, who: Any) -> tuple[str, str, None]:
        return f"{self.home}/{who.name}-out.log", f"{self.home}/{who.name}-err.log", None

    def say(self, who: Who, text: str, stream: str = "stdout", *, later: float = 1.0) -> None:
        """Have it print something, some seconds after what came before."""
        self.clock.advance(later)
        path = self.paths(who)[stream == "stderr"]
        if path not in self.writers:
            self.writers[path] = LogWriter(path, now=self.clock.seconds, told=lambda *_: None)
            self.addCleanup(self.writers[path].close)
        self.writers[path].append(text.encode())

    def page(
        self, *whose: Who, lines: int = 100, since: float | None = None, cursor: str | None = None, **filter_: Any
    ) -> LogPage:
        query = LogQuery(lines=lines, filter=LogFilter(**filter_), since=since, cursor=cursor)
        search = LogSearch(self.clock, self.paths, page=self.size)
        self.clock.turns = 0
        found = Deferred.fromCoroutine(search.page(whose or (self.web,), query))
        while not found.called:
            self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return self.successResultOf(found)

    def refused(self, kind: type[PMDaemonError], *whose: Who, **query: Any) -> PMDaemonError:
        error: PMDaemonError = self.failureResultOf(self._begun(whose, query), kind).value
        return error

    def _begun(self, whose: Any, query: dict[str, Any]) -> "Deferred[LogPage]":
        search = LogSearch(self.clock, self.paths, page=self.size)
        cursor = query.pop("cursor", None)
        asked = LogQuery(lines=10, filter=LogFilter(**query), cursor=cursor)
        return Deferred.fromCoroutine(search.page(whose or (self.web,), asked))

    def texts(self, *whose: Who, **query: Any) -> list[str]:
        return [line.message for line in self.page(*whose, **query).lines]

    def all_pages(self, *whose: Who, **query: Any) -> list[list[str]]:
        pages, cursor = [], None
        while True:
            page = self.page(*whose, cursor=cursor, **query)
            pages.append([line.message for line in page.lines])
            cursor = page.cursor
            if cursor is None:
                return pages


class LinesTests(SearchCase):
    def test_the_last_ones_of_both_streams_by_their_times(self) -> None:
        for number in range(6):
            self.say(self.web, f"{number}\n", "stderr" if number % 2 else "stdout")
        page = self.page(lines=4)
        self.assertEqual([line.message for line in page.lines], ["2", "3", "4", "5"])
        self.assertEqual([line.stream for line in page.lines], ["stdout", "stderr"] * 2)
        first = page.lines[0]
        self.assertEqual((first.process, first.offset, first.level), ("web", 2, "info"))
        self.assertEqual((first.at, page.lines[1].level), ("2023-11-14T22:13:23.000Z", "error"))

    def test_several_processes(self) -> None:
        self.say(self.web, "a\n")
        self.say(self.job, "b\n")
        self.say(self.web, "c\n")
        found = self.page(self.web, self.job).lines
        self.assertEqual([(line.process, line.message) for line in found], [("web", "a"), ("job", "b"), ("web", "c")])

    def test_nothing_there(self) -> None:
        self.assertEqual(self.page(), LogPage([], None))
        self.assertEqual(os.listdir(self.home), [], "and nothing made")

    def test_since_a_time(self) -> None:
        for number in range(5):
            self.say(self.web, f"{number}\n", later=10)
        self.assertEqual(self.texts(since=START + 30.0), ["2", "3", "4"])
        self.assertEqual(self.texts(since=START + 30.0, lines=1), ["2"])
        self.assertEqual(self.texts(since=0.0), ["0", "1", "2", "3", "4"])
        self.assertEqual(self.texts(since=START + 999.0), [])

    def test_filters(self) -> None:
        """[S9]"""
        self.say(self.web, "WARN disk\ninfo disk\nwarn net 1\nwarn net 22\n")
        self.say(self.web, "disk!\n", "stderr")
        self.assertEqual(self.texts(grep="disk"), ["WARN disk", "info disk", "disk!"])
        self.assertEqual(self.texts(grep="disk", level="warn"), ["WARN disk", "disk!"])
        self.assertEqual(self.texts(stream="stderr"), ["disk!"])
        self.assertEqual(self.texts(grep=r"net \d\d$", regex=True), ["warn net 22"])
        self.assertEqual(self.texts(grep="disk", lines=1), ["disk!"])
        for wrong in ({"stream": "stdin"}, {"level": "loud"}, {"grep": "(", "regex": True}):
            self.refused(InvalidMessage, **wrong)

    def test_what_is_no_text(self) -> None:
        self.say(self.web, "x\n")
        self.writers[self.paths(self.web)[0]].append(b"\xff\xfe\n")
        self.assertEqual(self.texts(grep="\ufffd"), ["\ufffd\ufffd"])

    def test_the_last_line_without_its_end_and_a_long_one(self) -> None:
        self.say(self.web, "x" * 70_000 + "\nwhole\nhalf")
        found = self.page().lines
        self.assertEqual(
            [(line.partial, line.truncated) for line in found], [(False, True), (False, False), (True, False)]
        )
        self.assertEqual([len(line.message) for line in found], [65536, 5, 4])
        self.assertEqual(self.page(since=0.0).lines, found)

    def test_both_streams_in_one_file(self) -> None:
        self.say(self.web, "once\n")
        self.paths = lambda who: (f"{self.home}/web-out.log", f"{self.home}/web-out.log", None)  # type: ignore[method-assign]
        self.assertEqual(self.texts(), ["once"])

    def test_in_old_files(self) -> None:
        log = SegmentedLog(self.paths(self.web)[0], Limits(max_size=1), now=self.clock.seconds)
        self.addCleanup(log.close)
        for number in range(5):
            self.clock.advance(1)
            log.took(os.write(log.fd, b"%d\n" % number))
            log.rotate()
        self.assertEqual(self.texts(lines=3), ["2", "3", "4"])
        self.assertEqual(self.texts(since=START + 2.0), ["1", "2", "3", "4"])
        self.assertEqual(self.all_pages(lines=2), [["3", "4"], ["1", "2"], ["0"]])

    def test_a_log_that_cannot_be_read(self) -> None:
        os.mkdir(self.paths(self.web)[0])
        self.assertIn("cannot read a log", self.refused(OperationFailed).message)

    def test_too_many(self) -> None:
        error = self.refused(LimitExceeded, *(Who(number, f"p{number}") for number in range(201)))
        self.assertEqual(error.details, {"limit": 200})


class PageTests(SearchCase):
    def test_from_page_to_page(self) -> None:
        """Nothing is left out and nothing comes twice, whatever the blocks, the pages and the bounds."""
        chance = random.Random(7)
        self.patch(module, "_BLOCK", 50)
        told = []
        for number in range(200):
            who, stream = chance.choice((self.web, self.job)), chance.choice(("stdout", "stderr"))
            text = f"{number} " + "x" * chance.choice((1, 10, 70, 300))
            self.say(who, f"{text}\n", stream, later=chance.choice((0.2, 1.0, 50.0)))
            told.append(text)
        for lines, scan, size in ((7, 1 << 20, PAGE), (100, 120, PAGE), (100, 1 << 20, 900), (1000, 1 << 20, PAGE)):
            self.patch(module, "MAX_SCAN", scan)
            self.size = size
            back = self.all_pages(self.web, self.job, lines=lines)
            self.assertEqual([text for page in reversed(back) for text in page], told)
            on = self.all_pages(self.web, self.job, lines=lines, since=0.0)
            self.assertEqual([text for page in on for text in page], told)
            self.assertTrue(all(len(page) <= lines for page in (*back, *on)))
            some = self.all_pages(self.web, self.job, lines=lines, grep="9")
            self.assertEqual([each for page in reversed(some) for each in page], [each for each in told if "9" in each])

    def test_lines_of_one_moment_keep_their_order(self) -> None:
        self.say(self.web, "".join(f"{number}\n" for number in range(50)))
        self.assertEqual(self.texts(lines=3), ["47", "48", "49"])
        self.assertEqual(self.all_pages(lines=20)[1][0], "10")

    def test_one_moment_of_two_streams(self) -> None:
        """What is behind it is not told before it, though it was found before."""
        self.say(self.web, "a\n")
        self.say(self.web, "b\n", "stderr", later=0)
        self.say(self.web, "c\n")
        self.assertEqual(self.all_pages(lines=2), [["b", "c"], ["a"]])
        self.assertEqual(self.all_pages(lines=1, since=0.0), [["a"], ["b"], ["c"]])

    def test_the_clock_was_set_back(self) -> None:
        self.patch(module, "_BLOCK", 6)
        for number, later in enumerate((10, 10, -15, 1, 1, 30)):
            self.clock.rightNow += later
            self.say(self.web, f"{number}\n", later=0)
            self.say(self.web, f"{number}\n", "stderr", later=0)
        for since in (None, 0.0):
            pages = self.all_pages(lines=2, since=since)
            self.assertEqual(sorted(text for page in pages for text in page), sorted("001122334455"))

    def test_a_page_has_a_bound(self) -> None:
        """[E6]: in bytes of JSON; one line always fits."""
        self.size = 1000
        self.say(self.web, "".join(f"{number:03}" + "\x00" * 100 + "\n" for number in range(10)))
        pages = self.all_pages()
        self.assertEqual([len(page) for page in pages], [1] * 10)
        self.assertEqual([page[0][:3] for page in pages], [f"{number:03}" for number in reversed(range(10))])

    def test_no_page_looks_through_everything(self) -> None:
        self.patch(module, "MAX_SCAN", 128 * 1024)
        self.say(self.web, "needle\n" + "hay\n" * 100_000)
        page = self.page(grep="needle")
        self.assertEqual((page.lines, page.cursor is not None, self.clock.turns), ([], True, 2))
        self.assertEqual(self.all_pages(grep="needle"), [[], [], [], ["needle"]])

    def test_only_what_is_needed_is_read(self) -> None:
        self.say(self.web, "x\n" * 1_000_000)
        self.assertEqual(len(self.texts(lines=10)), 10)
        self.assertEqual(self.clock.turns, 1)

    def test_what_was_emptied_meanwhile(self) -> None:
        self.say(self.web, "a\nb\nc\n")
        cursor = self.page(lines=1).cursor
        Path(self.paths(self.web)[0]).write_bytes(b"")
        self.assertEqual(self.page(cursor=cursor), LogPage([], None))

    def test_a_cursor_tells_nothing_of_others(self) -> None:
        self.say(self.web, "a\nb\n")
        self.say(self.job, "c\nd\n")
        cursor = self.page(self.web, self.job, lines=1).cursor
        self.assertEqual(self.texts(self.web, cursor=cursor), ["a", "b"])

    def test_what_is_no_cursor(self) -> None:
        for cursor in ("x", "n", "p0o", "n0o1--", "p0x1", "q0o1", "p" + "9" * 40 + "o1"):
            error = self.refused(InvalidMessage, cursor=cursor)
            self.assertEqual(error.details, {"path": "data.cursor"})
