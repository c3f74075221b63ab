"""What a connection is sent before it goes live: the last lines it asked for, and all it missed since an id [S7], [S9].

It makes frames in order, a few at a time, and knows nothing of the connection: ``websocket`` sends them as fast as the
client takes them. It is done when it has told everything that was published, and until then nothing else tells it.
"""

from collections.abc import Iterator
from heapq import merge
from itertools import islice

from pmdaemon.core.events import JOURNALED, LogMessage
from pmdaemon.core.lines import Line, LineSplitter, Stream, replay
from pmdaemon.core.logfilter import LogFilter
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.ids import id_of
from pmdaemon.daemon.journal import Journal, LogMark, StoredEvent
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.daemon.logs import STREAMS, Logs, message
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.protocol.codec import encode
from pmdaemon.web.channels import Channel
from pmdaemon.web.frames import frame
from pmdaemon.web.outbox import Frame, Kind

__all__ = ["Archive", "CatchUp"]

_BATCH = 256
_TAIL_BYTES = 16 * 1024 * 1024
_FILTERED_TAIL_BYTES = 4 * 1024 * 1024
"""Bytes before a log's end within which last lines are looked for."""


class Archive:
    """Where the past is read from."""

    def __init__(self, supervisor: Supervisor, logs: Logs, journal: Journal, bus: EventBus) -> None:
        self.supervisor = supervisor
        self.logs = logs
        self.journal = journal
        self.bus = bus

    def matching(self, channel: Channel) -> list[tuple[Process, Stream]]:
        """Return the logs of which the channel may want lines."""
        everyone = self.supervisor.select(None)
        return [(each, stream) for each in everyone for stream in STREAMS if channel.wants_log(each, stream)]


class CatchUp:
    """One connection's way from the past into the present.

    *starts* says for each event type after which id it is told; *tail* is how many lines of each process's log come
    first. The channel's logs are followed already, so that every line is either told here or published meanwhile.
    """

    def __init__(self, archive: Archive, channel: Channel, starts: dict[str, int], tail: int | None) -> None:
        self._archive = archive
        self._channel = channel
        self._starts = starts
        self._cursor = min(starts.values())
        self._frames = self._tails(tail) if tail else iter(())

    @staticmethod
    def begin(archive: Archive, channel: Channel, since: int) -> None:
        """Have unpublished lines of the channel's logs published from where id *since* was given out on."""
        newest = archive.journal.newest_event(since)
        for process, stream in archive.matching(channel):
            file = archive.logs.file(process, stream)
            at = process.created_at if newest is None else newest.at
            written = file.line_start(file.offset_at(at - 1))
            mark = archive.journal.last_mark(process.id, stream)
            archive.logs.follow(process, stream, max(written, mark.end if mark is not None else 0))

    def next(self) -> list[Frame]:
        """Return the next frames, at least one, or none at all when everything was told."""
        frames = list(islice(self._frames, _BATCH))
        while not frames:
            batch = self._batch()
            if batch is None:
                return []
            self._frames = batch
            frames = list(islice(self._frames, _BATCH))
        return frames

    # The last lines

    def _tails(self, count: int) -> Iterator[Frame]:
        logs: dict[Process, list[Stream]] = {}
        for process, stream in self._archive.matching(self._channel):
            logs.setdefault(process, []).append(stream)
        for process, streams in logs.items():
            told = merge(*(self._tail(process, stream, count) for stream in streams), key=lambda each: each[0])
            for at, line in list(told)[-count:]:
                id_, _ = self._archive.bus.stamp()
                yield self._frame(line, id_, at)

    def _tail(self, process: Process, stream: Stream, count: int) -> list[tuple[float, LogMessage]]:
        """Return the last lines of one log that were published or never will be, with their times."""
        file = self._archive.logs.file(process, stream)
        end = self._archive.logs.position(process, stream)
        end = file.end() if end is None else end
        start = self._tail_start(file, count, end)
        lines = LineSplitter(start).feed(file.read(start, end))
        now = self._archive.bus.now()
        told = [(file.time_at(line.offset) or now, message(process, stream, line)) for line in lines]
        return [(at, line) for at, line in told if self._channel.passes(line)][-count:]

    def _tail_start(self, file: LogFile, count: int, end: int) -> int:
        """A filter may let few lines through, so then a longer stretch is searched."""
        want = self._channel.subscription.get(LogMessage.type)
        if want is None or want.lines == LogFilter():
            return max(file.tail_start(count), file.line_start(end - _TAIL_BYTES))
        return file.line_start(end - _FILTERED_TAIL_BYTES)

    # What was published

    def _batch(self) -> Iterator[Frame] | None:
        """Return frames of the next stretch of the journal, or None at its end."""
        journal = self._archive.journal
        events = journal.events(self._cursor, _BATCH)
        marks = journal.marks(self._cursor, _BATCH) if LogMessage.type in self._starts else []
        if not events and not marks:
            return None
        rows: list[StoredEvent | LogMark] = sorted((*events, *marks), key=lambda row: row.seq)
        full = [_last(found[-1]) for found in (events, marks) if len(found) >= _BATCH]
        upto = min(full, default=_last(rows[-1]))
        self._cursor, after = upto, self._cursor
        return self._told([row for row in rows if row.seq <= upto], after)

    def _told(self, rows: list[StoredEvent | LogMark], after: int) -> Iterator[Frame]:
        for row in rows:
            if isinstance(row, LogMark):
                yield from self._lines(row, max(after, self._starts[LogMessage.type]))
            elif self._starts.get(row.type, row.seq) < row.seq and self._channel.wants(row.type, row):
                yield Frame(Kind.KEPT, "", frame(row.body))

    def _lines(self, mark: LogMark, after: int) -> Iterator[Frame]:
        process = self._archive.supervisor.processes.get(mark.process)
        stream = next((each for each in STREAMS if each == mark.stream), None)
        if process is None or stream is None or not self._channel.wants_log(process, stream):
            return
        file = self._archive.logs.file(process, stream)
        for seq, line in enumerate(_pieces(file.read(mark.start, mark.end), mark), mark.seq):
            told = message(process, stream, line)
            if seq > after and self._channel.passes(told):
                yield self._frame(told, id_of(seq), mark.at)

    def _frame(self, line: LogMessage, id_: str, at: float) -> Frame:
        return Frame(Kind.LOG, line.process, frame(encode(line.type, line, id=id_, at=at)))


def _pieces(data: bytes, mark: LogMark) -> list[Line]:
    return replay(data, mark.start, mark.line)[: mark.pieces]


def _last(row: StoredEvent | LogMark) -> int:
    return row.seq + row.pieces - 1 if isinstance(row, LogMark) else row.seq


def replayed(types: dict[str, int]) -> dict[str, int]:
    """Return those of *types* that are kept at all: log lines and what the journal holds."""
    return {type_: seq for type_, seq in types.items() if type_ in JOURNALED or type_ == LogMessage.type}
