"""Those PMDaemon is held against: how each is installed, configured and started, and PMDaemon itself in the same way.

Each is as it comes, but for what a run of equal work needs: no limit of restarts, no delay of them, no log rotation.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, Protocol

import pmdaemon
from benchmarks.daemon import running
from benchmarks.figure import OURS
from benchmarks.installed import Unavailable, npm_package, pypi_package
from benchmarks.running import Job, Running, cpu, started

__all__ = ["Peer", "Peers", "Program", "app_of", "available"]

_PATIENCE = 60.0


class Program(Protocol):
    """Starts jobs, and all that ran is ended after the ``with``."""

    def __call__(self, scratch: Path, jobs: Sequence[Job]) -> Any: ...


class Peer(NamedTuple):
    """One of them: ``run(scratch, jobs)`` is a context manager of a `Running`."""

    name: str
    version: str
    run: Program


class Peers(NamedTuple):
    """Those that can be run here, PMDaemon first, and a sentence on each that cannot."""

    all: list[Peer]
    missing: list[str]

    @property
    def versions(self) -> dict[str, str]:
        """By name."""
        return {peer.name: peer.version for peer in self.all}


def available() -> Peers:
    """Install what is not installed yet."""
    found, missing = [Peer(OURS, pmdaemon.__version__, _pmdaemon)], []
    for make in (_supervisor, _circus, _pm2):
        try:
            found.append(make())
        except Unavailable as why:
            missing.append(f"Not measured: {why}")
    return Peers(found, missing)


@contextmanager
def _pmdaemon(scratch: Path, jobs: Sequence[Job]) -> Iterator[Running]:
    with running(scratch, [app_of(job) for job in jobs]) as daemon:
        daemon.port()
        command = str(Path(sys.executable).with_name("pmdaemon"))
        env = {"PMDAEMON_HOME": str(daemon.home)}
        yield Running(daemon.pid, lambda: [daemon.keeper()], look=[command, "list"], env=env)


def app_of(job: Job) -> dict[str, Any]:
    """Return a job as it is declared to PMDaemon."""
    return {
        "name": job.name,
        "script": job.argv[0],
        "args": list(job.argv[1:]),
        "env": dict(job.env),
        "out_file": str(job.output),
        "restart_delay": 0,
        "max_restarts": 10_000,
        "log_max_size": 0,
    }


def _supervisor() -> Peer:
    programs, version = pypi_package("supervisor")

    @contextmanager
    def run(scratch: Path, jobs: Sequence[Job]) -> Iterator[Running]:
        place = Path(mkdtemp(dir=scratch))
        lines = ["[supervisord]", f"directory={place}", "pidfile=%(here)s/pid", "logfile=%(here)s/log", "minfds=3000"]
        # Where its command asks it.
        lines += [
            "",
            "[unix_http_server]",
            f"file={place}/sock",
            "",
            "[supervisorctl]",
            f"serverurl=unix://{place}/sock",
        ]
        lines += ["", "[rpcinterface:supervisor]"]
        lines += ["supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"]
        for job in jobs:
            env = ",".join(f'{name}="{value}"' for name, value in job.env.items())
            lines += ["", f"[program:{job.name}]", f"command={' '.join(job.argv)}", f"environment={env}"]
            lines += ["autorestart=true", f"stdout_logfile={job.output}", "stdout_logfile_maxbytes=0", "startsecs=0"]
        config = place / "supervisord.conf"
        config.write_text("\n".join(lines))
        with started([str(programs / "supervisord"), "-n", "-c", str(config)], place / "said", {}) as program:
            yield Running(program.pid, look=[str(programs / "supervisorctl"), "-c", str(config), "status"])

    return Peer("supervisor", version, run)


def _circus() -> Peer:
    programs, version = pypi_package("circus")

    @contextmanager
    def run(scratch: Path, jobs: Sequence[Job]) -> Iterator[Running]:
        place = Path(mkdtemp(dir=scratch))
        lines = ["[circus]", f"endpoint = ipc://{place}/endpoint", f"pubsub_endpoint = ipc://{place}/pubsub"]
        for job in jobs:
            lines += ["", f"[watcher:{job.name}]", f"cmd = {' '.join(job.argv)}", "copy_env = True"]
            lines += ["max_retry = -1", "stdout_stream.class = FileStream", f"stdout_stream.filename = {job.output}"]
            lines += ["", f"[env:{job.name}]", *(f"{name} = {value}" for name, value in job.env.items())]
        config = place / "circus.ini"
        config.write_text("\n".join(lines))
        with started([str(programs / "circusd"), str(config)], place / "said", {}) as program:
            look = [str(programs / "circusctl"), "--endpoint", f"ipc://{place}/endpoint", "status"]
            yield Running(program.pid, look=look)

    return Peer("circus", version, run)


def _pm2() -> Peer:
    programs, version = npm_package("pm2")

    @contextmanager
    def run(scratch: Path, jobs: Sequence[Job]) -> Iterator[Running]:
        place = Path(mkdtemp(dir=scratch))
        apps = [
            {
                "name": job.name,
                "script": job.argv[0],
                "args": list(job.argv[1:]),
                "interpreter": "none",
                "env": dict(job.env),
                "out_file": str(job.output),
                "error_file": str(job.output) + ".err",
                "merge_logs": True,
                "max_restarts": 10_000,
                "min_uptime": 0,
            }
            for job in jobs
        ]
        config = place / "ecosystem.json"
        config.write_text(json.dumps({"apps": apps}))
        env = {"PM2_HOME": str(place / "home"), "PM2_DISABLE_VERSION_CHECK": "true"}
        pid = place / "home" / "pm2.pid"
        command = started([str(programs / "pm2"), "start", "--silent", str(config)], place / "said", env)
        # Its command starts a daemon and waits; that one is measured.
        with command as program, _ended(pid):
            _await(pid, program)
            yield Running(int(pid.read_text()), look=[str(programs / "pm2"), "jlist"], env=env)

    return Peer("PM2", version, run)


@contextmanager
def _ended(pidfile: Path) -> Iterator[None]:
    """End a daemon in the background, which nobody waits for."""
    try:
        yield
    finally:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            running = Running(int(pidfile.read_text()))
            running.end()
            _until(lambda: not _lives(running.main))


def _await(pidfile: Path, program: "subprocess.Popen[bytes]") -> None:
    def written() -> bool:
        if program.poll():
            raise RuntimeError(f"pm2 has ended with {program.returncode}")
        return pidfile.exists() and pidfile.read_text().strip().isdigit()

    _until(written)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_PATIENCE:g} s")
        time.sleep(0.005)


def _lives(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError, RuntimeError):
        return cpu(pid) > 0
    return False
