"""A message as one WebSocket frame, made once for all who get it (RFC 6455, section 5.2)."""

import struct

__all__ = ["frame"]

_FINAL_TEXT = 0x81


def frame(payload: bytes) -> bytes:
    """Return *payload* as an unmasked, unfragmented text frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack(">BB", _FINAL_TEXT, size) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", _FINAL_TEXT, 126, size) + payload
    return struct.pack(">BBQ", _FINAL_TEXT, 127, size) + payload
