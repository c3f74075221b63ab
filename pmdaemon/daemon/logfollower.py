"""Turns what was written to a log into lines, read back from the file soon after it was told of.

It reads only what it was told of, so it never meets half a write; a busy log is read in turns, so that it does not
keep the reactor from others.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pmdaemon.core.lines import Line, LineSplitter
from pmdaemon.daemon.logfile import LogFile

__all__ = ["PARTIAL_AFTER", "LogFollower"]

PARTIAL_AFTER = 0.25
"""Seconds that an unfinished line may wait for its rest before it is delivered as partial [P13]."""

_LEAST, _MOST = 4 * 1024, 256 * 1024
"""Bytes read in one turn."""
_LINES = 2000
"""Lines of one turn, about: each costs those who receive it far more than its bytes."""


class LogFollower:
    """Delivers the lines of one log, in order, in lists that are never empty.

    ``start`` is the offset of the first byte to read. Where it may lie inside a line, ``line_start`` says where that
    line began. What cannot be read is skipped: nothing is raised.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        file: LogFile,
        deliver: Callable[[list[Line]], None],
        start: int,
        line_start: int | None = None,
    ) -> None:
        self._clock = clock
        self._file = file
        self._deliver = deliver
        self._splitter = LineSplitter(start, line_start)
        self._end = start
        self._seams: deque[int] = deque()  # where a child's output ends that may lack the end of its last line
        self._size = _MOST
        self._turn: IDelayedCall | None = None
        self._rest_due: IDelayedCall | None = None
        self._stopped = self._failed = False

    @property
    def position(self) -> int:
        """The offset after the last byte that was read; an unfinished line before it may not be delivered yet."""
        return self._splitter.position

    def told(self, end: int) -> None:
        """Note that the file is written up to ``end``; less than before means that it was emptied and begins anew."""
        if self._stopped:
            return
        if end < self._end:
            self._splitter = LineSplitter(0)
            self._seams.clear()
        self._end = end
        self._schedule()

    def finish(self) -> None:
        """Deliver all that was told of, an unfinished last line as partial: the child is gone.

        What is more than a turn's is delivered in turns as before. What the next child writes may be told of meanwhile.
        """
        self._cancel()
        self._seams.append(self._end)
        if self.behind:
            self._deliver_some()
        else:
            self._send_rest(final=True)
            self._seams.clear()

    def stop(self) -> None:
        """Deliver nothing more, and forget what was told of."""
        self._stopped = True
        self._cancel()

    @property
    def behind(self) -> bool:
        """Whether it has been told of more than it has read."""
        return not self._stopped and self._splitter.position < self._end

    def _schedule(self) -> None:
        if self.behind:
            if self._turn is None:
                self._turn = self._clock.callLater(0, self._take_turn)
        elif self._splitter.pending and self._rest_due is None:
            self._rest_due = self._clock.callLater(PARTIAL_AFTER, self._rest_is_due)

    def _take_turn(self) -> None:
        self._turn = None
        self._deliver_some()

    def _deliver_some(self) -> None:
        lines = self._read()
        if lines and self._rest_due is not None:
            self._rest_due.reset(PARTIAL_AFTER)
        # First, as the receiver may raise, or stop this.
        self._schedule()
        if lines:
            self._deliver(lines)

    def _rest_is_due(self) -> None:
        self._rest_due = None
        if not self.behind:
            self._send_rest(final=False)

    def _send_rest(self, final: bool) -> None:
        rest = None if self._stopped else self._splitter.flush(final)
        if rest is not None:
            self._deliver([rest])

    def _read(self) -> list[Line]:
        start = self._splitter.position
        upto = self._seams[0] if self._seams else self._end
        size = min(upto - start, self._size)
        data, reason = b"", "it ends before that"
        try:
            data = self._file.read(start, start + size)
        except OSError as error:
            reason = str(error)
        if len(data) < size:
            self._skip(reason)
            return []
        lines = self._splitter.feed(data)
        self._size = max(_LEAST, min(_MOST, size * _LINES // max(1, len(lines))))
        while self._seams and self._seams[0] <= start + size:
            self._seams.popleft()
            rest = self._splitter.flush(True)
            lines += [] if rest is None else [rest]
        return lines

    def _skip(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self.log.error(
                "cannot read {path} from {start} to {end}: {reason}; its lines are not shown",
                path=self._file.path,
                start=self._splitter.position,
                end=self._end,
                reason=reason,
            )
        self._splitter = LineSplitter(self._end)
        self._seams.clear()

    def _cancel(self) -> None:
        for call in (self._turn, self._rest_due):
            if call is not None:
                call.cancel()
        self._turn = self._rest_due = None
