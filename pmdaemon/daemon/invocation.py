"""From what a user declared to what is executed: argv, environment and directory of one start.

No shell ever runs a script [R5]. Reads the file system, never changes it.
"""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import PurePath

from msgspec import Struct

from pmdaemon.core.spec import AppSpec
from pmdaemon.errors import ProcessStartFailed

__all__ = ["INTERPRETERS", "Invocation", "cannot_start", "inherited", "invocation"]

INTERPRETERS = {".js": "node", ".mjs": "node", ".cjs": "node", ".py": "python3", ".sh": "sh", ".rb": "ruby"}
"""Who runs a script that is not executable, by its suffix."""

_SECRETS = ("PMDAEMON_TOKEN", "PMDAEMON_API_KEY")
_NOT_FOR_CHILDREN = frozenset(
    {"NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"}
)


class Invocation(Struct, frozen=True):
    """What one start executes."""

    argv: list[str]
    env: dict[str, str]
    cwd: str


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the daemon's own *environment* without what is a secret of the daemon's or addressed to it alone."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _NOT_FOR_CHILDREN and not name.startswith(_SECRETS)
    }


def invocation(spec: AppSpec, *, name: str, inherited: Mapping[str, str], given: Mapping[str, str]) -> Invocation:
    """Return what starting process *name* of *spec* executes.

    The environment is *inherited*, under *given* (what the daemon tells the child), under ``env_file``, under ``env``.
    Raises ProcessStartFailed with the reason where the working directory or a file is missing.
    """
    cwd = spec.cwd or os.getcwd()
    if not os.path.isdir(cwd):
        reason = f"the working directory '{cwd}' does not exist"
        raise cannot_start(name, reason, "create it, or set cwd to one that does")
    env = {"PYTHONUNBUFFERED": "1", **inherited, **given, **_from_files(spec, name), **spec.environment}
    return Invocation(_argv(spec, name, cwd, env), env, cwd)


def _from_files(spec: AppSpec, name: str) -> dict[str, str]:
    values: dict[str, str] = {}
    if not spec.env_files:
        return values
    from dotenv import dotenv_values  # of no use to a daemon without such a file

    for path in spec.env_files:
        try:
            with open(path, encoding="utf-8") as stream:
                read = dotenv_values(stream=stream, interpolate=False)
        except (OSError, UnicodeDecodeError) as why:
            reason = why.strerror if isinstance(why, OSError) else "it is not UTF-8"
            problem = f"the env_file '{path}' cannot be read: {reason}"
            raise cannot_start(name, problem, "mend the path or leave it out") from why
        values.update({key: value for key, value in read.items() if value is not None})
    return values


def _argv(spec: AppSpec, name: str, cwd: str, env: Mapping[str, str]) -> list[str]:
    words = _words(spec.script, cwd, name)
    program = _program(words[0], cwd, env.get("PATH", os.defpath))
    if program is None:
        raise cannot_start(name, _not_found(words[0], cwd, env), "check script, cwd and PATH")
    interpreter = _interpreter(spec, program)
    if not interpreter and not os.access(program, os.X_OK):
        raise cannot_start(name, f"'{program}' is not executable", "chmod +x it, or set interpreter")
    return [*interpreter, program, *words[1:], *spec.argv_tail]


def _words(script: str, cwd: str, name: str) -> list[str]:
    """Split *script* as a shell would where it holds spaces and no such file exists."""
    if not any(mark.isspace() for mark in script) or os.path.exists(os.path.join(cwd, script)):
        return [script]
    try:
        words = shlex.split(script)
    except ValueError as why:
        reason = f"the script {script!r} cannot be split into words: {str(why).lower()}"
        raise cannot_start(name, reason, "put the program in script and the rest in args") from why
    if not words or not words[0]:
        raise cannot_start(name, f"the script {script!r} names no program")
    return words


def _program(word: str, cwd: str, path: str) -> str | None:
    """Return the file that *word* means: under *cwd* first, then on *path*."""
    here = os.path.normpath(os.path.join(cwd, word))
    if os.path.isfile(here):
        return here
    return None if os.sep in word else shutil.which(word, path=path)


def _interpreter(spec: AppSpec, program: str) -> list[str]:
    chosen = spec.interpreter
    if chosen is None and not os.access(program, os.X_OK):
        chosen = INTERPRETERS.get(PurePath(program).suffix)
    if chosen in (None, "none"):
        return []
    return [chosen, *spec.interpreter_argv_tail]


def _not_found(word: str, cwd: str, env: Mapping[str, str]) -> str:
    if os.sep in word:
        return f"there is no file '{os.path.normpath(os.path.join(cwd, word))}'"
    return f"there is no program '{word}' in {cwd} or in PATH={env.get('PATH', os.defpath)}"


def cannot_start(name: str, reason: str, hint: str | None = None) -> ProcessStartFailed:
    """Word why process *name* could not be started."""
    return ProcessStartFailed(f"cannot start '{name}': {reason}", hint=hint, details={"reason": reason})
