"""A client that reads when it is told to, in memory."""

from typing import Any


class SlowTransport:
    """A transport whose kernel takes ``room`` bytes, and then what ``take`` lets it.

    It buffers and tells its producer as Twisted's own do.
    """

    bufferSize = 64 * 1024
    connected = True

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.dataBuffer = b""
        self.offset = 0
        self._tempDataLen = 0
        self.writes: list[bytes] = []
        self.producer: Any = self  # as the HTTP channel has registered itself
        self.paused = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None or not streaming:
            raise RuntimeError
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._tempDataLen += len(data)
        taken = min(self.room, self._tempDataLen)
        self.room -= taken
        self._tempDataLen -= taken
        if self._tempDataLen > self.bufferSize:
            self.paused = True
            self.producer.pauseProducing()

    def take(self, size: int | None = None) -> None:
        """Have the client read ``size`` bytes of what waits; all of it by default."""
        self._tempDataLen -= self._tempDataLen if size is None else size
        if not self._tempDataLen and self.paused:
            self.paused = False
            self.producer.resumeProducing()
