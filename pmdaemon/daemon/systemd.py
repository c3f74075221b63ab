"""Tells systemd how the daemon is: ready, alive, stopping (sd_notify(3)). Without systemd nothing happens."""

import socket
from collections.abc import Mapping
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

__all__ = ["Systemd"]


class Systemd:
    """What *environment* says of it: ``NOTIFY_SOCKET``, and ``WATCHDOG_USEC`` where it wants to hear regularly."""

    def __init__(self, clock: IReactorTime, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._period = _seconds(environment.get("WATCHDOG_USEC", "")) / 2
        self._watchdog = LoopingCall(self._tell, "WATCHDOG=1")
        self._watchdog.clock = clock

    def ready(self, pid: int) -> None:
        """Say that clients can connect, and from now on, while the reactor turns, that the daemon lives."""
        self._tell(f"READY=1\nMAINPID={pid}")
        if self._address and self._period:
            self._watchdog.start(self._period)

    def stopping(self, *, replaced: bool) -> None:
        """Say that the daemon stops, or only that another takes its place."""
        if self._watchdog.running:
            self._watchdog.stop()
        self._tell("RELOADING=1" if replaced else "STOPPING=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() else 0.0
