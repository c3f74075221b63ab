"""The commands waiting on one process: one after another, equal ones joined, some overtaking others [R3]."""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextvars import copy_context

from twisted.internet.defer import CancelledError, Deferred, fail
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
        self.context = copy_context()
        self.waiting: list[Deferred[None]] = []
        self.task: Deferred[None] | None = None
        self.refusal: OperationFailed | None = None

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
    """The pending orders on one process or one app; *name* is for the words of a refusal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._orders: deque[_Order] = deque()
        self._advancing = False
        self._closed: str | None = None

    @property
    def newest(self) -> str | None:
        """The action of the order that came last of those pending, or None where none is."""
        return self._orders[-1].action if self._orders else None

    def submit(self, action: str, key: Hashable, run: Callable[[], Awaitable[None]]) -> "Deferred[None]":
        """Queue an order and return a Deferred that fires when *run* has finished, or fails with its error.

        It runs in the context of this call. An order equal to the newest pending one (*action* and *key*) joins it.
        """
        if self._closed is not None:
            return fail(self._refusal(action, self._closed))
        overtaken = OVERTAKEN.get(action, frozenset())
        pointless = [each for each in self._orders if each.action in overtaken]
        order = self._orders[-1] if self._orders else None
        if order is None or order.refusal is not None or (order.action, order.key) != (action, key):
            order = _Order(action, key, run)
            self._orders.append(order)  # before anybody hears that he was overtaken, and orders something else
        done = order.join()
        self._withdraw(pointless, f"superseded by {action}", superseded_by=action)
        self._advance()
        return done

    def close(self, reason: str) -> None:
        """Refuse what is pending, what runs as soon as it lets go, and what comes from now on."""
        self._closed = reason
        self._withdraw(self._orders, reason)

    def _withdraw(self, orders: Iterable[_Order], reason: str, **details: str) -> None:
        """Refuse orders: those that wait first, so that the end of the one that runs does not start one of them."""
        withdrawn = [order for order in orders if order.refusal is None]
        for order in withdrawn:
            order.refusal = self._refusal(order.action, reason, **details)
        waiting = [order for order in withdrawn if order.task is None]
        for order in waiting:
            self._orders.remove(order)
        for order in waiting:
            order.finish(Failure(order.refusal))
        for order in withdrawn:
            if order.task is not None:
                order.task.cancel()

    def _refusal(self, action: str, reason: str, **details: str) -> OperationFailed:
        return OperationFailed(f"cannot {action} '{self._name}': {reason}", details=details)

    def _advance(self) -> None:
        """Run what is next; in a loop, since an order that is done at once makes way for the next one."""
        if self._advancing:
            return
        self._advancing = True
        while self._orders and self._orders[0].task is None:
            order = self._orders[0]
            order.task = order.context.run(Deferred.fromCoroutine, _awaited(order.run))
            order.task.addBoth(self._finished, order)
        self._advancing = False

    def _finished(self, result: Failure | None, order: _Order) -> None:
        self._orders.remove(order)
        if order.refusal is not None and isinstance(result, Failure) and result.check(CancelledError):
            result = Failure(order.refusal)
        self._advance()
        order.finish(result if isinstance(result, Failure) else None)


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()
