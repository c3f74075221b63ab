"""One connection's sending side: fast while the client reads, bounded while it does not [F1].

It sends frames and does not make them, and it decides that a connection is to be closed but not how.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from pmdaemon.web.backlog import Backlog, Frame, Kind
from pmdaemon.web.direct import is_clear, sender, tune, waiting
from pmdaemon.web.pool import Pool

__all__ = ["CLIENT_LIMIT", "Frame", "Kind", "Outbox", "Pool", "chunks"]

CLIENT_LIMIT: Final = 4 * 1024 * 1024
"""Bytes that may wait for one client."""

STALLED: Final = 120.0
"""Seconds after which a client that takes nothing is given up."""

LOOK: Final = 10.0
"""Seconds between two looks at whether a congested client has taken anything."""

CHUNK: Final = 64 * 1024
"""Bytes that are sent before looking again whether the client keeps up."""

TRY_AGAIN_LATER: Final = 1013
POLICY_VIOLATION: Final = 1008


@implementer(IPushProducer)
class Outbox:
    """Sends framed messages on *transport*, of which it becomes the producer.

    While the transport holds more than it should (``congested``), messages wait here by their ``Kind``. A client is
    given up by ``close(code, reason)`` with 1013 once more than *limit* bytes wait for it, or when it is the largest
    while those of all clients do not fit *pool*, and with 1008 once nothing of what waits was taken for 120 s.
    ``encode_gap(process, dropped, seq)`` frames the notice of lost log lines, ``seq`` being the number of the first.
    ``drained()`` is called whenever a congested client has caught up, and what waited has been sent. Once it was given
    up or stopped, it sends nothing and calls nothing.
    """

    def __init__(
        self,
        transport: Any,
        clock: IReactorTime,
        pool: Pool,
        *,
        encode_gap: Callable[[str, int, int], bytes],
        close: Callable[[int, str], None],
        drained: Callable[[], None] = lambda: None,
        limit: int = CLIENT_LIMIT,
    ) -> None:
        self._transport = transport
        self.send_now = sender(transport)
        """Sends at once, to be called while ``ready`` only; what the kernel does not take of it goes to ``rest``."""
        self._clock = clock
        self._pool = pool
        self._close = close
        self._drained = drained
        self._limit = limit
        self._backlog = Backlog(encode_gap)
        self._look: IDelayedCall | None = None
        self._waited = 0
        self._stalled = 0.0
        self.congested = False
        """Whether the client is behind, so that frames are to be offered one by one."""
        self.ready = False
        """Whether nothing waits, so that more can be sent at once."""
        self.waits: Callable[[Outbox], None] = _nobody_minds
        """Called when it is ``ready`` no more."""
        self.ended = False
        """Whether nothing is sent any more."""
        tune(transport)
        transport.unregisterProducer()  # the HTTP channel still is one, where it handed the transport over
        transport.registerProducer(self, True)

    @property
    def size(self) -> int:
        """Bytes of memory that wait to be sent."""
        return self._backlog.size + (waiting(self._transport) or 0)

    def write(self, blob: bytes) -> None:
        """Send whole frames, which are kept where they cannot be sent yet.

        This is the short way for a blob made once for many clients. One that is much larger than 64 KiB is better
        offered frame by frame, since all of it waits that the client does not take at once.
        """
        if self.ended:
            return
        if self.congested:
            self._backlog.add(Frame(Kind.KEPT, "", blob))
            self._account()
            return
        sent = 0
        if self.send_now is not None and (self.ready or is_clear(self._transport)):
            try:
                sent = self.send_now(blob)
            except OSError:  # full, or lost, which the transport will find out
                sent = 0
        if sent == len(blob):
            self.ready = True
        else:
            self.rest(blob, sent)

    def rest(self, blob: bytes, sent: int) -> None:
        """Send what the kernel did not take of ``blob``: all but the first ``sent`` bytes."""
        if self.ended:
            return
        self._wait()
        self._transport.write(blob[sent:] if sent else blob)
        self._account()

    def _wait(self) -> None:
        if self.ready:
            self.ready = False
            self.waits(self)

    def offer(self, frames: Iterable[Frame]) -> None:
        """Send as many of ``frames`` as the client takes; the others wait, or are dropped, by their kind."""
        rest = iter(frames)
        while not (self.congested or self.ended):
            chunk = next(chunks(rest), None)
            if chunk is None:
                return
            self.write(b"".join(each.data for each in chunk))
        for frame in rest:
            if self.ended:
                return
            self._backlog.add(frame)
            if self._backlog.size > self._limit:
                self._account()
        self._account()

    def stop(self) -> None:
        """Send nothing any more and free what waits; to be called when the connection is lost."""
        self.ended = True
        self._wait()
        self._backlog.clear()
        self._pool.release(self)
        self._look_no_more()

    def shed(self) -> bool:
        """Drop and count the log lines that wait, for want of memory; False where there are none."""
        return self._backlog.shed()

    def overflow(self) -> None:
        """Give the client up for want of memory."""
        self._give_up(TRY_AGAIN_LATER, "too slow: more messages wait than may")

    def pauseProducing(self) -> None:
        """Called by the transport whenever it is written to while it holds too much."""
        if self.congested or self.ended:
            return
        self.congested = True
        self._stalled = 0.0
        self._waited = waiting(self._transport) or 0
        self._look = self._clock.callLater(LOOK, self._look_for_progress)
        self._account()

    def resumeProducing(self) -> None:
        """Called by the transport when it holds nothing any more."""
        if not self.congested or self.ended:
            return
        self.congested = False
        self._look_no_more()
        # No more than the client takes: what the transport has can neither be dropped nor replaced any more.
        while not (self.congested or self.ended) and (told := self._backlog.take(CHUNK)):
            self.write(b"".join(told))
        self._account()
        if not (self.congested or self.ended):
            self._drained()

    def stopProducing(self) -> None:
        """Called by the transport when the connection is lost."""
        self.stop()

    def _account(self) -> None:
        if self.ended:
            return
        if self.size > self._limit:
            self.shed()
        if self.size > self._limit:
            self.overflow()
        else:
            self._pool.charge(self)

    def _look_for_progress(self) -> None:
        """Whatever leaves the transport was taken by the client, as far as can be seen from here."""
        waits = waiting(self._transport) or 0
        self._stalled = 0.0 if waits < self._waited else self._stalled + LOOK
        self._waited = waits
        self._look = self._clock.callLater(LOOK, self._look_for_progress)
        self._account()
        if self._stalled >= STALLED:
            self._give_up(POLICY_VIOLATION, f"too slow: nothing was read for {STALLED:.0f} s")

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _give_up(self, code: int, reason: str) -> None:
        if not self.ended:
            self.stop()
            self._close(code, reason)


def chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Take ``frames`` together up to 64 KiB, or little more, at a time."""
    taken: list[Frame] = []
    size = 0
    for frame in frames:
        taken.append(frame)
        size += len(frame.data)
        if size >= CHUNK:
            yield taken
            taken, size = [], 0
    if taken:
        yield taken


def _nobody_minds(outbox: Outbox) -> None:
    pass
