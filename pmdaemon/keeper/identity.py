"""Whom an app runs as, and files handled as that user: by root, in directories where the user may put what they like.

Root that follows a user's link writes, reads or deletes what is others'. What is done as the user cannot: the kernel
judges each step as it would judge theirs, whatever is renamed meanwhile.
"""

import errno
import grp
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

__all__ = ["NoSuchAccount", "Owner", "acting_as", "owner_of", "owner_or_nobody", "owner_there"]

_SYSCALLS = {
    "x86_64": (117, 119, 116),
    **dict.fromkeys(("aarch64", "riscv64", "loongarch64"), (147, 149, 159)),
}
"""Numbers of setresuid, setresgid and setgroups; those of the C library change all threads of the process."""

_KEEP = -1


class NoSuchAccount(OSError):
    """There is no such user or group; ``reason`` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)
        self.reason = reason


class Owner(NamedTuple):
    """A user with the groups that they are in."""

    uid: int
    gid: int
    groups: Sequence[int]

    @classmethod
    def from_wire(cls, value: Any) -> "Owner | None":
        """Return whom a list of these three means; None stands for nobody else. Raises ValueError or TypeError."""
        if value is None:
            return None
        uid, gid, groups = value
        return cls(int(uid), int(gid), [int(group) for group in groups])


def owner_of(
    user: str | int | None, group: str | int | None, groups: Sequence[str | int] | None = None
) -> Owner | None:
    """Return whom these name, by name or number; None where that is who runs already. Raises NoSuchAccount."""
    if user is None and group is None and groups is None:
        return None
    account = _account(os.getuid() if user is None else user)
    uid = account.pw_uid if account else int(os.getuid() if user is None else user)
    main_group = account.pw_gid if account else os.getgid()
    gid = main_group if group is None else _gid(group)
    if groups is not None:
        members = [gid, *map(_gid, groups)]
    else:
        members = os.getgrouplist(account.pw_name, gid) if account else [gid]
    same = (uid, gid) == (os.geteuid(), os.getegid()) and set(members) <= {gid, *os.getgroups()}
    return None if same and uid else Owner(uid, gid, members)


def owner_or_nobody(user: str | int | None, group: str | int | None) -> Owner | None:
    """Return as ``owner_of``, where there is no such account one that may do nothing."""
    try:
        return owner_of(user, group)
    except NoSuchAccount:
        return _NOBODY


def owner_there(owner: Owner | None, path: str, private: str) -> Owner | None:
    """Return as whom to handle the file at *path* of an app of *owner*: None, for ourselves, in directory *private*.

    And where we could not be anybody else, or nobody else is asked for.
    """
    ours = owner is None or not owner.uid or os.geteuid() != 0 or os.path.dirname(path) == private
    return None if ours else owner


_NOBODY = Owner(65534, 65534, [])


@contextmanager
def acting_as(owner: Owner | None) -> Iterator[None]:
    """Let this thread, and no other, have the rights of *owner* and no more; None changes nothing.

    Start no thread and no process within. Raises OSError where it cannot be done, and then does nothing.
    """
    if owner is None:
        yield
        return
    _library()
    before = os.geteuid(), os.getegid(), os.getgroups()
    if before[:2] == (owner.uid, owner.gid):
        yield  # within another of the same
        return
    try:
        _set_groups(owner.groups)
        _set_ids(owner.gid, owner.uid)
        yield
    finally:
        _call(0, _KEEP, before[0], _KEEP)
        _set_groups(before[2])
        _call(1, _KEEP, before[1], _KEEP)
        if (os.geteuid(), os.getegid()) != before[:2]:
            os.abort()  # nothing that this thread did now would be right


def _set_ids(gid: int, uid: int) -> None:
    _call(1, _KEEP, gid, _KEEP)
    _call(0, _KEEP, uid, _KEEP)
    if (os.geteuid(), os.getegid()) != (uid, gid):
        raise OSError(errno.EPERM, "cannot become the app's user")


def _set_groups(groups: Sequence[int]) -> None:
    import ctypes

    _call(2, len(groups), (ctypes.c_uint32 * len(groups))(*groups))


def _call(which: int, *arguments: Any) -> None:
    import ctypes

    library, numbers = _library()
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    if library.syscall(ctypes.c_long(numbers[which]), *words) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _library() -> tuple[Any, tuple[int, int, int]]:
    numbers = _SYSCALLS.get(os.uname().machine)
    if sys.platform != "linux" or numbers is None or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, "files cannot be opened as the app's user on this system")
    import ctypes  # costly, and only where root has others' files to handle

    return ctypes.CDLL(None, use_errno=True), numbers


def _account(user: str | int) -> pwd.struct_passwd | None:
    """The account; None for the number of none."""
    try:
        return pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except KeyError:
        if isinstance(user, int):
            return None
        raise NoSuchAccount(f"no such user {user!r}") from None


def _gid(group: str | int) -> int:
    try:
        return group if isinstance(group, int) else grp.getgrnam(group).gr_gid
    except KeyError:
        raise NoSuchAccount(f"no such group {group!r}") from None
