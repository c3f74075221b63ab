"""Ports: what an app asks for, and which process has which.

Whether a port is free on the machine is asked of the caller; nothing here opens a socket.
"""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from pmdaemon.core.fields import shown
from pmdaemon.errors import InvalidConfiguration, PortInUse

__all__ = ["PORT_PATTERN", "PortPool", "PortRequest"]

PORT_PATTERN = "^([0-9]{1,5}|[0-9]{1,5}-[0-9]{1,5}|auto:[0-9]{1,5}-[0-9]{1,5})$"

_FORM = re.compile(r"(?P<auto>auto:)?(?P<low>[0-9]{1,5})(?:-(?P<high>[0-9]{1,5}))?")
_FORMS = '3000, "3000-3003" or "auto:4000-4100"'


class PortRequest(msgspec.Struct, frozen=True):
    """What an app asks for: one port, one of a range for each instance, or any of a range."""

    kind: Literal["fixed", "range", "auto"]
    low: int
    high: int

    @classmethod
    def parse(cls, value: int | str) -> "PortRequest":
        """Return what ``3000``, ``"3000-3003"`` or ``"auto:4000-4100"`` asks for.

        Raises ValueError, worded to follow the field's name, on another form or a port outside 1..65535.
        """
        match = _FORM.fullmatch(str(value)) if isinstance(value, str) or 0 <= value <= 99999 else None
        if match is None or (match["auto"] and not match["high"]):
            raise ValueError(f"must be {_FORMS}, not {shown(value)}")
        low = int(match["low"])
        high = int(match["high"] or low)
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"must lie within 1 and 65535, the lower end first, not {shown(value)}")
        return cls("auto" if match["auto"] else "range" if match["high"] else "fixed", low, high)

    @property
    def ports(self) -> range:
        """The ports that may be given out."""
        return range(self.low, self.high + 1)

    def __str__(self) -> str:
        return str(self.low) if self.kind == "fixed" else f"{self.low}-{self.high}"

    def for_instances(self, instances: int) -> str:
        """Return the same request, large enough for ``instances`` processes, as one writes it."""
        low = max(1, min(self.low, 65536 - instances))
        return f"{'auto:' if self.kind == 'auto' else ''}{low}-{max(low + instances - 1, self.low)}"


class PortPool:
    """Which process of ours has which port.

    ``is_free(port)`` says whether the machine would let us listen there now.
    """

    def __init__(self, is_free: Callable[[int], bool]) -> None:
        self._is_free = is_free
        self._owners: dict[int, str] = {}

    def assign(self, owner: str, request: PortRequest, instance: int, preferred: int | None = None) -> int:
        """Give ``owner`` a port and return it.

        A port that the owner has already counts as unowned, and it keeps those it has until `release`. ``preferred``
        matters to a request of kind ``auto`` only: it is taken if it lies in the range and is free. Raises PortInUse
        where nothing is free, InvalidConfiguration where the request has no port for this ``instance``.
        """
        if request.kind == "auto":
            port = self._free_port(owner, request, preferred)
        else:
            port = self._own_port(owner, request, instance)
        self._owners[port] = owner
        return port

    def claim(self, owner: str, port: int) -> None:
        """Take it that ``owner`` has ``port``: it got it from an earlier daemon."""
        self._owners[port] = owner

    def release(self, owner: str, port: int | None = None) -> None:
        """Take back ``port`` from ``owner``, or all ports it has; what it does not have is left alone."""
        self._owners = {
            held: holder
            for held, holder in self._owners.items()
            if holder != owner or (port is not None and held != port)
        }

    def rename(self, owner: str, name: str) -> None:
        """Have ``name`` own what ``owner`` owned."""
        self._owners = {port: name if holder == owner else holder for port, holder in self._owners.items()}

    def owner_of(self, port: int) -> str | None:
        """Return the name of the process that has ``port``, or None."""
        return self._owners.get(port)

    def _available(self, owner: str, port: int) -> bool:
        return self._owners.get(port, owner) == owner and self._is_free(port)

    def _free_port(self, owner: str, request: PortRequest, preferred: int | None) -> int:
        if preferred is not None and preferred in request.ports and self._available(owner, preferred):
            return preferred
        for port in request.ports:
            if self._available(owner, port):
                return port
        raise PortInUse(
            f"cannot start {owner!r}: no port of {request} is free",
            hint=f"give it a wider range than {request}, or stop what uses these ports",
            details={"low": request.low, "high": request.high, "owner": None},
        )

    def _own_port(self, owner: str, request: PortRequest, instance: int) -> int:
        port = request.low + instance
        if port not in request.ports:
            count = len(request.ports)
            ports = f"port {request} is" if count == 1 else f"ports {request} are"
            raise InvalidConfiguration(
                f"cannot start {owner!r}: {ports} for {count} {'instance' if count == 1 else 'instances'} only",
                hint=f'set port to "{request.for_instances(instance + 1)}" or more, or run fewer instances',
                details={"path": "port"},
            )
        if not self._available(owner, port):
            raise self._taken(owner, port)
        return port

    def _taken(self, owner: str, port: int) -> PortInUse:
        other = self._owners.get(port, owner)
        if other != owner:
            by, hint = repr(other), f"stop {other!r} first, or give {owner!r} another port"
        else:
            by, hint = "another program", f"`lsof -i :{port}` shows which; stop it, or give {owner!r} another port"
        return PortInUse(
            f"cannot start {owner!r}: port {port} is taken by {by}",
            hint=hint,
            details={"port": port, "owner": other if other != owner else None},
            other=other if other != owner else None,
        )
