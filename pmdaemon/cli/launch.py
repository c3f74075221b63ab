"""Starts a daemon in the background, and waits until it answers."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pmdaemon.cli.command import Exit, Failure
from pmdaemon.cli.place import Place
from pmdaemon.errors import PMDaemonError

__all__ = ["launch", "runs"]

_STARTING = 60.0
"""Seconds that a daemon may take to start."""


def runs(place: Place) -> bool:
    """Tell whether the daemon answers. Raises what else is wrong than that there is none."""
    try:
        with place.client() as client:
            client.ping()
    except PMDaemonError as error:
        if error.code != "NO_DAEMON":
            raise
        return False
    return True


def launch(place: Place, port: int | None) -> None:
    """Start a daemon with the home of *place*, and say so. Raises Failure where it does not come up."""
    if place.address.socket is None:
        raise Failure(
            f"cannot reach a daemon at {place.address.url}",
            "only one of this machine can be started here",
            exit=Exit.NO_DAEMON,
        )
    home = os.path.dirname(place.address.socket)
    ports = [] if port is None else ["--port", str(port)]
    code = "from twisted.scripts.twistd import run; run()"
    started = subprocess.run(
        [sys.executable, "-c", code, "pmdaemon", "--home", home, *ports],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=Path.home() if Path.home().is_dir() else "/",
        timeout=_STARTING,
        check=False,
    )
    log = f"{home}/twistd.log"
    if started.returncode != 0:
        said = (started.stderr.strip() or started.stdout.strip() or f"it ended with {started.returncode}").splitlines()
        reason = said[-1].removeprefix("pmdaemon: ")
        taken = "listen" in reason
        raise Failure(
            f"cannot start a daemon: {reason}",
            *(["choose another port: --daemon-port N"] if taken else [f"its log: {log}"]),
            exit=Exit.WEB_PORT if taken else Exit.FAILED,
        )
    until = time.monotonic() + _STARTING
    while not runs(place):
        if time.monotonic() > until:
            raise Failure("cannot start a daemon: it does not answer", f"its log: {log}", exit=Exit.NO_DAEMON)
        time.sleep(0.05)  # it is not ours any more, and tells nobody that it has its socket
    print(f"started a daemon in the background; its home is {home}, its log {log}", file=sys.stderr)
