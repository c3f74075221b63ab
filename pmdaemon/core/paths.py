"""Paths of a configuration made absolute, without a look at the disk."""

import posixpath

from pmdaemon.core.fields import FieldError

__all__ = ["absolute", "inside", "numbered", "program"]


def absolute(path: str, base: str) -> str:
    """Return ``path`` as seen from the directory ``base``; an absolute one is kept as written.

    Raises FieldError on a path that only a shell would understand.
    """
    if path.startswith("~"):
        raise FieldError("", "starts with '~', which only a shell understands", "write the whole path")
    return path if posixpath.isabs(path) else posixpath.normpath(posixpath.join(base, path))


def inside(path: str, base: str) -> str:
    """Return ``path`` as `absolute` does; raises FieldError also on a relative path that leaves ``base``."""
    if not posixpath.isabs(path) and posixpath.normpath(path).split("/", 1)[0] == "..":
        raise FieldError("", "leaves the directory it is relative to", "write the whole path")
    return absolute(path, base)


def numbered(path: str, instance: int) -> str:
    """Return the path of one of several instances: ``a/b.log`` is ``a/b-2.log`` for number 2."""
    root, suffix = posixpath.splitext(path)
    return f"{root}-{instance}{suffix}"


def program(text: str, base: str) -> str:
    """Return a program to run as `absolute` does, if it is written as a relative path.

    A bare word is looked up when it is run, and a command line is split then. Raises FieldError as `absolute` does, and
    on a blank text.
    """
    if not text.strip():
        raise FieldError("", "must not be blank", "name a program")
    return absolute(text, base) if "/" in text and not any(map(str.isspace, text)) else text
