"""The event bus: stamps each event once with id and time, journals it, and hands it to whoever listens.

What was published in one reactor turn leaves together: first the journal is committed, then the sinks are flushed.
Where that takes long, as it does with many clients, a turn is drawn out to a millisecond or two: what comes meanwhile
leaves with it, at hardly more cost.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pmdaemon.core.events import JOURNALED, Event
from pmdaemon.core.selection import Identity
from pmdaemon.daemon.ids import Sequence, id_of
from pmdaemon.daemon.journal import Journal, LogMark

__all__ = ["EventBus", "Message", "Sink"]

_CHEAP = 0.0002
"""Seconds that a flush may take without the next one having to wait."""

_LEAST, _MOST = 0.001, 0.002
"""Seconds from the end of one flush to the next where they take longer than that."""

_SPACING = 0.1
_MAX_TIMES = 20_000


class Message:
    """One published event; ``payload`` is its JSON, made once however many clients get it."""

    __slots__ = ("_encode", "_payload", "at", "event", "seq", "who")

    def __init__(
        self, seq: int, at: float, event: Event, who: Identity, encode: Callable[[Event, str, float], bytes]
    ) -> None:
        self.seq = seq
        self.at = at
        self.event = event
        self.who = who
        self._encode = encode
        self._payload: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The whole message as JSON."""
        if self._payload is None:
            self._payload = self._encode(self.event, id_of(self.seq), self.at)
        return self._payload


class Sink(Protocol):
    """Who listens to the bus."""

    def offer(self, message: Message) -> None:
        """Take one message; it is to be sent at the next ``flush``."""

    def flush(self) -> None:
        """Send what was offered since the last call."""


class EventBus:
    """Publishes to the journal and the sinks; one that fails does not keep the others from hearing it.

    *now* gives unix seconds; *commit* makes the journal last; *encode* words an event with its id and time.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        now: Callable[[], float],
        sequence: Sequence,
        journal: Journal,
        commit: Callable[[], None],
        encode: Callable[[Event, str, float], bytes],
    ) -> None:
        self._clock = clock
        self._now = now
        self._sequence = sequence
        self._journal = journal
        self._commit = commit
        self._encode = encode
        self._sinks: list[Sink] = []
        self._due = False
        self._waits = False
        self._took = 0.0
        self._flushed = 0.0
        self._as_of: float | None = None
        self._seqs: list[int] = []
        self._times: list[float] = []

    def add(self, sink: Sink) -> None:
        """Let *sink* hear everything published from now on."""
        self._sinks.append(sink)

    def stamp(self) -> tuple[str, float]:
        """Return a new message id and the present time, for a reply."""
        seq, at = self._take()
        return id_of(seq), at

    def now(self) -> float:
        """Return the present time in unix seconds, as events are stamped with it."""
        return self._now()

    @property
    def last(self) -> int:
        """The newest number of the sequence that was given out."""
        return self._sequence.last

    def _take(self, count: int = 1) -> tuple[int, float]:
        first, at = self._sequence.take(count), self._now()
        if not self._times or abs(at - self._times[-1]) >= _SPACING:
            self._seqs.append(first)
            self._times.append(at)
            if len(self._seqs) > _MAX_TIMES:
                del self._seqs[: _MAX_TIMES // 2], self._times[: _MAX_TIMES // 2]
        return first, at

    def time_of(self, seq: int) -> float | None:
        """Return when *seq* was given out, unix seconds: never later than that, and mostly at most 100 ms earlier.

        None where nothing of that time is known any more.
        """
        place = bisect_right(self._seqs, seq)
        return self._times[place - 1] if place else self._journal.time_of(seq)

    def as_of(self, at: float, tell: Callable[[], None]) -> None:
        """Run *tell* with what it publishes stamped with time *at*, unix seconds: it happened then."""
        self._as_of = at
        try:
            tell()
        finally:
            self._as_of = None

    def publish(self, event: Event, who: Identity) -> None:
        """Tell *event* about *who*; it leaves at the end of the turn, or at the next ``flush`` if that is sooner."""
        seq, at = self._take()
        at = at if self._as_of is None else self._as_of
        message = Message(seq, at, event, who, self._encode)
        if event.type in JOURNALED:
            self._journal.add(seq, at, event.type, who, message.payload)
        self._offer(message)
        self.soon()

    def publish_lines(
        self, events: list[Event], who: Identity, *, stream: str, start: int, end: int, line: int
    ) -> None:
        """Tell log lines that were read from bytes *start* to *end* of one log, with consecutive ids.

        *line* is where the line of the first one starts, which may be before *start*.
        """
        first, at = self._take(len(events))
        self._journal.mark(LogMark(first, len(events), who.id, who.namespace, stream, start, end, line, at))
        for seq, event in enumerate(events, first):
            self._offer(Message(seq, at, event, who, self._encode))
        self.soon()

    def _offer(self, message: Message) -> None:
        self._waits = True
        for sink in self._sinks:
            try:
                sink.offer(message)
            except Exception:  # whoever published must go on, or a process would stay half way into its next state
                self._log.failure("cannot pass on {type}", type=message.event.type)

    def soon(self) -> None:
        """See to it that what was written or published is flushed: at the end of this turn, or of a longer one."""
        if not self._due:
            self._due = True
            self._clock.callLater(self._pause(), self._flush_due)

    def _pause(self) -> float:
        """Seconds to wait for more to come: as long as the last flush took, within bounds, counted from its end."""
        if self._took < _CHEAP:
            return 0.0
        pause = min(max(self._took, _LEAST), _MOST)
        return max(0.0, self._flushed + pause - self._clock.seconds())

    def _flush_due(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Commit and send everything published so far, now: a reply that follows is not ahead of its events [P11]."""
        self._commit()
        begun = self._clock.seconds()
        for sink in self._sinks:
            try:
                sink.flush()
            except Exception:  # a reply is to be sent all the same
                self._log.failure("cannot send what was published")
        if self._waits:
            self._waits = False
            self._flushed = self._clock.seconds()
            self._took = self._flushed - begun
