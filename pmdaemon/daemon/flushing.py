"""Empties log files [R8]: by the keeper where it writes them, or by ourselves."""

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from pmdaemon.daemon.keeperlink import KeeperError
from pmdaemon.daemon.process import Process
from pmdaemon.errors import OperationFailed
from pmdaemon.keeper.identity import NoSuchAccount, owner_of
from pmdaemon.keeper.layout import INDEX_SUFFIX, open_regular, segments

__all__ = ["Flush", "flush_files", "flush_kept"]

Flush = Callable[[Process, list[str]], Awaitable[None]]
"""Empties the logs of a process at these paths. Raises OperationFailed."""


async def flush_files(process: Process, paths: list[str]) -> None:
    """Empty files that nobody but this daemon writes to. The offsets begin anew."""
    failed = {}
    for path in paths:
        try:
            _empty(path)
        except OSError as why:
            failed[path] = str(why.strerror)
    _check(process, failed)


def _empty(path: str) -> None:
    for segment in segments(path):
        segment.remove()
    for name in (path, path + INDEX_SUFFIX):
        with suppress(FileNotFoundError):
            os.close(open_regular(name, os.O_WRONLY | os.O_TRUNC))


async def flush_kept(order: Callable[..., Awaitable[Mapping[str, Any]]], process: Process, paths: list[str]) -> None:
    """Have the keeper empty them, by an *order* as of `KeeperLink`; the offsets go on."""
    there = [path for path in paths if os.path.lexists(path)]
    try:
        owner = owner_of(process.spec.user, process.spec.group)
        answer = await order("flush", id=str(process.id), paths=there, owner=owner)
    except NoSuchAccount as why:
        raise _cannot(process, why.reason) from why
    except KeeperError as why:
        raise _cannot(process, str(why.answer.get("error") or why)) from why
    _check(process, answer["ok"]["failed"])


def _check(process: Process, failed: Mapping[str, str]) -> None:
    for path, reason in failed.items():
        raise _cannot(process, f"{reason}: {path}", failed)


def _cannot(process: Process, reason: str, failed: Iterable[str] = ()) -> OperationFailed:
    return OperationFailed(f"cannot flush the logs of '{process.name}': {reason}", details={"failed": list(failed)})
