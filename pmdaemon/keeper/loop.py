"""The one thread of the keeper: waits for descriptors and times, and calls whoever asked for them."""

import os
import selectors
import signal
import time
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

__all__ = ["Loop", "Timer"]

Call = Callable[[], object]

_PAUSE = 0.005  # seconds between looks at the pipes while little comes, so that many lines are taken at once
_SIGNALS = 4096
_MUCH = 32 * 1024  # bytes, half a pipe: whoever prints so much in the time of a pause is not kept waiting
_PAGE = 4 * 1024  # bytes: less at once is not much, however often it comes


class Timer:
    """A call to come, unless it is cancelled."""

    def __init__(self, when: float, call: Call) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        """Do not call; also when it was called already."""
        self.cancelled = True


class Loop:
    """Calls what it is given, one after another; an exception of any goes through ``run``.

    ``pipes`` is a selector for those who read what children print: the data of a key is called when there is
    something, and returns how many bytes it took. ``last`` is called at the very end of each turn.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.running = True
        self.last: Call = _ignored
        self.pipes = selectors.DefaultSelector()
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._soon: list[Call] = []
        self._on_signal: dict[int, Call] = {}
        self._window_ends = float("-inf")
        self._much = 0
        self._busy = False
        self._listen_to_pipes()

    def watch(self, fd: int, call: Call, *, writing: bool = False) -> None:
        """Call whenever it can be read, or with ``writing`` also when it can be written to."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, call)
        else:
            self._selector.register(fd, events, call)

    def forget(self, fd: int) -> None:
        """Watch it no longer; to be called before it is closed."""
        self._selector.unregister(fd)

    def on_signal(self, number: int, call: Call) -> None:
        """Call when the process has got this signal."""
        if not self._on_signal:
            self._listen_to_signals()
        self._on_signal[number] = call
        signal.signal(number, _noted)

    def later(self, seconds: float, call: Call) -> Timer:
        """Call once, when so much time has passed."""
        timer = Timer(self.now() + seconds, call)
        heappush(self._timers, timer)
        return timer

    def soon(self, call: Call) -> None:
        """Call once, at the end of this turn, after all that has just happened."""
        self._soon.append(call)

    def run(self) -> None:
        """Go on until ``running`` is false."""
        while self.running:
            self.turn()

    def turn(self) -> None:
        """Wait until something happens, and deal with all that has."""
        for key, _ in self._selector.select(self._patience()):
            # One called before it may have closed it, and another have the number now.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        while self._timers and (self._timers[0].cancelled or self._timers[0].when <= self.now()):
            timer = heappop(self._timers)
            if not timer.cancelled:
                timer.call()
        while self._soon:
            calls, self._soon = self._soon, []
            for call in calls:
                call()
        self.last()

    def _patience(self) -> float | None:
        if self._soon:
            return 0
        if not self._timers:
            return None
        return max(0, self._timers[0].when - self.now())

    def _listen_to_signals(self) -> None:
        reading, writing = os.pipe()
        for fd in (reading, writing):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self.watch(reading, partial(self._heed_signals, reading))

    def _heed_signals(self, fd: int) -> None:
        for number in set(os.read(fd, _SIGNALS)):
            self._on_signal.get(number, _ignored)()

    def _listen_to_pipes(self) -> None:
        self._selector.register(self.pipes, selectors.EVENT_READ, self._read_pipes)

    def _read_pipes(self) -> None:
        most = max((key.data() or 0 for key, _ in self.pipes.select(0)), default=0)
        now = self.now()
        if now >= self._window_ends:
            self._busy = self._much >= _MUCH
            self._much, self._window_ends = 0, now + _PAUSE
        if most >= _PAGE:
            self._much += most
        # A look that follows another at once finds little, also of one who fills the pipe as fast as it is emptied.
        if not self._busy and self._much < _MUCH:
            self._selector.unregister(self.pipes)
            self.later(_PAUSE, self._listen_to_pipes)


def _noted(number: int, frame: object) -> None:
    """The number is in the pipe that the loop watches."""


def _ignored() -> None:
    """What is done about a signal that nobody asked for."""
