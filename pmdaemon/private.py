"""Files with secrets and keys: read only where nobody else can read or change them."""

import errno
import os
import stat

__all__ = ["MAX_SIZE", "read_private"]

MAX_SIZE = 1024 * 1024
"""Bytes; no file with a secret is larger."""


def read_private(path: str | os.PathLike[str], *, public: bool = False) -> bytes:
    """Return what the file holds; with ``public`` it is no secret, but still must not be changed by others.

    Raises OSError, its ``strerror`` worded to follow the file's name: where it cannot be read, is no ordinary file, is
    too large, is another user's (root's is fine), or where others may read or write it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not an ordinary file", os.fspath(path))
        if status.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it belongs to another user", os.fspath(path))
        if status.st_mode & (0o022 if public else 0o077):
            what, mode = ("write", "go-w") if public else ("read or write", "600")
            raise PermissionError(errno.EPERM, f"others may {what} it (chmod {mode} helps)", os.fspath(path))
        content = file.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise OSError(errno.EFBIG, f"it is larger than {MAX_SIZE} bytes", os.fspath(path))
    return content
