"""What a connection is sent before it goes live: the last lines it asked for, and all it missed since an id [S7], [S9].

It makes frames in order, a few at a time, and knows nothing of the connection: ``websocket`` sends them as fast as the
client takes them. It is done when it has told everything that was published, and until then nothing else tells it.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import merge

from msgspec import Struct

from pmdaemon.core.events import LogMessage
from pmdaemon.core.lines import LineSplitter, Stream, replay
from pmdaemon.core.logfilter import LogFilter
from pmdaemon.core.selection import Identity
from pmdaemon.daemon.backfill import Stretch
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.ids import aside, id_of
from pmdaemon.daemon.journal import Journal, LogMark, StoredEvent
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logs import Logs, message
from pmdaemon.daemon.logsearch import times_at
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.protocol.codec import encode
from pmdaemon.web.channels import Channel
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import CHUNK

__all__ = ["Archive", "CatchUp"]

_BATCH = 256
_TAIL_BYTES = 16 * 1024 * 1024
_FILTERED_TAIL_BYTES = 4 * 1024 * 1024
"""Bytes before a log's end within which last lines are looked for."""

Told = tuple[int, bytes]
"""A framed message and the number up to which everything was told with it."""


class Archive:
    """Where the past is read from."""

    def __init__(self, supervisor: Supervisor, logs: Logs, journal: Journal, bus: EventBus) -> None:
        self.supervisor = supervisor
        self.logs = logs
        self.journal = journal
        self.bus = bus

    def matching(self, channel: Channel) -> list[tuple[Process, Stream]]:
        """Return the logs of which the channel may want lines."""
        everyone = self.supervisor.select(None) if channel.streams else []
        wanted = [each for each in everyone if channel.wants(LogMessage.type, each)]
        return [(each, stream) for each in wanted for stream in channel.streams]

    def fill(self, channel: Channel, since: int) -> tuple[list[Stretch], bool]:
        """Have those lines published that the channel wants, are newer than *since* and were never published.

        Returns who publishes them, each until it is not ``behind`` any more, and False where that is not all of them.
        """
        filled = [self.logs.fill(process, stream, since) for process, stream in self.matching(channel)]
        return [filler for fillers, _ in filled for filler in fillers], all(whole for _, whole in filled)


