"""Starts a program in a session of its own, or says at once and in plain words why it cannot be started."""

import errno
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pmdaemon.keeper.identity import Owner

__all__ = ["SpawnError", "launch", "refusal"]

# What shells and daemons ignore, and what may be a stop signal. SIGPIPE, which Python ignores, is reset by Popen.
_NAMES = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "TSTP", "TTIN", "TTOU")
_INHERITED = tuple(signal.Signals[f"SIG{name}"] for name in _NAMES)


class SpawnError(Exception):
    """A program could not be started; ``reason`` is a plain clause, ``errno`` the system's number, 0 if it has none."""

    def __init__(self, reason: str, errno: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.errno = errno


def launch(
    argv: Sequence[str],
    *,
    executable: str | None,
    env: Mapping[str, str],
    cwd: str | None,
    umask: int = -1,
    owner: Owner | None = None,
    nofile: tuple[int, int] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start ``argv`` with pipes for its output and nothing to read; returns when exec has succeeded.

    A name without a slash is looked up in the PATH of ``env``, a relative path from ``cwd``. ``umask`` is the
    program's, -1 for ours; ``owner`` is whom it runs as, None for whoever we are; ``nofile`` are its soft and hard
    limit of descriptors, None for what we have. The caller reaps: it must set ``returncode`` when it has, so that the
    object never waits for a pid that may be another's by then. Raises SpawnError.
    """
    program = executable or argv[0]
    how: dict[str, Any] = {}
    if owner is not None:
        how = {"user": owner.uid, "group": owner.gid, "extra_groups": owner.groups}
    if nofile is not None:
        how["preexec_fn"] = partial(resource.setrlimit, resource.RLIMIT_NOFILE, nofile)  # short, and takes no lock
    try:
        with _no_signal_ignored():
            return subprocess.Popen(
                argv,
                executable=executable,
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=env,
                start_new_session=True,
                umask=umask,
                **how,
            )
    except OSError as problem:
        raise SpawnError(refusal(problem, program, env, cwd), problem.errno or 0) from problem
    except ValueError as problem:  # a NUL in an argument, "=" in the name of a variable
        raise SpawnError(f"{program!r} cannot be passed what it is given: {problem}", errno.EINVAL) from problem


@contextmanager
def _no_signal_ignored() -> Iterator[None]:
    """What a daemon ignores, its children would ignore from birth, and never stop by it.

    One started with `nohup`, or by a script with `&`, ignores SIGHUP or SIGINT. A signal that is caught is reset by
    exec, one that is ignored stays so: for the moment of the spawn they are caught, and dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what is done with signals
        return
    ignored = [number for number in _INHERITED if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _drop)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _drop(number: int, frame: object) -> None:
    """As good as ignored."""


def refusal(problem: OSError, program: str, env: Mapping[str, str], cwd: str | None) -> str:
    """Return in a plain clause why the system would not execute *program*: see `launch`.

    Where it is *cwd* that stood in the way, it is the problem's file name.
    """
    if cwd is not None and problem.filename == cwd and not os.path.isdir(cwd):
        found = "is not a directory" if os.path.exists(cwd) else "does not exist"
        return f"the working directory {cwd!r} {found}"
    if cwd is not None and problem.filename == cwd:
        return f"the working directory {cwd!r} cannot be entered: {_words(problem)}"
    path = _find(program, env, cwd)
    if path is None:
        return f"no such program {program!r} in PATH={os.pathsep.join(os.get_exec_path(env))}"
    return _reason_of_file(problem, path)


def _reason_of_file(problem: OSError, path: str) -> str:
    if problem.errno == errno.ENOENT and not os.path.lexists(path):
        return f"no such file {path!r}"
    if problem.errno == errno.ENOENT and not os.path.exists(path):
        return f"{path!r} is a link to nothing"
    if problem.errno == errno.ENOENT:
        interpreter = _interpreter(path)
        return f"{path!r} needs {interpreter or 'a loader'!r}, which does not exist"
    if problem.errno == errno.EACCES and os.path.isdir(path):
        return f"{path!r} is a directory"
    if problem.errno == errno.EACCES and not os.access(path, os.X_OK):
        return f"{path!r} is not executable"
    if problem.errno == errno.ENOEXEC:
        return f"{path!r} cannot be executed: exec format error, no '#!' line?"
    if problem.errno == errno.E2BIG:
        return f"{path!r} cannot be passed arguments and environment of that size"
    return f"{path!r} cannot be executed: {_words(problem)}"


def _words(problem: OSError) -> str:
    return os.strerror(problem.errno).lower() if problem.errno else str(problem)


def _find(program: str, env: Mapping[str, str], cwd: str | None) -> str | None:
    """The file that was or would be executed, made absolute; None when no directory of PATH has one."""
    start = cwd or os.getcwd()
    if os.path.dirname(program):
        return os.path.join(start, program)
    places = (os.path.join(start, place, program) for place in os.get_exec_path(env))
    return next((path for path in places if os.path.lexists(path)), None)


def _interpreter(path: str) -> str | None:
    """The program a script's first line names, or None."""
    try:
        with open(path, "rb") as file:
            line = file.read(256).split(b"\n", 1)[0]
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    # Blanks only: a carriage return is part of the name, and the usual reason why there is no such interpreter.
    return os.fsdecode(line[2:].replace(b"\t", b" ").strip(b" ").split(b" ")[0])
