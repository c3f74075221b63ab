"""The commands waiting on one process: one after another, equal ones joined, some overtaking others [R3]."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pmdaemon.errors import OperationFailed

__all__ = ["OVERTAKEN", "OrderQueue"]

OVERTAKEN = {
    "stop": frozenset({"start", "restart", "reload"}),
    "restart": frozenset({"start", "reload"}),
    "delete": frozenset({"start", "restart", "reload"}),
}
"""Which pending orders an order makes pointless: they end with OPERATION_FAILED "superseded by"."""


class _Order:
    def __init__(self, action: str, key: Hashable, run: Callable[[], Awaitable[None]]) -> None:
        self.action = action
        self.key = key
        self.run = run
        self.waiting: list[Deferred[None]] = []
        self.task: Deferred[None] | None = None
        self.superseded_by: str | None = None

    def join(self) -> Deferred[None]:
        """Return a Deferred of one more caller; cancelling it leaves the order alone."""
        done: Deferred[None] = Deferred(lambda gone: self.waiting.remove(gone))
        self.waiting.append(done)
        return done

    def finish(self, result: Failure | None) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if result is None:
                each.callback(None)
            else:
                each.errback(result)


class OrderQueue:
    """One process's pending orders; *name* is for the words of a refusal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._orders: deque[_Order] = deque()

    @property
    def idle(self) -> bool:
        """True where nothing runs and nothing waits."""
        return not self._orders

    def submit(self, action: str, key: Hashable, run: Callable[[], Awaitable[None]]) -> "Deferred[None]":
        """Queue an order and return a Deferred that fires when *run* has finished, or fails with its error.

        An order equal to the newest pending one (same *action* and *key*) joins it.
        """
        self._supersede(action)
        if self._orders and (self._orders[-1].action, self._orders[-1].key) == (action, key):
            return self._orders[-1].join()
        order = _Order(action, key, run)
        done = order.join()
        self._orders.append(order)
        self._advance()
        return done

    def _supersede(self, action: str) -> None:
        overtaken = OVERTAKEN.get(action, frozenset())
        pending = [order for order in self._orders if order.action in overtaken]
        for order in pending:
            order.superseded_by = action
            if order.task is not None:
                order.task.cancel()
            else:
                self._orders.remove(order)
                order.finish(Failure(self._refusal(order)))

    def _refusal(self, order: _Order) -> OperationFailed:
        return OperationFailed(
            f"cannot {order.action} '{self._name}': superseded by {order.superseded_by}",
            details={"superseded_by": order.superseded_by},
        )

    def _advance(self) -> None:
        if not self._orders or self._orders[0].task is not None:
            return
        order = self._orders[0]
        order.task = Deferred.fromCoroutine(_awaited(order.run))
        order.task.addBoth(self._finished, order)

    def _finished(self, result: Failure | None, order: _Order) -> None:
        self._orders.remove(order)
        if order.superseded_by is not None and isinstance(result, Failure) and result.check(CancelledError):
            result = Failure(self._refusal(order))
        self._advance()
        order.finish(result if isinstance(result, Failure) else None)


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
