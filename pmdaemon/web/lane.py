"""Connections that are sent the same, each with one system call and next to nothing of Python.

With a thousand sockets it is what is touched of each that costs: beside the call itself mostly the way to memory that
no cache holds. So of a client that keeps up nothing is looked at but its socket's ``send``.
"""

from collections.abc import Callable, Iterable

from pmdaemon.web.outbox import Frame, Outbox, chunks

__all__ = ["Lane"]


class Lane:
    """Outboxes, of which those that are ``ready`` are sent to past all that is not their socket."""

    def __init__(self) -> None:
        self._ready: list[Outbox] = []
        self._sends: list[Callable[[bytes], int]] = []
        self._places: dict[Outbox, int] = {}
        self._others: dict[Outbox, None] = {}

    def __bool__(self) -> bool:
        return bool(self._places or self._others)

    def add(self, outbox: Outbox) -> None:
        """Send to *outbox* too."""
        self._others[outbox] = None
        outbox.waits = self._slow_down
        self._speed_up(outbox)

    def discard(self, outbox: Outbox) -> None:
        """Send to *outbox* no more, if it is one of these."""
        if outbox in self._places:
            self._slow_down(outbox)
        self._others.pop(outbox, None)

    def send(self, frames: Iterable[Frame]) -> None:
        """Send *frames* with as few writes to each as can be; who is behind is offered them one by one."""
        for chunk in chunks(frames):
            self._send(chunk, b"".join(each.data for each in chunk))

    def _send(self, chunk: list[Frame], blob: bytes) -> None:
        size, others = len(blob), list(self._others)
        behind = []
        for place, send in enumerate(self._sends):
            try:
                taken = send(blob)
            except OSError:  # full, or lost, which its transport will find out
                taken = 0
            if taken != size:
                behind.append((self._ready[place], taken))
        for outbox, taken in behind:
            outbox.rest(blob, taken)
        for outbox in others:
            if outbox.congested:
                outbox.offer(chunk)
            else:
                outbox.write(blob)
                self._speed_up(outbox)

    def _speed_up(self, outbox: Outbox) -> None:
        if outbox.ready and outbox.send_now is not None and outbox in self._others:
            del self._others[outbox]
            self._places[outbox] = len(self._ready)
            self._ready.append(outbox)
            self._sends.append(outbox.send_now)

    def _slow_down(self, outbox: Outbox) -> None:
        """Have the last one take its place."""
        place = self._places.pop(outbox, None)
        if place is None:
            return
        last, send = self._ready.pop(), self._sends.pop()
        if last is not outbox:
            self._ready[place], self._sends[place], self._places[last] = last, send, place
        self._others[outbox] = None
