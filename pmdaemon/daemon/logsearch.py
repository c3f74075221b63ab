"""Looks through the logs of processes for lines, a bounded stretch at a time, merged by when they were written [R11].

A search goes from the newest line back, or from a time on; where it stopped, a cursor goes on. It reads files alone:
what was told of them to whom does not matter to it.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.lines import Line, LineSplitter, Stream, level_of, text_of
from pmdaemon.core.logfilter import LogFilter, Matcher
from pmdaemon.core.past import LogLine
from pmdaemon.core.times import rfc3339
from pmdaemon.daemon.log import STREAMS, Source
from pmdaemon.daemon.logfile import LogFile
from pmdaemon.errors import InvalidMessage, LimitExceeded, OperationFailed
from pmdaemon.keeper.identity import Owner

__all__ = ["MAX_SCAN", "LogPage", "LogQuery", "LogSearch", "times_at"]

MAX_SCAN = 16 * 1024 * 1024
"""Bytes of all logs together that are looked through for one page, or one block more."""

MAX_PROCESSES = 200

_BLOCK = 64 * 1024
_LONGEST = 16 * 1024 * 1024
_PLACE = re.compile(r"([0-9]{1,18})([oe])([0-9]{1,18})")
_LETTERS: Mapping[Stream, str] = {"stdout": "o", "stderr": "e"}

Places = Mapping[tuple[int, str], int]


class LogQuery(Struct, frozen=True, kw_only=True):
    """Which lines: ``lines`` at most that pass ``filter``, ``since`` unix seconds on, or else the last ones.

    ``cursor`` is that of an earlier page, and says all but the filter.
    """

    lines: int
    filter: LogFilter
    since: float | None = None
    cursor: str | None = None


class LogPage(Struct, frozen=True):
    """Lines, oldest first; with a ``cursor`` there may be more: older ones, or with ``since`` newer ones."""

    lines: list[LogLine]
    cursor: str | None


class _Found(Struct, frozen=True, gc=False):
    """A line; who does not take it goes on from ``resume`` to find it again."""

    entry: LogLine
    resume: int


class _Search:
    """One log and what was found in it, in the order of the search.

    ``keys`` are the times of what was found, counted in the direction of the search, so that they ascend even where
    the clock was set back; of one key the lines of the log with the lowest ``rank`` come first. ``sizes`` are the bytes
    of all up to each. ``frontier`` is the key of what comes next, None where nothing does.
    """

    def __init__(self, who: Source, stream: Stream, file: LogFile, *, rank: int, forward: bool) -> None:
        self.place = who.id, stream
        self.rank = rank
        self.file = file
        self.at = 0
        self.frontier: float | None = None
        self.found: list[_Found] = []
        self.keys: list[float] = []
        self.sizes: list[int] = []
        self._who = who
        self._stream: Stream = stream
        self._forward = forward

    def begin(self, place: int | None, since: float | None) -> None:
        """Go to a place of an earlier page, else to a time, else to the end."""
        if place is not None:
            self.at = min(place, self.file.end())
        else:
            self.at = self.file.end() if since is None else self.file.line_start(self.file.offset_at(since))
        self._look_ahead()

    def _look_ahead(self) -> None:
        base, end = self.file.base, self.file.end()
        self.at = max(self.at, base)
        if self.at >= end if self._forward else self.at <= base:
            self.frontier = None
        else:
            self.frontier = self._key(self.file.time_at(self.at if self._forward else self.at - 1))

    def _key(self, at: float | None) -> float:
        key = (at or 0.0) if self._forward else -(at or 0.0)
        return max(key, self.keys[-1]) if self.keys else key

    def advance(self, matches: Matcher, needle: bytes | None) -> int:
        """Look through the next block; return its size. What has no *needle* in it matches nowhere."""
        start, data = self._next_block() if self._forward else self._block_before()
        end = start + len(data)
        if needle is None or needle in data:
            self._take(_lines(start, data), end, matches)
        self.at = end if self._forward else start
        self._look_ahead()
        return len(data)

    def _next_block(self) -> tuple[int, bytes]:
        """Return whole lines from here on, and the last one however it ends."""
        data, cut, end = b"", 0, self.file.end()
        while not cut and self.at + len(data) < end and len(data) < _LONGEST:
            more = self.file.read(self.at + len(data), min(end, self.at + len(data) + _BLOCK))
            if not more:
                self.at = end  # it has just been deleted
                return end, b""
            data += more
            cut = data.rfind(b"\n") + 1
        return self.at, data[:cut] if cut else data

    def _block_before(self) -> tuple[int, bytes]:
        base = self.file.base
        start = max(base, self.file.line_start(max(base, self.at - _BLOCK)))
        data = self.file.read(start, self.at)
        return (start, data) if start + len(data) == self.at else (base, b"")

    def _take(self, lines: Sequence[Line], end: int, matches: Matcher) -> None:
        texts = [text_of(line) for line in lines]
        levels = [level_of(text, self._stream) for text in texts]
        chosen = [place for place, text in enumerate(texts) if matches(text, levels[place], self._stream)]
        times = dict(zip(chosen, times_at(self.file, [lines[place].offset for place in chosen]), strict=True))
        for place in chosen if self._forward else reversed(chosen):
            line, at = lines[place], times[place]
            entry = LogLine(
                process=self._who.name,
                stream=self._stream,
                offset=line.offset,
                at=None if at is None else rfc3339(at),
                level=levels[place],
                message=texts[place],
                partial=line.partial,
                truncated=line.truncated,
            )
            after = lines[place + 1].offset if place + 1 < len(lines) else end
            self.keys.append(self._key(at))
            self.found.append(_Found(entry, line.offset if self._forward else after))
            self.sizes.append((self.sizes[-1] if self.sizes else 0) + len(msgspec.json.encode(entry)) + 1)

    def ready(self, horizon: tuple[float, int]) -> tuple[int, int]:
        """Return how many lines, and how many bytes, were found up to *horizon*: a key, and a rank at that key."""
        key, rank = horizon
        count = bisect_right(self.keys, key) if self.rank <= rank else bisect_left(self.keys, key)
        return count, self.sizes[count - 1] if count else 0

    def rest(self, taken: int) -> int | None:
        """Return where to go on once that many were taken; None where nothing is left."""
        if taken < len(self.found):
            return self.found[taken].resume
        return None if self.frontier is None else self.at


class LogSearch:
    """Searches logs; *paths* tells where those of a process are, *owner* as whom each is read.

    It gives way to others after each 64 KiB.

    A page has at most *page* bytes of lines, or one line.
    """

    def __init__(
        self,
        clock: IReactorTime,
        paths: Callable[[Source], tuple[str, str, str | None]],
        owner: Callable[[Source, str], Owner | None] = lambda who, path: None,
        *,
        page: int,
    ) -> None:
        self._clock = clock
        self._paths = paths
        self._owner = owner
        self._page = page

    async def page(self, processes: Sequence[Source], query: LogQuery) -> LogPage:
        """Return one page of the lines of *processes*.

        Raises InvalidMessage, LimitExceeded for too many processes, OperationFailed where a log cannot be read.
        """
        matches = query.filter.matcher()
        if len(processes) > MAX_PROCESSES:
            raise LimitExceeded(
                f"cannot read the logs of {len(processes)} processes at once: at most {MAX_PROCESSES}",
                hint="name fewer of them",
                details={"limit": MAX_PROCESSES},
            )
        forward, places = (query.since is not None, None) if query.cursor is None else _read_cursor(query.cursor)
        searches = list(self._searches(processes, query.filter.stream, forward=forward, places=places))
        try:
            for each in searches:
                each.begin(None if places is None else places[each.place], query.since)
            horizon = await self._search(searches, query, matches)
            return self._merged(searches, horizon, query.lines, forward=forward)
        except OSError as why:
            raise OperationFailed(f"cannot read a log: {why.strerror}: {why.filename}") from why
        finally:
            for each in searches:
                each.file.close()

    def _searches(
        self, processes: Iterable[Source], only: str | None, *, forward: bool, places: Places | None
    ) -> Iterable[_Search]:
        number = 0
        for who in processes:
            # Where both streams go to one file, its lines are stdout's.
            paths: dict[str, Stream] = {}
            for path, stream in zip(self._paths(who), STREAMS, strict=False):
                paths.setdefault(str(path), stream)
            for path, stream in paths.items():
                wanted = only in (None, stream) and (places is None or (who.id, stream) in places)
                if wanted:
                    number += 1
                    file = LogFile(path, self._owner(who, path))
                    # Of one moment, what stderr says stands behind what stdout says.
                    yield _Search(who, stream, file, rank=number if forward else -number, forward=forward)

    async def _search(self, searches: Sequence[_Search], query: LogQuery, matches: Matcher) -> tuple[float, int]:
        """Look on where the next line may be, until there is enough; return up to where nothing can be missing."""
        needle, scanned = _needle(query.filter), 0
        while True:
            ahead = [each for each in searches if each.frontier is not None]
            horizon = min(((each.frontier or 0.0, each.rank) for each in ahead), default=(inf, 0))
            ready = [each.ready(horizon) for each in searches]
            enough = sum(lines for lines, _ in ready) >= query.lines or sum(size for _, size in ready) >= self._page
            if enough or not ahead or scanned >= MAX_SCAN:
                return horizon
            (nearest,) = (each for each in ahead if each.rank == horizon[1])
            scanned += nearest.advance(matches, needle)
            await self._give_way()

    def _give_way(self) -> "Deferred[None]":
        over: Deferred[None] = Deferred()
        self._clock.callLater(0, over.callback, None)
        return over

    def _merged(self, searches: Sequence[_Search], horizon: tuple[float, int], most: int, *, forward: bool) -> LogPage:
        found = sorted(
            (key, each.rank, place)
            for each in searches
            for place, key in enumerate(each.keys[: each.ready(horizon)[0]])
        )
        lines: list[LogLine] = []
        ranked, taken, size = {each.rank: each for each in searches}, {each.rank: 0 for each in searches}, 0
        for _, rank, place in found[:most]:
            search = ranked[rank]
            size += search.sizes[place] - (search.sizes[place - 1] if place else 0)
            if size > self._page and lines:
                break
            lines.append(search.found[place].entry)
            taken[rank] += 1
        left = {each.place: each.rest(taken[each.rank]) for each in searches}
        return LogPage(lines if forward else lines[::-1], _cursor(left, forward=forward))


def _lines(start: int, data: bytes) -> list[Line]:
    splitter = LineSplitter(start)
    lines = splitter.feed(data)
    rest = splitter.flush(final=True)
    return lines if rest is None else [*lines, rest]


def _needle(filter_: LogFilter) -> bytes | None:
    """Return bytes that are in every line that matches; None where there are none to be had."""
    text = filter_.grep
    # U+FFFD also stands for what is not UTF-8.
    if text is None or filter_.regex or "\ufffd" in text:
        return None
    return text.encode("utf-8", "surrogatepass")


def _cursor(left: Mapping[tuple[int, Stream], int | None], *, forward: bool) -> str | None:
    places = [f"{id_}{_LETTERS[stream]}{at}" for (id_, stream), at in left.items() if at is not None]
    return ("n" if forward else "p") + "-".join(places) if places else None


def _read_cursor(cursor: str) -> tuple[bool, Places]:
    found = [_PLACE.fullmatch(each) for each in cursor[1:].split("-")]
    if cursor[0] not in "np" or None in found:
        raise InvalidMessage(
            "cannot read the logs: cursor is not one of an earlier reply",
            hint="send the cursor of the reply before, or leave it out",
            details={"path": "data.cursor"},
        )
    streams = {letter: stream for stream, letter in _LETTERS.items()}
    return cursor[0] == "n", {(int(each[1]), streams[each[2]]): int(each[3]) for each in found if each is not None}


def times_at(file: LogFile, offsets: Sequence[int]) -> list[float | None]:
    """Return when the bytes at *offsets*, which ascend, were written; what came at once is asked for once."""
    if not offsets:
        return []
    first, last = file.time_at(offsets[0]), file.time_at(offsets[-1])
    if first == last or len(offsets) <= 2:
        return [first] * (len(offsets) - 1) + [last]
    half = len(offsets) // 2
    return times_at(file, offsets[:half]) + times_at(file, offsets[half:])
