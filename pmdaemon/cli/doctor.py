"""``pmdaemon doctor``: whether the daemon and what it needs are as they should be."""

import os
import resource
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

import pmdaemon
from pmdaemon.cli.command import Exit
from pmdaemon.cli.daemon import answers, pid_of
from pmdaemon.cli.place import Place, connected, home_path, json_option, print_json
from pmdaemon.cli.words import how_long, how_much, moment
from pmdaemon.client import Message, SystemInfo

__all__ = ["doctor_command"]

_LITTLE_SPACE = 100 * 1024 * 1024
_FEW_FILES = 1024
_PRIVATE = ("tokens.json", "state.db", "audit.jsonl", "api.sock")


class Finding(NamedTuple):
    """One thing that was looked at; ``hint`` says what to do where it is not ``ok``."""

    ok: bool
    what: str
    hint: str = ""


@click.command("doctor")
@json_option
@connected
def doctor_command(place: Place, as_json: bool) -> int:
    """Check the daemon and what it needs; the exit code is 1 where something is wrong.

    \b
      pmdaemon doctor
    """
    findings = list(_findings(place))
    if as_json:
        print_json({"findings": [each._asdict() for each in findings]})
    else:
        paint: Callable[[str, str], str] = place.terminal.paint
        for each in findings:
            print(f"{paint('ok   ', 'green') if each.ok else paint('wrong', 'red bold')}  {each.what}")
            if not each.ok and each.hint:
                print(f"       {each.hint}")
    return Exit.OK if all(each.ok for each in findings) else Exit.FAILED


def _findings(place: Place) -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(sys.version_info >= (3, 11), f"Python {python}, PMDaemon {pmdaemon.__version__}", "3.11 is needed")
    if place.address.socket is not None:
        yield from _of_home(home_path(os.path.dirname(place.address.socket)))
    why = answers(place)
    if why is not None:
        hint = place.failure(why).hints
        yield Finding(False, why.message, hint[0] if hint else "")
        return
    with place.client() as client, client.subscribe(["process_status"], []) as messages:
        yield from _of_daemon(client.system(), messages.receive(10.0))
        processes = client.processes()
        client.close()
    errored = [each.name for each in processes if each.status == "errored"]
    yield Finding(
        not errored, f"{len(processes)} processes, {len(errored)} errored", f"pmdaemon why {' '.join(errored[:1])}"
    )
    unhealthy = [each.name for each in processes if each.health == "unhealthy"]
    if unhealthy:
        yield Finding(False, f"unhealthy: {', '.join(unhealthy)}", "pmdaemon health")


def _of_home(home: Path) -> Iterator[Finding]:
    if not home.is_dir():
        yield Finding(False, f"there is no home {home}", "a daemon makes it: pmdaemon start")
        return
    status = home.stat()
    ours = status.st_uid == os.geteuid() or os.geteuid() == 0
    yield Finding(ours, f"the home {home} belongs to you", "give your own with --home")
    open_to = [
        str(path)
        for path in (home, *(home / name for name in _PRIVATE))
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    yield Finding(not open_to, "nobody else can read its files", f"chmod go= {' '.join(open_to)}")
    free = shutil.disk_usage(home).free
    yield Finding(
        free > _LITTLE_SPACE, f"{how_much(free)} are free on its disk", "logs cannot be written on a full disk"
    )
    pid = pid_of(home)
    yield Finding(pid is not None, f"a daemon holds it, pid {pid}" if pid else "no daemon holds it", "pmdaemon start")
    if pid is not None:
        soft = _open_files(pid)
        yield Finding(
            soft >= _FEW_FILES, f"it may open {soft} files", "raise its limit: LimitNOFILE in the unit, or ulimit -n"
        )


def _open_files(pid: int) -> int:
    """Return how many files a process may have open."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except (OSError, ValueError):
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _of_daemon(system: SystemInfo, message: Message | None) -> Iterator[Finding]:
    daemon = system.daemon
    yield Finding(True, f"the daemon answers: pid {daemon.pid}, up {how_long(daemon.uptime)}, on {system.hostname}")
    same = daemon.version == pmdaemon.__version__
    yield Finding(same, f"it is version {daemon.version}", "what is installed is another: pmdaemon upgrade")
    yield Finding(
        daemon.loop_lag < 250, f"it is {daemon.loop_lag:.1f} ms late", "the machine, or the daemon, is overloaded"
    )
    free = system.memory.usage_percent < 95
    yield Finding(
        free, f"{system.memory.usage_percent:.0f} % of the memory is in use", "processes may be killed for memory"
    )
    if message is not None and message.timestamp:
        apart = abs(moment(message.timestamp).timestamp() - time.time())
        yield Finding(apart < 5, f"its clock and ours are {apart:.1f} s apart", "set the clocks by NTP")
