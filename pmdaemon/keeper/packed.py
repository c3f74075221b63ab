"""Compresses a file so that any part of it can be read without what is before it.

The form is BGZF: many small gzip members, one after another, each of which tells its own compressed size in its header.
`zcat` and all else that reads gzip reads it.
"""

import errno
import os
import struct
import zlib
from bisect import bisect_right

__all__ = ["PackedFile", "pack"]

_BLOCK = 65280
"""Bytes of the original in one member: so few that it takes less than 64 KiB even where nothing can be compressed."""
_HEADER = struct.Struct("<4sLBBH2sHH")
_TRAILER = struct.Struct("<LL")
_LENGTH = 4
_MAGIC = b"\x1f\x8b\x08\x04"
_UNKNOWN_SYSTEM = 255
_EXTRA_LENGTH = 6
_FIELD, _FIELD_LENGTH = b"BC", 2
_MOST = (1 << 16) - _HEADER.size - _TRAILER.size
_RAW = -zlib.MAX_WBITS


def pack(source: int, target: int) -> None:
    """Write what is in descriptor *source*, from its start to its end, compressed to *target*.

    Raises OSError where either fails. The compression itself leaves other threads running.
    """
    at = 0
    while data := os.pread(source, _BLOCK, at):
        at += len(data)
        _write(target, _member(data))
    # An empty member marks the end: without it the file was cut short.
    _write(target, _member(b""))


def _member(data: bytes) -> bytes:
    body = _deflated(data, zlib.Z_DEFAULT_COMPRESSION)
    if len(body) > _MOST:
        body = _deflated(data, zlib.Z_NO_COMPRESSION)
    size = _HEADER.size + len(body) + _TRAILER.size
    header = _HEADER.pack(_MAGIC, 0, 0, _UNKNOWN_SYSTEM, _EXTRA_LENGTH, _FIELD, _FIELD_LENGTH, size - 1)
    return header + body + _TRAILER.pack(zlib.crc32(data), len(data))


def _deflated(data: bytes, level: int) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    return deflate.compress(data) + deflate.flush()


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


class PackedFile:
    """What was compressed into the file of *descriptor*, which is closed with this.

    Offsets count from *base*, that of the first byte. OSError where the file is of another form or damaged.
    """

    def __init__(self, descriptor: int, base: int) -> None:
        self.base = base
        self._descriptor = descriptor
        self._starts: list[int] = []
        self._places: list[int] = []
        self._end = base
        self._last: tuple[int, bytes] = (-1, b"")
        try:
            self._find_members()
        except OSError:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def end(self) -> int:
        """Return the offset after the last byte."""
        return self._end

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from *start* to *end*; fewer where the file ends before."""
        parts = []
        end = min(end, self._end)
        while self.base <= start < end:
            number = bisect_right(self._starts, start) - 1
            first = self._starts[number]
            part = self._member(number)[start - first : end - first]
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _find_members(self) -> None:
        """Go from header to header; each member's last bytes are its length, just before the next header."""
        place, length = 0, -1
        header = os.pread(self._descriptor, _HEADER.size, 0)
        while header:
            self._places.append(place)
            place += _size_of(header)
            seam = os.pread(self._descriptor, _LENGTH + _HEADER.size, place - _LENGTH)
            length = int.from_bytes(seam[:_LENGTH], "little")
            header = seam[_LENGTH:]
            if len(seam) < _LENGTH or length > _BLOCK:
                raise _damaged()
            if length:
                self._starts.append(self._end)
                self._end += length
        if length != 0:
            raise _damaged()

    def _member(self, number: int) -> bytes:
        if self._last[0] != number:
            place, following = self._places[number : number + 2]
            self._last = number, _original(os.pread(self._descriptor, following - place, place))
        return self._last[1]


def _original(member: bytes) -> bytes:
    crc, length = _TRAILER.unpack(member[-_TRAILER.size :])
    try:
        data = zlib.decompress(member[_HEADER.size : -_TRAILER.size], _RAW, _BLOCK)
    except zlib.error:
        raise _damaged() from None
    if len(data) != length or zlib.crc32(data) != crc:
        raise _damaged()
    return data


def _size_of(member: bytes) -> int:
    if len(member) < _HEADER.size:
        raise _damaged()
    magic, _, _, _, extra, field, length, size = _HEADER.unpack_from(member)
    if (magic, extra, field, length) != (_MAGIC, _EXTRA_LENGTH, _FIELD, _FIELD_LENGTH):
        raise _damaged()
    return int(size) + 1


def _damaged() -> OSError:
    return OSError(errno.EINVAL, "is not a compressed segment of a log, or is damaged")
