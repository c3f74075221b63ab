"""A link to a keeper that is not there: it keeps the orders, and a test answers them and tells facts."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from pmdaemon.daemon.keeperlink import Fact, KeeperError
from pmdaemon.keeper.table import boot

__all__ = ["FakeLink", "about"]

Message = dict[str, Any]


class FakeLink:
    """Given to `Keeping` as its link; ``orders`` are all that came, in order."""

    def __init__(self, fact: Callable[[Fact], None], again: Callable[[Fact], None]) -> None:
        self.tell = fact
        self._again = again
        self.orders: list[Message] = []
        self._open: dict[tuple[str, int], Deferred[Fact]] = {}
        self.left = ""

    def order(self, op: str, **fields: Any) -> "Deferred[Fact]":
        self.orders.append({"op": op, **fields})
        done: Deferred[Fact] = Deferred()
        self._open[fields["id"], fields["inc"]] = done
        return done

    def post(self, op: str, **fields: Any) -> None:
        self.orders.append({"op": op, **fields})

    def leave(self) -> None:
        self.left = "left"

    async def quit(self) -> None:
        self.left = "quit"

    def born(self, id_: str, inc: int, pid: int) -> None:
        """Answer a start."""
        self._open.pop((id_, inc)).callback({"ok": {"pid": pid, "start": 1, "at": 5.0}})

    def refuse(self, id_: str, inc: int, error: object) -> None:
        self._open.pop((id_, inc)).errback(KeeperError("the keeper refused", {"error": error}))

    def exit(self, id_: str, inc: int, status: int | None, at: float = 9.0, **end: int) -> None:
        self.tell(
            {"ev": "exit", "id": id_, "inc": inc, "pid": 1, "status": status, "how": "child", "at": at, "end": end}
        )

    def gone(self, id_: str, inc: int) -> None:
        self.tell({"ev": "gone", "id": id_, "inc": inc, "end": {}})

    def again(self, *kids: Message) -> None:
        """The connection was made anew."""
        self._again({"kids": list(kids)})

    def ops(self, *names: str) -> list[tuple[str, str, int]]:
        """The orders of these names, or all: what and to whom."""
        orders = [each for each in self.orders if "id" in each]
        return [(each["op"], each["id"], each["inc"]) for each in orders if not names or each["op"] in names]


def about(id_: str, inc: int, pid: int, **more: Any) -> Message:
    """What a keeper's state says of a child, that it lives unless *more* says otherwise."""
    status = more.pop("status", "alive")
    ended = status != "alive"
    exit_ = {"pid": pid, "status": status, "how": "child", "at": 9.0, "end": {}} if ended else None
    state = {
        "id": id_,
        "inc": inc,
        "pid": pid,
        "start": 1,
        "boot": boot(),
        "at": 5.0,
        "own": True,
        "born": True,
        "alive": not ended,
        "asked": None,
        "exit": exit_,
        "acked": False,
        "gone": ended,
        "logs": {},
        "copy": None,
        "trouble": None,
    }
    return {**state, **more}
