"""The commands about the daemon itself: ping, upgrade, kill."""

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from pmdaemon.cli.command import Exit, Failure
from pmdaemon.cli.place import Place, connected, home_path, json_option, print_json
from pmdaemon.cli.words import how_long, how_much, span_of
from pmdaemon.errors import PMDaemonError

__all__ = ["kill_command", "pid_of", "ping_command", "upgrade_command"]

_LOOKING = 0.05


@click.command("ping")
@json_option
@connected
def ping_command(place: Place, as_json: bool) -> None:
    """See whether the daemon answers, and how quickly.

    \b
      pmdaemon ping
    """
    with place.client() as client:
        client.ping()
        begun = time.perf_counter()
        client.ping()
        took = (time.perf_counter() - begun) * 1000
        system = client.system()
    if as_json:
        print_json({"milliseconds": round(took, 3), "daemon": msgspec.to_builtins(system.daemon)})
        return
    daemon = system.daemon
    print(
        f"PMDaemon {daemon.version} at {place.address} answers in {took:.1f} ms: pid {daemon.pid}, "
        f"up {how_long(daemon.uptime)}, memory {how_much(daemon.memory)}"
    )


@click.command("upgrade")
@click.option(
    "--timeout", type=span_of, metavar="TIME", default="60s", help="How long to wait for it to be back (default: 60s)."
)
@connected
def upgrade_command(place: Place, timeout: int) -> None:
    """Put the code that is installed now in the daemon's place; its processes go on, untouched.

    \b
      pip install --upgrade pmdaemon && pmdaemon upgrade
    """
    home = _home(place, "upgrade")
    with place.client() as client:
        before = client.system().daemon
        running = {each.id: each.pid for each in client.processes()}
    pid = pid_of(home)
    if pid is None:
        raise Failure("cannot upgrade: the daemon has just ended", exit=Exit.NO_DAEMON)
    with place.client().subscribe(["process_status"], [], patience=timeout / 1000) as messages:
        messages.receive(timeout / 1000)
        os.kill(pid, signal.SIGUSR2)
        until = time.monotonic() + timeout / 1000
        kinds: list[str] = []
        try:
            while kinds[-2:] != ["disconnected", "subscribed"]:
                message = messages.receive(max(0.0, until - time.monotonic()))
                kinds += [message.type] if message is not None else []
        except TimeoutError:
            raise Failure(
                f"cannot tell whether the daemon was replaced: not within {timeout / 1000:.0f} s",
                f"its log: {home}/twistd.log, or the journal of who started it",
                exit=Exit.TIMEOUT,
            ) from None
    with place.client() as client:
        after = client.system().daemon
        kept = sum(1 for each in client.processes() if running.get(each.id) == each.pid and each.pid is not None)
    alive = sum(1 for each in running.values() if each is not None)
    print(f"the daemon is version {after.version} now, was {before.version}; {kept} of {alive} processes went on")


@click.command("kill")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, as on a terminal.")
@click.option(
    "--timeout", type=span_of, metavar="TIME", default="60s", help="How long to wait for the end of it (default: 60s)."
)
@connected
def kill_command(place: Place, yes: bool, timeout: int) -> None:
    """Stop the daemon and everything it runs. The next daemon starts what was to run.

    \b
      pmdaemon kill
    """
    home = _home(place, "kill")
    pid = pid_of(home)
    if pid is None:
        raise Failure(f"cannot stop a daemon in {home}: there is none", exit=Exit.NO_DAEMON)
    if not yes and os.isatty(0):
        click.confirm("Stop the daemon and all processes?", abort=True, err=True)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + timeout / 1000
    while pid_of(home) == pid:
        if time.monotonic() > until:
            raise Failure(
                f"cannot tell whether the daemon ends: not within {timeout / 1000:.0f} s",
                "it waits for its processes; pmdaemon list shows them",
                exit=Exit.TIMEOUT,
            )
        time.sleep(_LOOKING)  # of a process that is not ours nothing tells the end, on every system
    print(f"stopped the daemon (pid {pid}) and everything it ran")


def _home(place: Place, action: str) -> Path:
    if place.address.socket is None:
        raise Failure(
            f"cannot {action} the daemon at {place.address.url}", f"log in there: pmdaemon {action}", exit=Exit.USAGE
        )
    return home_path(os.path.dirname(place.address.socket))


def pid_of(home: Path) -> int | None:
    """Return the pid of the daemon that holds the lock of a home, None where nobody does."""
    try:
        lock = os.open(home / "daemon.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(lock)
    return None


def answers(place: Place) -> PMDaemonError | None:
    """Return why the daemon does not answer, None where it does."""
    try:
        with place.client(5.0) as client:
            client.ping()
    except PMDaemonError as error:
        return error
    return None