class CatchUp:
    """One connection's way from the past into the present.

    *starts* says for each event type after which id it is told; ``tails`` are told before anything else, and replies in
    their place among the rest [P11]. The channel's logs are followed already, so that every line is either told here
    or published meanwhile. It is ``done`` once ``next`` has returned the last there was in that moment. ``size`` is
    what the replies take that wait, in bytes.
    """

    def __init__(self, archive: Archive, channel: Channel, starts: Mapping[str, int]) -> None:
        self._archive = archive
        self._channel = channel
        self._starts = dict(starts)
        self._at = min(starts.values(), default=archive.bus.last)
        self._replies: deque[Told] = deque()
        self.size = 0
        self._told = self._everything()
        self._tails: Iterator[bytes] = iter(())
        self.done = False

    def begin_with(self, count: int) -> None:
        """Tell the last *count* lines of each process's log first."""
        self._tails = self._last_lines(count)

    def go_on(self, other: "CatchUp", *, tails: bool) -> None:
        """Take over what *other* was to tell beside the past: replies, and with *tails* the rest of its last lines."""
        self._replies.extend(other._replies)
        self.size = other.size
        if tails:
            self._tails = other._tails

    def position(self, type_: str) -> int:
        """Return up to which id everything of an event type was told."""
        return max(self._at, self._starts.get(type_, 0))

    def reply(self, seq: int, framed: bytes) -> None:
        """Tell a reply, whose id has the number *seq*, behind all that was published before it."""
        self._replies.append((seq, framed))
        self.size += len(framed)

    def next(self) -> bytes:
        """Return the next frames, 64 KiB or little more at a time, or all that is left."""
        parts, size = [], 0
        for upto, framed in self._told:
            self._at = max(self._at, upto)
            parts.append(framed)
            size += len(framed)
            if size >= CHUNK:
                return b"".join(parts)
        self.done = True
        return b"".join(parts)

    def _everything(self) -> Iterator[Told]:
        for framed in self._tails:
            yield self._at, framed
        read = self._at
        while True:
            published = self._archive.bus.last
            rows = self._rows(read)
            for row in rows:
                yield from self._replies_before(row.seq)
                yield from self._row(row)
                read = _last(row)
            if not rows:
                if not self._replies:
                    return
                yield from self._replies_before(published + 1)

    def _replies_before(self, seq: int) -> Iterator[Told]:
        while self._replies and self._replies[0][0] < seq:
            upto, framed = self._replies.popleft()
            self.size -= len(framed)
            yield upto, framed

    # What was published

    def _rows(self, after: int) -> list[StoredEvent | LogMark]:
        """Return the next stretch of the journal, in order; nothing at its end."""
        journal = self._archive.journal
        events = journal.events(after, _BATCH) if self._starts.keys() - {LogMessage.type} else []
        marks = journal.marks(after, _BATCH) if LogMessage.type in self._starts else []
        rows: list[StoredEvent | LogMark] = sorted((*events, *marks), key=lambda row: row.seq)
        full = [found[-1].seq for found in (events, marks) if len(found) >= _BATCH]
        return [row for row in rows if row.seq <= min(full)] if full else rows

    def _row(self, row: StoredEvent | LogMark) -> Iterator[Told]:
        if isinstance(row, LogMark):
            yield from self._lines(row)
        elif self._starts.get(row.type, row.seq) < row.seq and self._channel.wants(row.type, row):
            yield row.seq, frame(row.body)

    def _lines(self, mark: LogMark) -> Iterator[Told]:
        process = self._archive.supervisor.processes.get(mark.process)
        stream = next((each for each in self._channel.streams if each == mark.stream), None)
        if process is None or stream is None:
            return
        who = _Then(process.id, process.name, process.app, process.instance, mark.namespace)
        if not self._channel.wants(LogMessage.type, who):
            return
        data = self._archive.logs.file(process, stream).read(mark.start, mark.end)
        if len(data) < mark.end - mark.start:  # deleted or emptied since it was told what is gone
            yield from self._missing(mark, who)
            return
        for seq, line in enumerate(replay(data, mark.start, mark.line), mark.seq):
            told = message(who, stream, line)
            if seq > self._starts[LogMessage.type] and self._channel.passes(told):
                yield seq, _framed(told, id_of(seq), mark.at)

    def _missing(self, mark: LogMark, who: Identity) -> Iterator[Told]:
        """Tell that lines are gone, whoever of them the client's filter would have let through."""
        first = max(mark.seq, self._starts[LogMessage.type] + 1)
        if first <= mark.last:
            data = {"process": who.name, "dropped": mark.last - first + 1}
            id_ = aside(first - 1, id_of(first))
            yield mark.last, frame(encode("log_gap", data, id=id_, at=self._archive.bus.now()))

    # The last lines

    def _last_lines(self, count: int) -> Iterator[bytes]:
        logs: dict[int, list[Stream]] = {}
        for process, stream in self._archive.matching(self._channel):
            logs.setdefault(process.id, []).append(stream)
        for id_, streams in logs.items():
            who = self._archive.supervisor.processes.get(id_)
            if who is None:  # deleted meanwhile
                continue
            told = merge(*(self._tail(who, stream, count) for stream in streams), key=lambda each: each[0])
            for at, line in list(told)[-count:]:
                own, _ = self._archive.bus.stamp()
                yield _framed(line, aside(self._at, own), at)

    def _tail(self, process: Process, stream: Stream, count: int) -> list[tuple[float, LogMessage]]:
        """Return the last lines of one log that were published or never will be, with their times."""
        file = self._archive.logs.file(process, stream)
        end = self._archive.logs.position(process, stream)
        end = file.end() if end is None else end
        start = self._tail_start(file, count, end)
        lines = (message(process, stream, line) for line in LineSplitter(start).feed(file.read(start, end)))
        last = [line for line in lines if self._channel.passes(line)][-count:]
        times = times_at(file, [line.offset for line in last])
        now = self._archive.bus.now()
        return [(now if at is None else at, line) for at, line in zip(times, last, strict=True)]

    def _tail_start(self, file: LogFile, count: int, end: int) -> int:
        """A filter may let few lines through, so then a longer stretch is searched."""
        want = self._channel.subscription.get(LogMessage.type)
        if want is None or want.lines == LogFilter():
            return max(file.tail_start(count), file.line_start(end - _TAIL_BYTES))
        return file.line_start(end - _FILTERED_TAIL_BYTES)


class _Then(Struct, frozen=True):
    """A process as it was when a line of its was published."""

    id: int
    name: str
    app: str
    instance: int
    namespace: str


def _framed(line: LogMessage, id_: str, at: float) -> bytes:
    return frame(encode(line.type, line, id=id_, at=at))


def _last(row: StoredEvent | LogMark) -> int:
    return row.last if isinstance(row, LogMark) else row.seq
