"""What the keeper knows of one child, from its birth until nobody has to hear of it any more."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pmdaemon.keeper.journal import Record
from pmdaemon.keeper.table import Mark
from pmdaemon.keeper.wire import LogOrder, Message, Spawn

if TYPE_CHECKING:
    from pmdaemon.keeper.outlets import Outlets

__all__ = ["Key", "Kid", "remember"]

Key = tuple[str, int]


class Kid:
    """One child; ``key`` is its id and its incarnation.

    ``start`` tells it from a later process with its pid, within ``boot``. It is ``own`` if the keeper is its parent,
    and was ``seen`` if this keeper, not only one before it, knew it alive. ``exit`` is what the daemon is told of its
    end, None until then. ``asked`` is the last signal meant to stop it. ``known`` are those of its tree that were
    there when it was asked, each with whether it has had that signal. ``settle`` is there while it is not known whether
    it has become its program, and finds out. ``note`` is the daemon's.
    """

    def __init__(
        self,
        key: Key,
        *,
        logs: dict[int, LogOrder],
        copy: str | None,
        on_full: str,
        cookie: Mark,
        brand: int | None,
        cgroup: str | None,
        note: str | None = None,
    ) -> None:
        self.key = key
        self.logs = logs
        self.copy = copy
        self.on_full = on_full
        self.cookie = cookie
        self.brand = brand
        self.cgroup = cgroup
        self.note = note
        self.pid = self.start = 0
        self.boot = ""
        self.at = 0.0
        self.own = self.seen = True
        self.exit: Message | None = None
        self.asked: int | None = None
        self.known: dict[tuple[int, int], bool] = {}
        self.acked = False
        self.gone = False
        self.outlets: Outlets | None = None
        self.settle: Callable[[], None] | None = None

    @classmethod
    def of(cls, order: Spawn, *, brand: int | None, cgroup: str | None) -> "Kid":
        """One that is about to be born as ordered."""
        return cls(
            order.key,
            logs=order.logs,
            copy=order.copy,
            on_full=order.on_full,
            cookie=order.cookie,
            brand=brand,
            cgroup=cgroup,
            note=order.note,
        )

    @property
    def name(self) -> str:
        """A file name for what belongs to it alone."""
        return f"{self.key[0]}.{self.key[1]}"

    @property
    def alive(self) -> bool:
        """Whether its first process has not ended, as far as is known."""
        return self.exit is None

    @property
    def marks(self) -> list[Mark]:
        """What all of its tree bear, unless they have got rid of it."""
        return [self.cookie] if self.brand is None else [self.cookie, ("brand", str(self.brand))]

    def about(self, kind: str, **facts: Any) -> Record:
        """A record about it, for the journal."""
        return {"op": kind, "id": self.key[0], "inc": self.key[1], **facts}

    def told(self, kind: str, **facts: Any) -> Message:
        """An event about it, for the daemon."""
        return {"ev": kind, "id": self.key[0], "inc": self.key[1], **facts}

    def records(self) -> Iterable[Record]:
        """All that a later keeper must know of it."""
        yield self.birth()
        if self.asked is not None:
            yield self.stop()
        if self.exit is not None:
            yield self.about("exit", **self.exit)
        for kind in ("acked", "gone"):
            if getattr(self, kind):
                yield self.about(kind)

    def birth(self) -> Record:
        """The record of its birth."""
        logs = {str(fd): {"path": log.path, **log.limits} for fd, log in self.logs.items()}
        return self.about(
            "spawn",
            pid=self.pid,
            start=self.start,
            boot=self.boot,
            at=self.at,
            logs=logs,
            copy=self.copy,
            on_full=self.on_full,
            cookie=self.cookie,
            brand=self.brand,
            cgroup=self.cgroup,
            note=self.note,
        )

    def stop(self) -> Record:
        """The record of the last stop signal, and of who had it."""
        known = [[pid, start, had] for (pid, start), had in self.known.items()]
        return self.about("stop", sig=self.asked, known=known)


def remember(records: Iterable[Record]) -> dict[Key, Kid]:
    """Return the children that these tell of. What is told twice counts once, of what is not understood nothing."""
    kids: dict[Key, Kid] = {}
    for record in records:
        try:
            _remember(kids, record)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return kids


def _remember(kids: dict[Key, Kid], record: Record) -> None:
    key, kind = (record["id"], record["inc"]), record["op"]
    if kind == "spawn":
        kids.setdefault(key, _born(key, record))
    elif kind == "forgotten":
        kids.pop(key, None)
    elif kind == "stop":
        kids[key].asked = record["sig"]
        kids[key].known = {(pid, start): had for pid, start, had in record["known"]}
    elif kind == "limits":
        order = kids[key].logs[record["fd"]]
        kids[key].logs[record["fd"]] = LogOrder(order.path, record["limits"])
    elif kind == "exit" and kids[key].exit is None:
        kids[key].exit = {name: record[name] for name in ("pid", "status", "how", "at", "end")}
    elif kind in ("acked", "gone"):
        setattr(kids[key], kind, True)


def _born(key: Key, record: Record) -> Kid:
    logs = {int(fd): _log(log) for fd, log in record["logs"].items()}
    name, value = record["cookie"]
    kid = Kid(
        key,
        logs=logs,
        copy=record["copy"],
        on_full=record["on_full"],
        cookie=(name, value),
        brand=record["brand"],
        cgroup=record["cgroup"],
        note=record.get("note"),
    )
    kid.pid, kid.start, kid.boot, kid.at = (record[name] for name in ("pid", "start", "boot", "at"))
    return kid


def _log(log: Message) -> LogOrder:
    return LogOrder(log["path"], {name: value for name, value in log.items() if name != "path"})
