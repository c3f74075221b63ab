"""Processes that are made up, and counts of how often they were listed, opened and read."""

from collections.abc import Callable, Iterable

from pmdaemon.daemon.proctable import Stat, Usage

__all__ = ["FakeSource"]


class FakeStat:
    """One process of a `FakeSource`."""

    def __init__(self, source: "FakeSource", usage: Usage) -> None:
        self._source = source
        self.usage = usage

    def read(self) -> Usage | None:
        self._source.read.append(self.usage.pid)
        now = self._source.find(self.usage.pid)
        if now is None or now.start != self.usage.start:
            return None
        if now != self.usage:
            self.usage = now
        return self.usage

    def close(self) -> None:
        self._source.kept.remove(self)


class FakeSource:
    """Has the processes that *living* returns at the time; ``kept`` are those that are open."""

    def __init__(self, living: Callable[[], Iterable[Usage]]) -> None:
        self._living = living
        self._listed: set[tuple[int, float]] = set()
        self.listings = 0
        self.opened: list[int] = []
        self.read: list[int] = []
        self.kept: list[FakeStat] = []

    def find(self, pid: int) -> Usage | None:
        return next((usage for usage in self._living() if usage.pid == pid), None)

    def changes(self) -> tuple[list[int], list[int]]:
        self.listings += 1
        before, self._listed = self._listed, {(usage.pid, usage.start) for usage in self._living()}
        return [pid for pid, _ in self._listed - before], [pid for pid, _ in before - self._listed]

    def open(self, pid: int) -> Stat | None:
        usage = self.find(pid)
        if usage is None:
            return None
        self.opened.append(pid)
        self.kept.append(FakeStat(self, usage))
        return self.kept[-1]
