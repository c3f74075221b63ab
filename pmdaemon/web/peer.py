"""Who is at the other end of a connection: which user of this machine, where that can be told.

What that user may do is decided in ``guard``.
"""

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import psutil
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.logger import Logger

__all__ = ["Connection", "Means", "Peer", "Peers", "SockDiag", "in_own_processes", "in_proc_net", "socket_uid"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ESTABLISHED: Final = 1
_NOBODY: Final = 65534
"""What the kernel says in place of a user who has no number in this container."""


class Peer(msgspec.Struct, frozen=True):
    """The other end: its address (empty on a Unix socket), and its user, or None where that cannot be told.

    On TCP the user is that of whoever made the socket, which may be a forwarder.
    """

    address: str
    uid: int | None

    @property
    def unix(self) -> bool:
        """Whether it came through a Unix socket."""
        return not self.address


class Connection(NamedTuple):
    """One TCP connection within this machine; addresses without IPv6 around an IPv4 one."""

    client: _Address
    client_port: int
    server: _Address
    server_port: int

    @classmethod
    def of(cls, client: tuple[str, int], server: tuple[str, int]) -> "Connection | None":
        """The connection between two ends as they were told, or None where one is not on a loopback."""
        ours, theirs = _address(server[0]), _address(client[0])
        if ours is None or theirs is None or not (ours.is_loopback and theirs.is_loopback):
            return None
        return cls(theirs, client[1], ours, server[1])


Means = Callable[[Connection], int | None]
"""Tells the uid of the client's socket; None where there is no such connection, or in doubt."""


class SockDiag:
    """Asks the kernel for exactly one socket: some 12 microseconds, however many there are.

    Linux only. Raises OSError where the kernel does not answer this; one that was closed meanwhile is no error.
    """

    _REQUEST: Final = struct.Struct("=IHHIIBBBBI2s2s16s16sIII")
    _HEADER: Final = struct.Struct("=IHHII")
    _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 20, 1

    def __init__(self) -> None:
        netlink = socket.AF_NETLINK  # type: ignore[attr-defined,unused-ignore]  # not on every system
        self._kernel = socket.socket(netlink, socket.SOCK_RAW, 4)
        self._kernel.setblocking(False)  # the kernel answers before ``send`` returns
        self._kernel.bind((0, 0))
        self._sequence = 0

    def __call__(self, connection: Connection) -> int | None:
        """Called with each connection."""
        self._kernel.send(self._request(connection))
        try:
            answer = self._answer()
        except BlockingIOError:
            return None
        if self._HEADER.unpack_from(answer)[1] != self._SOCK_DIAG_BY_FAMILY:
            return None  # an error: there is no such socket
        state = answer[17]
        ports = struct.unpack_from(">HH", answer, 20)
        uid, inode = struct.unpack_from("=II", answer, 80)
        return _owner(state, inode, uid) if ports == (connection.client_port, connection.server_port) else None

    def _request(self, connection: Connection) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        client, client_port, server, server_port = connection
        return self._REQUEST.pack(
            *(self._REQUEST.size, self._SOCK_DIAG_BY_FAMILY, self._NLM_F_REQUEST, self._sequence, 0),
            *(socket.AF_INET if client.version == 4 else socket.AF_INET6, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF),
            *(client_port.to_bytes(2, "big"), server_port.to_bytes(2, "big"), client.packed, server.packed),
            *(0, 0xFFFFFFFF, 0xFFFFFFFF),  # any interface, no cookie
        )

    def _answer(self) -> bytes:
        """The kernel's answer to the last request; an earlier one that was not taken is dropped."""
        while True:
            answer, sender = self._kernel.recvfrom(8192)
            if sender[0] == 0 and self._HEADER.unpack_from(answer)[3] == self._sequence:
                return answer


def in_proc_net(connection: Connection) -> int | None:
    """Read the kernel's tables as text: milliseconds for each thousand sockets. Linux only; raises OSError."""
    for path, client, server in _as_in_proc(connection):
        wanted = f": {client}:{connection.client_port:04X} {server}:{connection.server_port:04X} ".encode()
        with open(path, "rb") as table:
            _, found, rest = table.read().partition(wanted)
        if found:
            state, _, _, _, uid, _, inode = rest.split(maxsplit=7)[:7]
            return _owner(int(state, 16), int(inode), int(uid))
    return None


def in_own_processes(connection: Connection) -> int | None:
    """Look through this user's own processes, on any system: tens of milliseconds."""
    own = os.geteuid()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().effective == own and any(
                _is(each, connection) for each in process.net_connections("tcp")
            ):
                return own
    return None


MEANS: Final[tuple[Callable[[], Means], ...]] = (
    (SockDiag, lambda: in_proc_net) if sys.platform == "linux" else (lambda: in_own_processes,)
)


class Peers:
    """Tells who is at the other end, by the first of ``means`` that recognises a connection of our own.

    Where none does, nobody on TCP is told, which is logged.
    """

    _log = Logger()

    def __init__(self, means: Iterable[Callable[[], Means]] = MEANS) -> None:
        self._means = next(filter(None, map(_tried, means)), None)
        if self._means is None:
            self._log.warn("cannot tell who connects by TCP: everybody needs a token there, or uses the Unix socket")

    def of(self, transport: Any) -> Peer:
        """The other end of a connected transport; never raises. Ask once, and keep the answer."""
        peer, host = transport.getPeer(), transport.getHost()
        if not isinstance(peer, IPv4Address | IPv6Address):
            return Peer("", socket_uid(transport.getHandle()))
        connection = Connection.of((peer.host, peer.port), (host.host, host.port))
        return Peer(peer.host, None if connection is None else self._uid(connection))

    def _uid(self, connection: Connection) -> int | None:
        if self._means is None:
            return None
        try:
            return self._means(connection)
        except OSError as why:
            self._log.warn("cannot tell who connects: {why}", why=str(why))
            return None


def socket_uid(unix: socket.socket) -> int | None:
    """The user who connected to a Unix socket; None where the system does not tell."""
    try:
        if sys.platform == "linux":
            _, uid, _ = struct.unpack("=3i", unix.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        else:
            _, uid = struct.unpack_from("=II", unix.getsockopt(0, 1, 76))  # SOL_LOCAL, LOCAL_PEERCRED: struct xucred
    except (OSError, struct.error):
        return None
    return int(uid)


def _tried(make: Callable[[], Means]) -> Means | None:
    """What ``make`` makes, if it knows its way."""
    try:
        means = make()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            own = Connection.of(client.getsockname(), server.getsockname())
            return means if own is not None and means(own) is not None else None
    except OSError:
        return None


def _owner(state: int, inode: int, uid: int) -> int | None:
    """A socket that its program has closed has no inode any more, and says 0 for its user, which is not root."""
    return uid if state == _ESTABLISHED and inode != 0 and uid != _NOBODY else None


def _address(text: str) -> _Address | None:
    try:
        return _plain(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _plain(address: _Address) -> _Address:
    return getattr(address, "ipv4_mapped", None) or address


def _as_in_proc(connection: Connection) -> list[tuple[str, str, str]]:
    """The tables to look in, with both addresses as they spell them."""
    client, server = connection.client, connection.server
    if client.version == 6:
        return [("/proc/net/tcp6", _words(client.packed), _words(server.packed))]
    mapped = b"\0" * 10 + b"\xff\xff"
    return [
        ("/proc/net/tcp", _words(client.packed), _words(server.packed)),
        ("/proc/net/tcp6", _words(mapped + client.packed), _words(mapped + server.packed)),
    ]


def _words(packed: bytes) -> str:
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def _is(seen: Any, connection: Connection) -> bool:
    if seen.status != psutil.CONN_ESTABLISHED or not seen.raddr:
        return False
    return Connection.of(seen.laddr, seen.raddr) == connection
