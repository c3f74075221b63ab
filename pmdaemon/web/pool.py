"""The memory that all clients' unsent messages may take together [F1]."""

from typing import Final, Protocol

__all__ = ["POOL_LIMIT", "Member", "Pool"]

POOL_LIMIT: Final = 128 * 1024 * 1024
"""Bytes."""


class Member(Protocol):
    """One who takes memory of the pool."""

    @property
    def size(self) -> int:
        """Bytes taken now."""

    def shed(self) -> bool:
        """Called where there is no room for all of this member: let go of what may be lost; False if nothing may."""

    def overflow(self) -> None:
        """Called where there is no room for this member; it is not one any more."""


class Pool:
    """Adds up what its members take; while that is more than ``limit`` bytes, the largest has to shed, then to go."""

    def __init__(self, limit: int = POOL_LIMIT) -> None:
        self._limit = limit
        self._charged: dict[Member, int] = {}
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes, as last charged: what members have freed since may be in it."""
        return self._total

    def charge(self, member: Member) -> None:
        """Take note of the size of ``member``, which may thereby lose its place."""
        size = member.size
        self._total += size - self._charged.get(member, 0)
        self._charged[member] = size
        if self._total > self._limit:
            self._make_room()

    def release(self, member: Member) -> None:
        """Forget ``member``, if it is one."""
        self._total -= self._charged.pop(member, 0)

    def _make_room(self) -> None:
        self._charged = {member: member.size for member in self._charged}
        self._total = sum(self._charged.values())
        while self._total > self._limit:
            largest = max(self._charged, key=self._charged.__getitem__)
            self.release(largest)
            if largest.shed():
                self._charged[largest] = largest.size
                self._total += largest.size
            else:
                largest.overflow()
