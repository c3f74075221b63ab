"""What a command of the console script is: its words, its arguments, what it does, and how it fails."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

__all__ = ["Command", "Exit", "Failure"]


class Exit(IntEnum):
    """The codes that the script ends with: one a kind of error."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNPARSABLE = 22
    DENIED = 60
    INTERRUPTED = 130


class Failure(Exception):
    """A command could not do it: what and why in one sentence, what to do next, and the exit code."""

    def __init__(self, message: str, *hints: str, exit: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hints = hints
        self.exit = exit


class Command(NamedTuple):
    """One command; ``words`` are what one types, the last its own, those before it the groups it is in.

    ``run`` prints results on stdout and everything else on stderr. Raises Failure.
    """

    words: tuple[str, ...]
    summary: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
    examples: tuple[str, ...] = ()
