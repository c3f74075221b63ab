"""The daemon's home directory: its layout, its modes, and the lock that makes a daemon the only one of its home."""

import errno
import fcntl
import hashlib
import os
from pathlib import Path

__all__ = ["Home", "HomeError"]


class HomeError(Exception):
    """The home cannot be used; the text is one line for the user."""


class Home:
    """A home this process holds the lock of; make one with ``claim``.

    The lock ends with the process, also by ``kill -9``, and not before: twistd removes its pid file at the very end.
    Children never inherit it.
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
    def public_run(self) -> Path:
        """Sockets as in ``run`` that other users are to get to, which they cannot in a home. Only root can make it."""
        return Path("/run") / f"pmdaemon-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]}"

    @property
    def state(self) -> Path:
        """The SQLite database."""
        return self.path / "state.db"

    @property
    def tokens(self) -> Path:
        """What lets others in; written by the command line too."""
        return self.path / "tokens.json"

    @property
    def audit(self) -> Path:
        """Who had what done."""
        return self.path / "audit.jsonl"

    @property
    def socket(self) -> Path:
        """Where the API is served to this user and to root."""
        return self.path / "api.sock"

    @property
    def pidfile(self) -> Path:
        """Where twistd writes its pid unless told otherwise."""
        return self.path / "twistd.pid"

    @property
    def log(self) -> Path:
        """Where a daemon in the background writes its log unless told otherwise."""
        return self.path / "twistd.log"

    @classmethod
    def claim(cls, path: str) -> "Home":
        """Create what is missing and take the lock. Raises HomeError, naming the pid of a daemon that holds it.

        A pid file left in the home is removed: whoever holds the lock knows that it is stale.
        """
        expanded = os.path.expanduser(path)
        if expanded.startswith("~"):
            raise HomeError(f"cannot tell where the home {path} is: there is no such user; give it with --home DIR")
        root = Path(os.path.abspath(expanded))
        try:
            lock = _prepare(root)
            _lock(root, lock)
            home = cls(root, lock)
            home.sign()
            home.pidfile.unlink(missing_ok=True)
        except OSError as why:
            place = "" if why.filename in (None, str(root)) else f"{why.filename}: "
            reason = (why.strerror or str(why)).lower()
            raise HomeError(f"cannot use the home {root}: {place}{reason}; give another with --home DIR") from why
        return home

    def sign(self) -> None:
        """Write this process's pid into the lock; again after twistd has put itself in the background."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)


def _prepare(root: Path) -> int:
    """Create the directories, for this user alone, and return the open lock file."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user")
    root.chmod(0o700)
    for directory in (root / "logs", root / "run"):
        directory.mkdir(mode=0o700, exist_ok=True)
    return os.open(root / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock(root: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as why:
        pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise HomeError(
            f"cannot use the home {root}: a daemon runs on it already (pid {pid or 'not yet known'}); "
            "stop that one or give another with --home DIR"
        ) from why
