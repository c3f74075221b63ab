"""Output goes into files as it came, and lines are read back for those who want them, and only for them [P13]."""

import os
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.events import LogMessage
from pmdaemon.core.lines import Line
from pmdaemon.core.selection import Selection
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.bus import EventBus, Message
from pmdaemon.daemon.ids import Sequence
from pmdaemon.daemon.journal import Gap, Journal
from pmdaemon.daemon.log import STREAMS
from pmdaemon.daemon.logs import Logs, message
from pmdaemon.daemon.store import Store
from pmdaemon.keeper.layout import segments
from pmdaemon.keeper.segments import Limits, SegmentedLog
from tests.fakes import app


class Program(Struct):
    """Somebody who prints."""

    spec: AppSpec
    id: int = 1
    name: str = "web"
    instance: int = 0
    created_at: float = 0.0

    @property
    def app(self) -> str:
        return self.spec.name

    @property
    def namespace(self) -> str:
        return self.spec.namespace


class LogsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(self.mktemp())))
        self.clock = Clock()
        self.clock.advance(1000.0)
        store = Store(Path(self.home, "state.db"))
        self.addCleanup(lambda: store.db.close())
        self.journal = Journal(store)
        self.bus = EventBus(
            self.clock,
            now=self.clock.seconds,
            sequence=Sequence(1),
            journal=self.journal,
            commit=store.commit,
            encode=lambda event, id_, at: b"",
        )
        self.heard: list[LogMessage] = []
        self.bus.add(self)
        self.logs = Logs(self.clock, self.bus, self.journal, Path(self.home, "logs"), self.clock.seconds)
        self.addCleanup(self.logs.shut)
        self.wanted: set[str] = set()
        self.logs.wants = lambda who, stream: stream in self.wanted
        self.web = Program(app("web"))

    def offer(self, message: Message) -> None:
        assert isinstance(message.event, LogMessage)
        self.heard.append(message.event)

    def flush(self) -> None:
        pass

    def want(self, *streams: str) -> None:
        self.wanted = set(streams)
        self.logs.follow(Selection(None), streams)

    def say(self, data: bytes, stream: Any = "stdout", who: Program | None = None) -> None:
        self.logs.write(who or self.web, stream, data)
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(4):
            self.clock.advance(seconds / 4)

    def texts(self) -> list[str]:
        return [each.message for each in self.heard]

    def content(self, path: str) -> bytes:
        return Path(path).read_bytes()


class WritingTests(LogsCase):
    def test_bytes_as_they_came_one_file_for_each_stream(self) -> None:
        self.logs.open(self.web)
        for stream, data in (("stdout", b"one\r\n\0\xff"), ("stderr", b"bad\n"), ("stdout", b"two")):
            self.logs.write(self.web, stream, data)
        self.logs.close(self.web)
        out, err, both = self.logs.paths(self.web)
        self.assertEqual((out, err), (f"{self.home}/logs/web-out.log", f"{self.home}/logs/web-err.log"))
        self.assertEqual((self.content(out), self.content(err), both), (b"one\r\n\0\xfftwo", b"bad\n", None))
        self.logs.open(self.web)
        self.logs.write(self.web, "stdout", b"!")
        self.assertEqual(self.content(out), b"one\r\n\0\xfftwo!", "appended across restarts")

    def test_files_of_its_own(self) -> None:
        web = Program(app("web", out_file="o.log", error_file="e.log", log_file="all.log"))
        self.patch(self.logs, "paths", lambda who: tuple(f"{self.home}/{name}" for name in ("o", "e", "all")))
        self.logs.open(web)
        self.say(b"a\n", who=web)
        self.say(b"b\n", "stderr", who=web)
        self.assertEqual(
            [self.content(f"{self.home}/{name}") for name in ("o", "e", "all")], [b"a\n", b"b\n", b"a\nb\n"]
        )

    def test_each_instance_has_its_own(self) -> None:
        spec = app("web", instances=2, out_file="/x/web.log", log_file="/x/all")
        paths = [self.logs.paths(Program(spec, number, f"web-{number}", number)) for number in (0, 1)]
        self.assertEqual([each[0] for each in paths], ["/x/web-0.log", "/x/web-1.log"])
        self.assertEqual([each[1] for each in paths], [f"{self.home}/logs/web-{number}-err.log" for number in (0, 1)])
        self.assertEqual([each[2] for each in paths], ["/x/all-0", "/x/all-1"])

    def test_both_streams_in_one_file(self) -> None:
        """Written once, and told once, as stdout."""
        self.patch(self.logs, "paths", lambda who: (f"{self.home}/one",) * 3)
        self.want(*STREAMS)
        self.logs.open(self.web)
        self.say(b"a\n")
        self.say(b"b\n", "stderr")
        self.assertEqual(self.content(f"{self.home}/one"), b"a\nb\n")
        self.assertEqual([(each.message, each.stream) for each in self.heard], [("a", "stdout"), ("b", "stdout")])

    def test_a_reload_has_two_at_once(self) -> None:
        """[R6]: the file is open until the second of them is gone."""
        self.logs.open(self.web)
        newcomer = Program(app("web", args=["new"]))
        self.logs.open(newcomer)
        self.logs.close(self.web)
        self.say(b"new\n", who=newcomer)
        self.logs.close(newcomer)
        self.assertEqual((self.content(self.logs.paths(self.web)[0]), self.logs._open._writers), (b"new\n", {}))

    def test_a_file_that_cannot_be_opened(self) -> None:
        Path(self.home, "logs").write_text("in the way")
        self.assertRaises(OSError, self.logs.open, self.web)
        self.assertEqual((self.logs._open._writers, self.logs._open._users), ({}, {}))

    def test_forgotten(self) -> None:
        """[R7]"""
        for purge in (False, True):
            self.logs.open(self.web)
            self.say(b"a\n")
            self.logs.close(self.web)
            self.logs.forget(self.web, purge=purge)
            self.assertEqual(os.path.exists(self.logs.paths(self.web)[0]), not purge)
        self.assertEqual((self.logs._logs, self.logs._by_path), ({}, {}))


