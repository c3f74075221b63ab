"""The one sequence that every message id comes from [E3].

A number is ``epoch << 40 | counter``; the epoch is persisted and grows with each start of the daemon, so nothing has to
be written per message. As a string it has 16 hexadecimal digits, which sort like the numbers.

What is told before older messages are replayed has an id of two parts, ``CURSOR.OWN``: it sorts between what the
client had seen before, which is the cursor, and what it will see next. So it can go on from whichever it saw last.
"""

import re

from pmdaemon.errors import InvalidMessage

__all__ = ["Sequence", "aside", "id_of", "is_id", "seq_of"]

_COUNTER_BITS = 40
_DIGITS = 16
_ID = re.compile(r"([0-9a-f]{16})(?:\.[0-9a-f]{16})?")


class Sequence:
    """Gives out ids in order; ``last`` is the newest one given out."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch << _COUNTER_BITS

    def take(self, count: int = 1) -> int:
        """Return the first of *count* consecutive new numbers."""
        first = self.last + 1
        self.last += count
        return first


def id_of(seq: int) -> str:
    """Return the id on the wire."""
    return f"{seq:0{_DIGITS}x}"


def aside(cursor: int, own: str) -> str:
    """Return the id of a message that is told out of turn: behind *cursor*, before all that follows it."""
    return f"{id_of(cursor)}.{own}"


def is_id(text: str) -> bool:
    """Tell whether *text* has the form of an id."""
    return _ID.fullmatch(text) is not None


def seq_of(id_: str, last: int) -> int:
    """Return the number that an id of the wire goes on from, at most *last*. Raises InvalidMessage."""
    found = _ID.fullmatch(id_)
    seq = int(found[1], 16) if found else -1
    if not 0 <= seq <= last:
        raise InvalidMessage(
            "cannot resume: since is not the id of a message of this daemon",
            hint="send the id of the last message you received, or leave since out",
            details={"path": "data.since"},
        )
    return seq
