"""From a command line to an exit code: the table of commands, and the parser that is made of it."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pmdaemon
from pmdaemon.cli import token
from pmdaemon.cli.command import Command, Exit, Failure

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS: Final[tuple[Command, ...]] = (*token.COMMANDS,)

GROUPS: Final = {"token": "make, list and revoke what lets others in"}
"""What the commands of a group are for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; SystemExit from the parser, for a wrong usage and for ``--help``."""
    given = parser().parse_args(arguments)
    try:
        given.run(given)
        sys.stdout.flush()
    except Failure as why:
        return _report(str(why), why.hints, why.exit)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # who read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as why:
        denied = isinstance(why, PermissionError)
        return _report(f"cannot go on: {why}", (), Exit.DENIED if denied else Exit.FAILED)
    return Exit.OK


def parser(commands: Iterable[Command] = COMMANDS) -> ArgumentParser:
    """The parser of all ``commands``; what it returns has the command's ``run``."""
    commands = list(commands)
    top = _parser(ArgumentParser, commands, prog="pmdaemon", summary="A process manager for one machine.")
    top.add_argument("--version", action="version", version=f"pmdaemon {pmdaemon.__version__}")
    below: dict[tuple[str, ...], Any] = {(): _group(top)}
    for command in commands:
        *group, word = command.words
        for depth in range(1, len(group) + 1):
            words = tuple(group[:depth])
            if words not in below:
                members = [each for each in commands if each.words[:depth] == words]
                summary = GROUPS[" ".join(words)]
                made = _parser(below[words[:-1]].add_parser, members, words[-1], summary=summary, help=summary)
                below[words] = _group(made)
        own = _parser(below[tuple(group)].add_parser, [command], word, summary=command.summary, help=command.summary)
        own.set_defaults(run=command.run)
        command.arguments(own)
    return top


def _parser(make: Any, commands: list[Command], *words: str, summary: str, **rest: Any) -> ArgumentParser:
    """A parser whose help starts with examples, three at most."""
    examples = [each for command in commands for each in command.examples][:3]
    shown = "\n".join([f"{summary[:1].upper()}{summary[1:].rstrip('.')}.", "", *(f"  {each}" for each in examples)])
    made: ArgumentParser = make(
        *words, description=shown, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False, **rest
    )
    return made


def _group(parent: ArgumentParser) -> Any:
    return parent.add_subparsers(required=True, metavar="COMMAND", title="commands", dest="command")


def _report(message: str, hints: Sequence[str], exit: Exit) -> Exit:
    print("\n".join([f"error: {message} (exit {int(exit)})", *(f"  {hint}" for hint in hints)]), file=sys.stderr)
    return exit
