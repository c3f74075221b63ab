"""Every process's output: bytes into its log files, and lines read back from them for those who want them [P13].

What reads never sees the pipe: the writer tells which range of which file is new, and only that is read.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.events import Event, LogMessage
from pmdaemon.core.lines import Line, Stream, level_of, text_of
from pmdaemon.core.selection import Identity
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logfollower import LogFollower
from pmdaemon.daemon.logwriter import LogWriter

__all__ = ["STREAMS", "Logs", "Source", "message"]

STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")

LineWatcher = Callable[[list[Line]], None]


class Source(Identity, Protocol):
    """Whose output it is."""

    @property
    def instance(self) -> int: ...
    @property
    def spec(self) -> AppSpec: ...


class _Log:
    """One stream of one process: where it goes and who reads it back."""

    def __init__(self, who: Source, stream: Stream, path: str, copy: str | None) -> None:
        self.who = who
        self.stream = stream
        self.path = path
        self.copy = copy
        self.file = LogFile(path)
        self.follower: LogFollower | None = None
        self.watchers: list[LineWatcher] = []


class Logs:
    """The logs under *directory* and wherever apps put theirs."""

    def __init__(
        self, clock: IReactorTime, bus: EventBus, journal: Journal, directory: Path, now: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._journal = journal
        self._directory = directory
        self._now = now
        self._logs: dict[int, dict[Stream, _Log]] = {}
        self._writers: dict[str, LogWriter] = {}
        self._users: dict[str, int] = {}
        self._by_path: dict[str, list[_Log]] = {}
        self._wants: Callable[[Identity, str], bool] = lambda who, stream: False

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
        if who.name == who.app:
            return path
        root, suffix = os.path.splitext(path)
        return f"{root}-{who.instance}{suffix}"

    # Writing

    def open(self, who: Source) -> None:
        """Open the logs of a process that is about to start. Raises OSError where a file cannot be opened."""
        logs = self._get(who)
        opened: list[str] = []
        try:
            for path in _targets(logs):
                self._writer(path)
                opened.append(path)
        except OSError:
            self._release(opened)
            raise
        self.refresh(who)

    def _get(self, who: Source) -> dict[Stream, _Log]:
        out, err, both = self.paths(who)
        known = self._logs.get(who.id)
        if known is None or (known["stdout"].path, known["stderr"].path, known["stdout"].copy) != (out, err, both):
            if known is not None:
                self._drop(known)
            known = {stream: _Log(who, stream, path, both) for stream, path in zip(STREAMS, (out, err), strict=True)}
            self._logs[who.id] = known
            for log in list(known.values())[: 1 if out == err else 2]:
                self._by_path.setdefault(log.path, []).append(log)
        for log in known.values():
            log.who = who
        return known

    def _drop(self, logs: dict[Stream, _Log]) -> None:
        """Follow files no longer that are a process's no more; ids that were given to their lines mean nothing now."""
        for log in logs.values():
            self._stop(log)
            log.file.close()
            self._journal.forget_marks(log.who.id, log.stream)
            readers = self._by_path.get(log.path, [])
            if log in readers:
                readers.remove(log)
            if not readers:
                self._by_path.pop(log.path, None)

    def _writer(self, path: str) -> None:
        if path not in self._writers:
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writers[path] = LogWriter(path, now=self._now, told=self._told)
        self._users[path] = self._users.get(path, 0) + 1

    def write(self, who: Source, stream: Stream, data: bytes) -> None:
        """Append *data* as it came."""
        log = self._logs[who.id][stream]
        for path in (log.path, log.copy):
            if path is not None and path in self._writers:
                self._writers[path].append(data)

    def close(self, who: Source) -> None:
        """The process's child has ended: tell an unfinished last line, and close files nobody writes to any more."""
        logs = self._logs.get(who.id)
        if logs is None:
            return
        for log in logs.values():
            if log.follower is not None:
                log.follower.finish()
        self._release(_targets(logs))

    def _release(self, paths: list[str]) -> None:
        for path in paths:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path]
                self._writers.pop(path).close()

    def forget(self, who: Source, *, purge: bool) -> None:
        """Follow the logs of a deleted process no longer; *purge* removes the files [R7]."""
        logs = self._get(who)
        del self._logs[who.id]
        self._drop(logs)
        if purge:
            for path in _targets(logs):
                for file in (path, path + ".idx"):
                    with suppress(OSError):
                        os.unlink(file)

    # Reading back

    def file(self, who: Source, stream: Stream) -> LogFile:
        """Return the file that holds a process's *stream*, for reading."""
        return self._get(who)[stream].file

    def wanted(self, wants: Callable[[Identity, str], bool]) -> None:
        """Set who is listened to from now on: *wants* tells whether anybody wants a stream of a process."""
        self._wants = wants
        for logs in list(self._logs.values()):
            self.refresh(logs["stdout"].who)

    def refresh(self, who: Source) -> None:
        """Follow those logs of a process that somebody wants, from their last line's start, and no others."""
        for log in self._get(who).values():
            read = log in self._by_path[log.path]
            wanted = read and (bool(log.watchers) or self._wants(who, log.stream))
            if wanted and log.follower is None:
                self.follow(who, log.stream, log.file.line_start(log.file.end()))
            elif not wanted:
                self._stop(log)

    def position(self, who: Source, stream: Stream) -> int | None:
        """Return up to which offset a log was read and its whole lines published; None while nobody follows it."""
        follower = self._get(who)[stream].follower
        return None if follower is None else follower.position

    def follow(self, who: Source, stream: Stream, start: int) -> None:
        """Publish the lines of a log from offset *start* on, unless it is followed already."""
        log = self._get(who)[stream]
        if log.follower is None:
            log.follower = LogFollower(
                self._clock, log.file, partial(self._deliver, log), start, log.file.line_start(start)
            )
            end = log.file.end()
            if end > start:
                log.follower.told(end)

    def watch(self, who: Source, watcher: LineWatcher) -> None:
        """Show *watcher* all new lines of both streams until ``unwatch``."""
        for log in self._get(who).values():
            log.watchers.append(watcher)
        self.refresh(who)

    def unwatch(self, who: Source, watcher: LineWatcher) -> None:
        """Show *watcher* nothing more."""
        for log in self._get(who).values():
            if watcher in log.watchers:
                log.watchers.remove(watcher)
        self.refresh(who)

    def _told(self, path: str, start: int, end: int) -> None:
        for log in self._by_path.get(path, ()):
            if log.follower is not None:
                log.follower.told(end)

    def _deliver(self, log: _Log, lines: list[Line]) -> None:
        for watcher in list(log.watchers):
            watcher(lines)
        if self._wants(log.who, log.stream):
            events: list[Event] = [message(log.who, log.stream, line) for line in lines]
            first, last = lines[0], lines[-1]
            self._bus.publish_lines(
                events, log.who, stream=log.stream, start=first.start, end=last.end, line=first.offset
            )

    def _stop(self, log: _Log) -> None:
        if log.follower is not None:
            log.follower.stop()
            log.follower = None

    def shut(self) -> None:
        """Stop reading and close everything."""
        for logs in self._logs.values():
            for log in logs.values():
                self._stop(log)
                log.file.close()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._users.clear()


def _targets(logs: dict[Stream, _Log]) -> list[str]:
    """Return the files that a process writes to, each once."""
    paths = [path for log in logs.values() for path in (log.path, log.copy)]
    return list(dict.fromkeys(path for path in paths if path is not None))


def message(who: Source, stream: Stream, line: Line) -> LogMessage:
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