class FollowingTests(LogsCase):
    def test_for_those_who_want_them(self) -> None:
        self.logs.open(self.web)
        self.say(b"unheard\n")
        self.want("stdout")
        self.say(b"one\ntwo\n")
        self.say(b"other\n", "stderr")
        self.assertEqual([(each.message, each.offset) for each in self.heard], [("one", 8), ("two", 12)])
        self.wanted.clear()
        self.say(b"the last\n")
        self.say(b"unheard\n")
        self.assertEqual(self.texts(), ["one", "two", "the last"])
        self.assertIsNone(self.logs.position(self.web, "stdout"))

    def test_what_is_told_of_a_line(self) -> None:
        line = Line(5, 9, b"WARN \xff", partial=True, truncated=True)
        who = Program(app("web", namespace="blue"), 3, "web-2", 2)
        self.assertEqual(
            message(who, "stderr", line),
            LogMessage(
                process="web-2",
                id=3,
                app="web",
                instance=2,
                namespace="blue",
                level="warn",
                message="WARN \ufffd",
                stream="stderr",
                offset=5,
                partial=True,
                truncated=True,
            ),
        )

    def test_somebody_else_writes_and_tells_of_it_late(self) -> None:
        self.logs.open(self.web)
        out = Path(self.logs.paths(self.web)[0])
        out.write_bytes(b"one\ntwo\nthr")
        self.want("stdout")
        self.logs.grown(str(out), 4)
        self.turn()
        self.assertEqual(self.heard, [])
        out.write_bytes(b"one\ntwo\nthree\nfour\n")
        for end in (8, 14, 19):
            self.logs.grown(str(out), end)
            self.turn()
        self.assertEqual([(each.message, each.offset) for each in self.heard], [("three", 8), ("four", 14)])

    def test_a_process_that_starts_while_somebody_waits_for_it(self) -> None:
        self.want("stdout")
        self.logs.open(self.web)
        self.say(b"first\n")
        self.assertEqual(self.texts(), ["first"])

    def test_an_unfinished_line_at_the_end(self) -> None:
        self.want("stdout")
        self.logs.open(self.web)
        self.say(b"one\ntw")
        self.logs.close(self.web)
        self.assertEqual([(each.message, each.partial) for each in self.heard], [("one", False), ("tw", True)])

    def test_an_unfinished_line_when_somebody_comes(self) -> None:
        """From its start, less what was told of it already."""
        self.logs.open(self.web)
        self.say(b"one\nun")
        self.want("stdout")
        self.turn(1)
        self.wanted.clear()
        self.say(b"fi")
        self.turn(1)
        self.want("stdout")
        self.say(b"nished\n")
        told = [(each.message, each.offset, each.partial) for each in self.heard]
        self.assertEqual("".join(each[0] for each in told), "unfinished")
        self.assertEqual({each[1] for each in told}, {4})
        self.assertEqual([each[2] for each in told], [True] * (len(told) - 1) + [False])

    def test_watchers_see_new_lines_of_both_streams(self) -> None:
        seen: list[bytes] = []

        def watcher(lines: list[Line]) -> None:
            seen.extend(each.data for each in lines)

        self.logs.open(self.web)
        self.say(b"before\n")
        self.logs.watch(self.web, watcher)
        self.say(b"one\n")
        self.say(b"two\n", "stderr")
        self.logs.unwatch(self.web, watcher)
        self.say(b"after\n")
        self.assertEqual((seen, self.heard), ([b"one", b"two"], []))

    def test_watchers_do_not_see_what_is_published_late(self) -> None:
        """[S7]: or an old line would make a new child ready."""
        seen: list[bytes] = []
        self.logs.open(self.web)
        since = self.bus.last
        self.say(b"before\n")
        self.wanted = {"stdout"}
        self.logs.watch(self.web, lambda lines: seen.extend(each.data for each in lines))
        self.logs.fill(self.web, "stdout", since)
        self.say(b"new\n")
        self.assertEqual((seen, sorted(self.texts())), ([b"new"], ["before", "new"]))


