"""The half of a process's transport that nothing here uses: its input is the null device, and pipes have no address."""

from collections.abc import Iterable
from typing import Any

__all__ = ["Unheard"]


class Unheard:
    """A child to which nothing can be said."""

    def closeChildFD(self, descriptor: int) -> None:
        """Read no more of an output, where it is read here."""

    def closeStdin(self) -> None:
        """There is none: it reads the null device."""

    def closeStdout(self) -> None:
        """Read no more of its standard output, where it is read here."""
        self.closeChildFD(1)

    def closeStderr(self) -> None:
        """Read no more of its errors, where they are read here."""
        self.closeChildFD(2)

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """Raises KeyError, as the interface says of descriptors that cannot be written to."""
        raise KeyError(childFD)

    def write(self, data: bytes) -> None:
        """Raises KeyError: nothing can be written to it."""
        self.writeToChild(0, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Raises KeyError: nothing can be written to it."""
        self.writeToChild(0, b"")

    def getHost(self) -> Any:
        """Pipes have no address."""
        raise NotImplementedError

    def getPeer(self) -> Any:
        """Pipes have no address."""
        raise NotImplementedError
