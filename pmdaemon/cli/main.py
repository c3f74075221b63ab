"""From a command line to an exit code: the table of commands, each imported when it is asked for."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

import click

import pmdaemon
from pmdaemon.cli.command import Exit, Failure, failure_of
from pmdaemon.cli.lazily import defer
from pmdaemon.errors import PMDaemonError

__all__ = ["ALIASES", "COMMANDS", "cli", "main"]

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "start": ("start", "Start a program, what is stopped, or the apps of a file."),
    "stop": ("act", "Stop processes, each with all it has started."),
    "restart": ("act", "Stop and start again."),
    "reload": ("act", "Replace processes one by one, without a gap where ports allow."),
    "scale": ("act", "Change how many processes an app has."),
    "delete": ("act", "Stop and forget; the logs stay."),
    "list": ("listing", "Show what runs."),
    "info": ("info", "Show all that is known of a process."),
    "logs": ("logs", "Show the last lines, or follow them."),
    "events": ("events", "Show what happened."),
    "why": ("why", "Say why a process is not running, or was restarted."),
    "health": ("health", "Show how the health checks went."),
    "history": ("history", "Show CPU or memory over time."),
    "monit": ("monit", "Watch and act on a full screen."),
    "signal": ("act", "Send a signal."),
    "reset": ("act", "Set the counters of restarts to 0."),
    "flush": ("act", "Empty the logs."),
    "export": ("export", "Write what runs as an ecosystem file."),
    "token": ("token", "Make, list and revoke what lets others in."),
    "ping": ("daemon", "See whether the daemon answers."),
    "doctor": ("doctor", "Check the daemon and what it needs."),
    "upgrade": ("daemon", "Put the code that is installed now in the daemon's place."),
    "kill": ("daemon", "Stop the daemon and everything it runs."),
    "startup": ("startup", "Print a unit for systemd."),
    "completion": ("completion", "Print what makes a shell complete commands and names."),
}
"""Name -> module and summary; what is listed in the help is not imported for that."""

ALIASES: Final = {
    "s": "start",
    "st": "stop",
    "r": "restart",
    "l": "list",
    "ls": "list",
    "status": "list",
    "del": "delete",
    "show": "info",
    "describe": "info",
}

_HELP: Final = """A process manager for one machine.

\b
  pmdaemon start server.js --name web      start a program, and a daemon if there is none
  pmdaemon list                            what runs
  pmdaemon logs web -f                     follow its output

A process is named by its name, its app, its id, a pattern such as 'web-*', ns:NAMESPACE or all.
"""


class Commands(click.Group):
    """Finds commands by the table, and their aliases."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return [name for name, (module, _) in COMMANDS.items() if _is_there(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name or an alias."""
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS or not _is_there(COMMANDS[name][0]):
            return None
        defer("importlib.metadata")  # websockets wants it for the version of a checkout of its own alone
        found: click.Command = getattr(import_module(f"pmdaemon.cli.{COMMANDS[name][0]}"), f"{name}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help."""
        short: dict[str, list[str]] = {}
        for alias, name in ALIASES.items():
            short.setdefault(name, []).append(alias)
        with formatter.section("Commands"):
            names = self.list_commands(ctx)
            formatter.write_dl([(", ".join([name, *short.get(name, [])]), COMMANDS[name][1]) for name in names])


def _is_there(module: str) -> bool:
    return os.path.exists(os.path.join(os.path.dirname(__file__), f"{module}.py"))


@click.command(cls=Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pmdaemon.__version__, message="pmdaemon %(version)s")
def cli() -> None:
    """All commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    gc.disable()  # while modules are imported there is nothing to collect; `connected` enables it again
    try:
        ended = cli.main(arguments, prog_name="pmdaemon", standalone_mode=False)
        sys.stdout.flush()
        return ended if isinstance(ended, int) else Exit.OK
    except click.UsageError as why:
        path = why.ctx.command_path if why.ctx else "pmdaemon"
        return _report(_plain(why.format_message()), [*_near(why), f"see: {path} --help"], Exit.USAGE)
    except click.ClickException as why:
        return _report(_plain(why.format_message()), (), Exit.FAILED)
    except Failure as why:
        return _report(str(why), why.hints, why.exit)
    except PMDaemonError as why:
        return main_failure(why)
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:  # who read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except OSError as why:
        denied = isinstance(why, PermissionError)
        return _report(f"cannot go on: {why}", (), Exit.DENIED if denied else Exit.FAILED)


def main_failure(error: PMDaemonError) -> int:
    """Report an error of the daemon."""
    failure = failure_of(error)
    return _report(str(failure), failure.hints, failure.exit)


def _near(why: click.UsageError) -> list[str]:
    """What may have been meant by a command that there is not."""
    if "No such command" not in why.message:
        return []
    word = why.message.split("'")[1]
    from difflib import get_close_matches

    near = get_close_matches(word, [*COMMANDS, *ALIASES], n=3)
    return [f"did you mean: {', '.join(near)}"] if near else []


def _plain(message: str) -> str:
    """A sentence of click's in the form of ours."""
    return f"{message[:1].lower()}{message[1:].rstrip('.')}".replace("\n", " ")


def _report(message: str, hints: Sequence[str], exit: Exit) -> Exit:
    print("\n".join([f"error: {message} (exit {int(exit)})", *(f"  {hint}" for hint in hints)]), file=sys.stderr)
    return exit
