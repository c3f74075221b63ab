"""How much others than the daemon's own user may ask for: connections, messages a second, wrong tokens.

The own user may do everything anyway, so is not slowed; everybody else is held to numbers, and so is our memory.
"""

import ipaddress
import math
import resource
from collections import Counter, OrderedDict, deque
from typing import Final

from twisted.internet.interfaces import IReactorTime

from pmdaemon.errors import RateLimited
from pmdaemon.web.peer import Peer
from pmdaemon.web.refusal import Refusal

__all__ = [
    "BURST",
    "FAILURES",
    "MAX_OTHERS",
    "MAX_PER_SOURCE",
    "MAX_UNKNOWN",
    "RATE",
    "RESERVED",
    "TOO_MANY_CONNECTIONS",
    "TOO_MANY_FAILURES",
    "Connections",
    "FailedLogins",
    "MessageRate",
    "Place",
    "Source",
    "raise_descriptor_limit",
    "source",
]

MAX_PER_SOURCE: Final = 64
"""Connections of one user or one address."""

MAX_UNKNOWN: Final = 16
"""Of these, those that have not been let in, or not yet."""

MAX_OTHERS: Final = 256
"""Connections of all who are not the own user."""

RESERVED: Final = 512
"""Descriptors that the own user's connections leave free: for others, for files, and for pipes to children."""

RATE: Final = 20.0
BURST: Final = 40
"""Messages of one connection: a second, and at once."""

PATIENCE: Final = 3
"""Messages beyond, one after another, at which the connection is closed."""

FAILURES: Final = 10
WINDOW: Final = 60.0
"""Wrong tokens of one source, and within how many seconds."""

MAX_SOURCES: Final = 1024
"""Sources whose wrong tokens are remembered."""

TOO_MANY_CONNECTIONS: Final = Refusal(
    429, "LIMIT_EXCEEDED", "cannot take another connection of yours", "close some, or connect as the daemon's user"
)
TOO_MANY_FAILURES: Final = Refusal(
    429,
    "RATE_LIMITED",
    f"cannot check another token of yours: {FAILURES} were wrong within {WINDOW:.0f} seconds",
    "try again in a minute",
)

Source = int | str
"""Who is held to a number: a user, or an address where the user is not known."""


def source(peer: Peer) -> Source:
    """Who ``peer`` counts as; the addresses of an IPv6 network of one customer count as one."""
    if peer.uid is not None:
        return peer.uid
    try:
        address = ipaddress.ip_address(peer.address.partition("%")[0])
    except ValueError:
        return peer.address
    plain = getattr(address, "ipv4_mapped", None) or address
    return str(plain) if plain.version == 4 else str(ipaddress.ip_network((plain, 64), strict=False))


class Connections:
    """Counts connections; ``own_limit`` is for those of the user ``own``."""

    def __init__(self, own: int, own_limit: int) -> None:
        self._own = own
        self._own_limit = own_limit
        self._held: Counter[Source] = Counter()
        self._unknown: Counter[Source] = Counter()

    def enter(self, peer: Peer) -> "Place | Refusal":
        """A place for a new connection, to be left at its end; or why there is none."""
        who = source(peer)
        if who == self._own:
            free = self._held[who] < self._own_limit
        else:
            others = self._held.total() - self._held[self._own]
            free = others < MAX_OTHERS and self._held[who] < MAX_PER_SOURCE and self._unknown[who] < MAX_UNKNOWN
        if not free:
            return TOO_MANY_CONNECTIONS
        self._held[who] += 1
        self._unknown[who] += 1
        return Place(self, who)

    def _known(self, who: Source) -> None:
        _less(self._unknown, who)

    def _left(self, who: Source) -> None:
        _less(self._held, who)


class Place:
    """The place that one connection takes up."""

    def __init__(self, connections: Connections, who: Source) -> None:
        self._connections = connections
        self._who = who
        self._unknown = True
        self._taken = True

    def let_in(self) -> None:
        """The connection has shown that it may be here."""
        if self._unknown:
            self._unknown = False
            self._connections._known(self._who)

    def leave(self) -> None:
        """The connection has ended."""
        self.let_in()
        if self._taken:
            self._taken = False
            self._connections._left(self._who)


class MessageRate:
    """How quick one connection may be: ``RATE`` messages a second, ``BURST`` at once."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._left = float(BURST)
        self._at = clock.seconds()
        self._beyond = 0

    @property
    def exhausted(self) -> bool:
        """Whether so many messages in a row were beyond it that the connection is to be closed."""
        return self._beyond >= PATIENCE

    def spend(self) -> None:
        """Count one message. Raises RateLimited, with ``retry_ms`` in its details, where it is beyond the rate."""
        now = self._clock.seconds()
        self._left = min(float(BURST), self._left + max(0.0, now - self._at) * RATE)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            self._beyond = 0
            return
        self._beyond += 1
        retry = math.ceil((1 - self._left) / RATE * 1000)
        raise RateLimited(
            f"cannot take more than {RATE:.0f} messages a second from you",
            hint=f"wait {retry} ms; the daemon's own user has no such limit",
            details={"retry_ms": retry},
        )


class FailedLogins:
    """Remembers wrong tokens, by who showed them."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: OrderedDict[Source, deque[float]] = OrderedDict()

    def refusal(self, who: Source) -> Refusal | None:
        """Why no token of ``who`` is looked at for now, right or wrong; or None."""
        failures = self._failures.get(who)
        if failures is None or len(failures) < FAILURES:
            return None
        return TOO_MANY_FAILURES if 0 <= self._clock.seconds() - failures[0] < WINDOW else None

    def failed(self, who: Source) -> None:
        """Count a wrong token."""
        self._failures.setdefault(who, deque(maxlen=FAILURES)).append(self._clock.seconds())
        self._failures.move_to_end(who)
        if len(self._failures) > MAX_SOURCES:
            self._failures.popitem(last=False)


def raise_descriptor_limit() -> tuple[int, int]:
    """Let this process have as many descriptors as it may; returns how many it had and has.

    Children inherit that; give them back what it had.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2**20) if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems have a lower limit that they do not tell
        return soft, soft
    return soft, wanted


def _less(counts: Counter[Source], who: Source) -> None:
    """Take one off, and forget who has none."""
    counts[who] -= 1
    if counts[who] <= 0:
        del counts[who]
