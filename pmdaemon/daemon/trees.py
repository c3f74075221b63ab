"""Process trees and what they use [P5], kept from one look to the next.

Who belongs to a tree is decided when a process is first seen: by its parent, or by its session. It then belongs to
that tree until it ends, whatever becomes of its parent. So a look lists the pids of the machine, examines newcomers
and reads the members; strangers cost nothing.
"""

from collections import deque
from collections.abc import Iterator, Mapping

from pmdaemon.core.samples import ProcessSample
from pmdaemon.daemon.proctable import Source, Stat, Usage

__all__ = ["SLICE", "Trees"]

SLICE = 100
"""Processes that are read in one step, which takes a millisecond."""

_ROUNDS = 4
"""How often a tree is read for none of it to end meanwhile; after that, who has just ended is taken as last seen."""


class _Tree:
    """The processes below one root, the root first and a parent before its children; *home* tells the tree of a pid."""

    def __init__(self, root: Stat, home: dict[int, "_Tree"]) -> None:
        self.members: dict[int, Stat] = {}
        self._home = home
        self._root = root.usage.pid
        self._before: dict[int, Usage] = {}
        self._ended = 0.0  # CPU of those that ended since
        self._lost = 0.0  # CPU of those that nobody waited for
        self._sample: ProcessSample | None = None
        self.add(root)

    def add(self, stat: Stat) -> None:
        """Take up a process that was first seen now."""
        self.members[stat.usage.pid] = stat
        self._home[stat.usage.pid] = self

    def read(self) -> ProcessSample | None:
        """Return what the tree has used; None when nothing of it is left.

        The CPU of a member that has ended is counted by its parent if that waited for it, and else here. To count it
        once, parents are read before their children, and all again when one of these was found to have ended.
        """
        for rounds_left in reversed(range(_ROUNDS)):
            now, gone = {}, []
            for pid, stat in self.members.items():
                if stat.read() is None:
                    gone.append(pid)
                now[pid] = stat.usage
            if not gone or not rounds_left:
                break
            for pid in gone:
                self.bury(pid)
        if self._ended or now != self._before:
            self._sum_up(now)
        return self._sample

    def bury(self, pid: int) -> None:
        """Forget a member that has ended, but for the CPU that it had used."""
        stat = self.members.pop(pid)
        stat.close()
        del self._home[pid]
        self._ended += stat.usage.own + stat.usage.waited

    def _sum_up(self, now: dict[int, Usage]) -> None:
        waited = sum(
            usage.waited - (self._before[pid].waited if pid in self._before else 0.0) for pid, usage in now.items()
        )
        self._lost += max(0.0, self._ended - waited)
        self._ended = 0.0
        self._before = now
        cpu = self._lost + sum(usage.own + usage.waited for usage in now.values())
        memory = sum(usage.rss for usage in now.values())
        self._sample = ProcessSample(self._root, cpu, memory) if now else None

    def close(self) -> None:
        """Let go of all members."""
        for pid in list(self.members):
            self.bury(pid)


class Trees:
    """The trees of the roots that are asked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._trees: dict[int, _Tree] = {}
        self._home: dict[int, _Tree] = {}
        self._strangers: dict[int, Usage] = {}
        self._newcomers: deque[int] = deque()
        self._fresh: dict[int, Usage] = {}  # strangers whose parents may come later in the same look

    def look(self, roots: Mapping[int, int], found: dict[int, ProcessSample]) -> Iterator[None]:
        """Put into *found* what the trees of *roots* use now, by the keys of these; whose root has gone is left out.

        It is done in steps, between which others may have their turn; no other look may begin before it is through.
        """
        for pid in self._trees.keys() - roots.values():
            self._fell(pid)
        if not roots:
            return
        yield from self._examine(set(roots.values()))
        count = 0
        for key, pid in roots.items():
            tree = self._trees.get(pid)
            if tree is None:
                continue
            count += len(tree.members)
            if count > SLICE:
                yield
                count = len(tree.members)
            sample = tree.read()
            if sample is not None:
                found[key] = sample

    def _examine(self, roots: set[int]) -> Iterator[None]:
        """Find the trees of newcomers, and the members of trees that are new."""
        if len(roots) > SLICE:
            yield  # the list alone takes some milliseconds
        came, went = self._source.changes()
        for pid in went:
            self._strangers.pop(pid, None)
        self._newcomers.extend(sorted(came))
        if len(roots) > SLICE:
            yield
        while self._newcomers:
            self._receive(self._newcomers.popleft(), roots)
            if len(self._newcomers) % SLICE == SLICE - 1:
                yield
        late = [pid for pid in roots - self._trees.keys() if pid in self._strangers]
        for count, pid in enumerate(late, 1):
            stat = self._open_again(self._strangers.pop(pid))
            if stat is not None:
                self._trees[pid] = _Tree(stat, self._home)
            if count % SLICE == 0:
                yield
        self._join(self._strangers if late else self._fresh)
        self._fresh = {}

    def _receive(self, pid: int, roots: set[int]) -> None:
        """Give a newcomer its place."""
        home = self._home.get(pid)
        if home is not None:
            if home.members[pid].read() is not None:
                return
            home.bury(pid)
        stat = self._source.open(pid)
        if stat is None:
            return
        if pid in roots:
            if pid in self._trees:
                self._fell(pid)
            self._trees[pid] = _Tree(stat, self._home)
        elif home := self._home_of(stat.usage):
            home.add(stat)
        else:
            stat.close()
            self._strangers[pid] = self._fresh[pid] = stat.usage

    def _join(self, strangers: dict[int, Usage]) -> None:
        """Have those of *strangers* join a tree whose parents, or whose parents' parents, did."""
        while joined := {pid: home for pid, usage in strangers.items() if (home := self._home_of(usage))}:
            for pid, home in joined.items():
                stat = self._open_again(strangers.pop(pid))
                self._strangers.pop(pid, None)
                if stat is not None:
                    home.add(stat)

    def _home_of(self, usage: Usage) -> _Tree | None:
        """The tree of a process by its parent or the leader of its session, neither of which can be younger."""
        for pid in (usage.ppid, usage.session):
            home = self._home.get(pid)
            if home is not None and home.members[pid].usage.start <= usage.start:
                return home
        return self._trees.get(usage.session)

    def _open_again(self, usage: Usage) -> Stat | None:
        """Open what was seen before; None when it has gone, whoever has its pid now."""
        stat = self._source.open(usage.pid)
        if stat is None or stat.usage.start == usage.start:
            return stat
        stat.close()
        return None

    def _fell(self, pid: int) -> None:
        """Let go of a tree whose root is none any more; what is left of it are strangers."""
        tree = self._trees.pop(pid)
        self._strangers.update((member, stat.usage) for member, stat in tree.members.items())
        tree.close()
