"""The daemon's home directory: its layout, its modes, and the lock that makes a daemon the only one of its home."""

import fcntl
import os
import stat
from pathlib import Path

__all__ = ["Home", "HomeError"]


class HomeError(Exception):
    """The home cannot be used; the text is one line for the user."""


class Home:
    """A home this process holds the lock of; make one with ``claim``.

    The lock ends with the process, also by ``kill -9``; children never inherit it.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @property
    def logs(self) -> Path:
        """Where the children's output goes."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Sockets that live as long as the daemon."""
        return self.path / "run"

    @property
    def state(self) -> Path:
        """The SQLite database."""
        return self.path / "state.db"

    @property
    def pidfile(self) -> Path:
        """Where twistd writes its pid unless told otherwise."""
        return self.path / "twistd.pid"

    @classmethod
    def claim(cls, path: str) -> "Home":
        """Create what is missing and take the lock. Raises HomeError, naming the pid of a daemon that holds it.

        A pid file left in the home is removed: whoever holds the lock knows that it is stale.
        """
        root = Path(os.path.abspath(os.path.expanduser(path)))
        try:
            for directory in (root, root / "logs", root / "run"):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(root)
            root.chmod(0o700)
            lock = os.open(root / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as why:
            raise HomeError(
                f"cannot use the home {root}: {(why.strerror or str(why)).lower()}; give another with --home DIR"
            ) from why
        home = cls(root, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise HomeError(
                f"cannot use the home {root}: a daemon runs on it already (pid {pid or 'not yet known'}); "
                "stop that one or give another with --home DIR"
            ) from why
        home.sign()
        home.pidfile.unlink(missing_ok=True)
        return home

    def sign(self) -> None:
        """Write this process's pid into the lock; again after twistd has put itself in the background."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock up."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _check_owner(root: Path) -> None:
    status = root.stat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(0, "it belongs to another user")
