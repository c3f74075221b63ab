"""Every process's output: bytes into its log files, and lines read back from them for those who want them [P13].

What reads never sees the pipe: the writer tells which range of which file is new, and only that is read.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.events import Event, LogMessage
from pmdaemon.core.lines import Line, Stream, level_of, text_of
from pmdaemon.core.paths import numbered
from pmdaemon.core.selection import Identity, Selection
from pmdaemon.daemon.backfill import Backfill, Stretch
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.log import STREAMS, LineWatcher, Log, Source, Teller
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logfollower import LogFollower
from pmdaemon.daemon.openlogs import OpenLogs
from pmdaemon.keeper.identity import Owner, acting_as, owner_or_nobody, owner_there
from pmdaemon.keeper.layout import remove_log

__all__ = ["Logs", "message"]

_MAX_FILL = 64 * 1024 * 1024
"""Bytes before a log's end within which lines are published that nobody has followed."""

_ANYWHERE = 1 << 62


class Logs:
    """The logs under *directory* and wherever apps put theirs.

    ``wants`` tells whether anybody wants the lines of a stream of a process; nothing is read for nobody. With *writes*
    false somebody else writes the files, and ``grown`` tells how far they go.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bus: EventBus,
        journal: Journal,
        directory: Path,
        now: Callable[[], float],
        *,
        writes: bool = True,
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._journal = journal
        self._directory = directory
        self._since = now()
        self._logs: dict[int, dict[Stream, Log]] = {}
        self._open = OpenLogs(now, self._told, writes=writes)
        self._by_path: dict[str, list[Log]] = {}
        self._backfill = Backfill(clock)
        self.wants: Callable[[Identity, str], bool] = lambda who, stream: False

    def paths(self, who: Source) -> tuple[str, str, str | None]:
        """Return where stdout, stderr and, if asked for, both of them go."""
        out, err = (
            self._own(who, given) if given else str(self._directory / f"{who.name}-{suffix}.log")
            for given, suffix in ((who.spec.out_file, "out"), (who.spec.error_file, "err"))
        )
        both = who.spec.log_file
        return out, err, self._own(who, both) if both else None

    def _own(self, who: Source, path: str) -> str:
        """Give each of several instances a file of its own: a line's process is known by its file."""
        return path if who.name == who.app else numbered(path, who.instance)

    def owner(self, who: Source, path: str) -> Owner | None:
        """Return as whom a file of a process's is handled; None for ourselves, as in our own directory."""
        return owner_there(owner_or_nobody(who.spec.user, who.spec.group), path, str(self._directory))

    def _get(self, who: Source) -> dict[Stream, Log]:
        known = self._logs.get(who.id)
        return self._begin(who) if known is None else known

    def _begin(self, who: Source) -> dict[Stream, Log]:
        out, err, both = self.paths(who)
        logs = {
            stream: Log(who, stream, path, both, self.owner(who, path))
            for stream, path in zip(STREAMS, (out, err), strict=True)
        }
        self._logs[who.id] = logs
        for log in _readable(logs):
            self._by_path.setdefault(log.path, []).append(log)
            if who.created_at >= self._since:
                log.born = log.file.end()
                log.file.close()
        return logs

    # Writing

    def open(self, who: Source) -> None:
        """Open the logs of a process that is about to start. Raises OSError where a file cannot be opened."""
        logs = self._get(who)
        if self.paths(who) != (logs["stdout"].path, logs["stderr"].path, logs["stdout"].copy):
            self._drop(logs)
            logs = self._begin(who)
        for path in self._open.open(_targets(logs), partial(self.owner, who)):
            for log in self._by_path.get(path, ()):
                log.file.close()  # the path may name another file by now
                self._check_marks(log, log.file.end())
                if log.follower is None:
                    log.file.close()
        for log in logs.values():
            log.who = who
        self._follow_wanted(logs)

    def _check_marks(self, log: Log, end: int) -> None:
        """Forget all that was told of a log's bytes where these are gone: it has only *end* of them, all new ones."""
        log.end = end
        if self._journal.told(log.who.id, log.stream, end):
            self._journal.lose_marks(log.who.id, log.stream, _ANYWHERE)

    def write(self, who: Source, stream: Stream, data: bytes) -> None:
        """Append *data* as it came."""
        log = self._logs[who.id][stream]
        for path in dict.fromkeys((log.path, log.copy)):
            if path is not None:
                self._open.write(path, data)

    def grown(self, path: str, end: int) -> None:
        """Take it that the log at *path* goes to *end* now, at least: who writes it may tell so late."""
        for log in self._by_path.get(path, ()):
            if end > log.end:
                log.end = end
                if log.follower is not None:
                    log.follower.told(end)

    def reopen(self) -> list[str]:
        """Begin another file for each log that was moved away; return which cannot be, and why."""
        return self._open.reopen()

    def _told(self, path: str, start: int, end: int) -> None:
        for log in self._by_path.get(path, ()):
            if start < log.end:  # somebody has emptied the file
                self._check_marks(log, start)
            log.end = end
            if log.follower is not None:
                log.follower.told(end)

    def close(self, who: Source) -> None:
        """The process's child has ended: tell an unfinished last line, and close files nobody writes to any more."""
        logs = self._logs.get(who.id)
        if logs is None:
            return
        for log in logs.values():
            if log.follower is not None:
                log.follower.finish()
        self._open.close(_targets(logs))

    def forget(self, who: Source, *, purge: bool) -> None:
        """Follow the logs of a deleted process no longer; *purge* removes the files [R7]."""
        logs = self._get(who)
        self._drop(logs)
        del self._logs[who.id]
        if purge:
            for path in _targets(logs):
                with suppress(OSError), acting_as(self.owner(who, path)):
                    remove_log(path)

    def _drop(self, logs: dict[Stream, Log]) -> None:
        """Follow files no longer that are a process's no more; ids that were given to their lines mean nothing now."""
        for log in logs.values():
            self._stop(log)
            log.file.close()
            self._journal.forget_marks(log.who.id, log.stream)
        for log in _readable(logs):
            self._by_path[log.path].remove(log)
            if not self._by_path[log.path]:
                del self._by_path[log.path]

    # Reading back

    def file(self, who: Source, stream: Stream) -> LogFile:
        """Return the file that holds a process's *stream*, for reading."""
        return self._get(who)[stream].file

    def position(self, who: Source, stream: Stream) -> int | None:
        """Return up to which offset a log was read and its whole lines published; None while nobody follows it."""
        follower = self._get(who)[stream].follower
        return None if follower is None else follower.position

    def follow(self, selection: Selection, streams: Collection[str]) -> None:
        """Have the lines that are written from now on published of some streams of some processes.

        ``wants`` says the same by now; what it no longer says is let go of when next it is written to.
        """
        for logs in self._logs.values():
            idle = [log for log in _readable(logs) if log.stream in streams and not log.published]
            if idle and idle[0].who in selection:
                for log in idle:
                    self._follow(log)

    def _follow_wanted(self, logs: dict[Stream, Log]) -> None:
        for log in _readable(logs):
            if log.follower is None and (log.watchers or self.wants(log.who, log.stream)):
                self._follow(log)

    def _follow(self, log: Log) -> None:
        """Follow a log from its end, or from the start of an unfinished line, less what was told of that.

        Where its watchers have it followed already, it is followed anew from there.
        """
        end = log.file.end()
        log.end = max(log.end, end)  # who writes it may tell of that later
        known = end if log.follower is None else log.follower.position
        line = start = log.file.line_start(known)
        if line < known:
            start = max([line, *(upto for _, upto in self._journal.told(log.who.id, log.stream, line))])
        if log.follower is not None:
            log.follower.stop()
        log.follower = LogFollower(self._clock, log.file, partial(self._deliver, log), start, line)
        log.followed_from = start
        log.published = self.wants(log.who, log.stream)
        log.leave_at = None if log.published else start
        log.whole_since = self._bus.last + 1 if log.published else None
        if start < end:
            log.follower.told(end)

    def fill(self, who: Source, stream: Stream, since: int) -> tuple[list[Stretch], bool]:
        """Have those lines published that were written after id *since* was given out, and that nobody was told [S7].

        They take fresh ids, and so do all that are written from now on. Returns who publishes them, each until it is
        not ``behind`` any more, and whether that is all; False where there are more lines than can be.
        """
        log, whole = self._get(who)[stream], True
        if log in self._by_path[log.path]:
            if not log.published:
                self._follow(log)
            log.fillers = [filler for filler in log.fillers if filler.behind]
            self._journal.lose_marks(log.who.id, log.stream, log.file.base)
            if log.whole_since is None or since < log.whole_since:
                log.whole_since = since
                whole = self._fill_up(log, since)
        return list(log.fillers), whole

    def _fill_up(self, log: Log, since: int) -> bool:
        floor = log.file.line_start(max(0, log.followed_from - _MAX_FILL))
        untold = self._untold(log, since)
        for start, end in untold:
            if end > floor:
                publish = partial(self._publish, log)
                log.fillers.append(self._backfill.add(log.file, publish, max(start, floor), end))
        return not untold or untold[0][0] >= floor

    def _untold(self, log: Log, since: int) -> list[tuple[int, int]]:
        """Return the ranges of a log from the time of *since* on that were not published and are not followed."""
        at = self._bus.time_of(since)
        start = log.file.base if at is None else log.file.line_start(log.file.offset_at(at))
        start = max(start, log.file.offset_at(log.who.created_at) if log.born is None else log.born)
        start = max(start, self._journal.told_by(log.who.id, log.stream, since))  # times are known to 100 ms alone
        told = self._journal.told(log.who.id, log.stream, start)
        if since < self._journal.marks_pruned and told:
            start = told[0][0]  # what was published before this is not known any more
        ahead = [(filler.position, filler.end) for filler in log.fillers]
        untold = []
        for begin, end in sorted([*told, *ahead, (log.followed_from, log.followed_from)]):
            if begin > log.followed_from:
                break
            if start < begin:
                untold.append((start, begin))
            start = max(start, end)
        return untold

    def watch(self, who: Source, watcher: LineWatcher) -> None:
        """Show *watcher* all new lines of both streams until ``unwatch``."""
        logs = self._get(who)
        for log in logs.values():
            log.watchers.append(watcher)
        self._follow_wanted(logs)

    def unwatch(self, who: Source, watcher: LineWatcher) -> None:
        """Show *watcher* nothing more."""
        for log in self._get(who).values():
            if watcher in log.watchers:
                log.watchers.remove(watcher)

    def _deliver(self, log: Log, lines: list[Line]) -> None:
        for watcher in list(log.watchers):
            watcher(lines)
        if self.wants(log.who, log.stream):
            log.leave_at = None
        elif log.leave_at is None:
            log.leave_at = log.end
        if log.leave_at is None or lines[0].start < log.leave_at:
            self._publish(log, lines)
        if log.leave_at is not None and lines[-1].end >= log.leave_at:
            self._let_go(log)

    def _publish(self, log: Log, lines: list[Line]) -> None:
        events: list[Event] = [message(log.who, log.stream, line) for line in lines]
        first, last = lines[0], lines[-1]
        self._bus.publish_lines(events, log.who, stream=log.stream, start=first.start, end=last.end, line=first.offset)

    def _let_go(self, log: Log) -> None:
        """Follow a log no longer for anybody but its watchers."""
        log.published, log.whole_since = False, None
        if not log.watchers and log.follower is not None:
            log.follower.stop()
            log.follower = None

    def _stop(self, log: Log) -> None:
        for filler in log.fillers:
            filler.stop()
        log.fillers = []
        log.watchers = []
        self._let_go(log)

    def shut(self) -> None:
        """Stop reading and close everything."""
        self._backfill.stop()
        for logs in self._logs.values():
            for log in logs.values():
                self._stop(log)
                log.file.close()
        self._open.shut()


def _readable(logs: dict[Stream, Log]) -> list[Log]:
    """Return the logs that are read back: stdout's alone where both streams go to one file."""
    out, err = logs["stdout"], logs["stderr"]
    return [out] if out.path == err.path else [out, err]


def _targets(logs: dict[Stream, Log]) -> list[str]:
    """Return the files that a process writes to, each once."""
    paths = [path for log in logs.values() for path in (log.path, log.copy)]
    return list(dict.fromkeys(path for path in paths if path is not None))


def message(who: Teller, stream: Stream, line: Line) -> LogMessage:
    """Word one line."""
    text = text_of(line)
    return LogMessage(
        process=who.name,
        id=who.id,
        app=who.app,
        instance=who.instance,
        namespace=who.namespace,
        level=level_of(text, stream),
        message=text,
        stream=stream,
        offset=line.offset,
        partial=line.partial,
        truncated=line.truncated,
    )
