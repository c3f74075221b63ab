"""Which home a command is about: ``--home``, else PMDAEMON_HOME, else ``~/.pmdaemon``, as for the daemon."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pmdaemon.cli.command import Exit, Failure

__all__ = ["add_home", "home"]


def add_home(parser: ArgumentParser) -> None:
    """Give a command the option ``--home``."""
    parser.add_argument("--home", metavar="DIR", help="the daemon's home (default: $PMDAEMON_HOME or ~/.pmdaemon)")


def home(given: Namespace) -> Path:
    """The home's path, absolute; it need not be there."""
    path = given.home or os.environ.get("PMDAEMON_HOME") or "~/.pmdaemon"
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise Failure(f"cannot tell where the home {path} is: there is no such user", exit=Exit.USAGE)
    return Path(os.path.abspath(expanded))
