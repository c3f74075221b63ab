"""The one sequence that every message id comes from [E3].

A number is ``epoch << 40 | counter``; the epoch is persisted and grows with each start of the daemon, so nothing has to
be written per message. As a string it has 16 hexadecimal digits, which sort like the numbers.
"""

from pmdaemon.errors import InvalidMessage

__all__ = ["Sequence", "id_of", "seq_of"]

_COUNTER_BITS = 40
_DIGITS = 16


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


def seq_of(id_: str) -> int:
    """Read an id of the wire back. Raises InvalidMessage where it is not one."""
    try:
        if len(id_) != _DIGITS:
            raise ValueError
        seq = int(id_, 16)
        if id_of(seq) != id_:
            raise ValueError
    except ValueError:
        raise InvalidMessage(
            "cannot resume: since is not the id of a message of this daemon",
            hint="send the id of the last message you received, or leave since out",
            details={"path": "data.since"},
        ) from None
    return seq