class FillTests(LogsCase):
    def setUp(self) -> None:
        super().setUp()
        self.logs.open(self.web)
        self.wanted = {"stdout"}

    def fill(self, since: int) -> bool:
        fillers, whole = self.logs.fill(self.web, "stdout", since)
        self.assertEqual(len(fillers) > 0, any(each.behind for each in fillers))
        self.turn()
        self.assertFalse(any(each.behind for each in fillers))
        return whole

    def now(self) -> int:
        """An id of this moment, which is a second long."""
        self.turn(1)
        self.bus.stamp()
        self.turn(1)
        return self.bus.last

    def test_what_was_written_after_an_id(self) -> None:
        self.say(b"before\n")
        since = self.now()
        self.say(b"one\ntwo\n")
        self.assertTrue(self.fill(since))
        self.say(b"three\n")
        self.assertEqual(self.texts(), ["one", "two", "three"])
        self.assertTrue(self.fill(since))
        self.assertEqual(len(self.heard), 3, "once")

    def test_further_back(self) -> None:
        ids = []
        for number in range(4):
            ids.append(self.now())
            self.say(b"%d\n" % number)
        for number in (3, 1, 2, 0):
            self.fill(ids[number])
        self.assertEqual(self.texts(), ["3", "1", "2", "0"])

    def test_only_once_while_it_is_going_on(self) -> None:
        since = self.now()
        self.say(b"x" * 100 + b"\n")
        earlier, _ = self.logs.fill(self.web, "stdout", since)
        later, _ = self.logs.fill(self.web, "stdout", 0)
        self.assertEqual(len([each for each in later if each in earlier]), 1, "who comes later waits for it too")
        self.turn()
        self.assertEqual(len(self.heard), 1)

    def test_what_is_not_its_own(self) -> None:
        """A file that was there before, as of a deleted process of the same name."""
        self.say(b"old\n")
        self.logs.close(self.web)
        self.logs.forget(self.web, purge=False)
        self.turn(1)
        again = Program(app("web"), 2, created_at=self.clock.seconds())
        self.logs.open(again)
        self.say(b"new\n", who=again)
        self.logs.fill(again, "stdout", 0)
        self.turn()
        self.assertEqual([(each.id, each.message) for each in self.heard], [(2, "new")])

    def test_segments_that_were_deleted_while_it_was_followed(self) -> None:
        """A client that comes back is told that lines are missing; what was told of the others stays."""
        self.logs.shut()
        self.logs = Logs(self.clock, self.bus, self.journal, Path(self.home, "logs"), self.clock.seconds, writes=False)
        self.logs.wants = lambda who, stream: stream in self.wanted
        self.logs.open(self.web)
        log = SegmentedLog(self.logs.paths(self.web)[0], Limits(), now=self.clock.seconds)
        self.addCleanup(log.close)
        self.logs.follow(Selection(None), STREAMS)
        since = self.now()
        for data in (b"one\n", b"two\n"):
            log.append(data)
            self.logs.grown(log.path, log.end)
            self.turn()
            log.rotate()
        self.assertEqual(self.texts(), ["one", "two"])
        self.fill(since)
        self.assertIsNone(self.journal.lost(since, lambda type_, who: True, logs=True))
        first, second = self.journal.marks(0, 9)
        segments(log.path)[0].remove()
        self.fill(since)
        self.assertEqual(self.journal.lost(since, lambda type_, who: True, logs=True), Gap(first.last, None))
        self.assertEqual(self.journal.marks(0, 9), [second])

    def test_a_file_that_was_emptied(self) -> None:
        self.logs.follow(Selection(None), STREAMS)
        self.say(b"one\ntwo\n")
        self.assertEqual(len(self.journal.marks(0, 9)), 1)
        os.truncate(self.logs.paths(self.web)[0], 0)
        self.say(b"new\n")
        self.assertEqual(self.texts(), ["one", "two", "new"])
        self.assertEqual([(each.start, each.end) for each in self.journal.marks(0, 9)], [(0, 4)])
        self.assertIsNotNone(self.journal.lost(0, lambda type_, who: True, logs=True))

    def test_a_file_that_was_taken_away(self) -> None:
        self.logs.follow(Selection(None), STREAMS)
        self.say(b"one\ntwo\n")
        self.logs.close(self.web)
        out = self.logs.paths(self.web)[0]
        for path in (out, f"{out}.idx"):
            os.unlink(path)
        self.logs.open(self.web)
        self.say(b"new\n")
        self.assertEqual(self.texts(), ["one", "two", "new"])
        self.assertEqual(self.logs.file(self.web, "stdout").read(0, 100), b"new\n")

    def test_other_files_by_a_reload(self) -> None:
        self.logs.follow(Selection(None), STREAMS)
        self.say(b"one\n")
        self.logs.close(self.web)
        self.patch(self.logs, "paths", lambda who: (f"{self.home}/o", f"{self.home}/e", None))
        self.logs.open(self.web)
        self.say(b"two\n")
        self.assertEqual(self.texts(), ["one", "two"])
        self.assertEqual([(each.start, each.end) for each in self.journal.marks(0, 9)], [(0, 4)])
        self.assertEqual(set(self.logs._by_path), {f"{self.home}/o", f"{self.home}/e"})
