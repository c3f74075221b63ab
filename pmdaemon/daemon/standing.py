"""What is known of a process at this moment: read by everybody, written by ``process`` alone."""

from collections.abc import Callable

from pmdaemon.core.lifecycle import STATUS, State
from pmdaemon.core.restart import End
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.child import Child
from pmdaemon.errors import PMDaemonError

__all__ = ["Standing"]


class Standing:
    """The facts of one process.

    ``spec`` is what the living child was started with; where none lives, what the next one will be started with.
    ``started_at`` and ``created_at`` are unix seconds; ``wanted`` tells whether it is to run after a daemon restart.
    ``incarnation`` numbers the child, ``became_ready`` tells whether it has come online; ``ended`` is how the
    child ended that nobody had asked to end, since the last order; ``failure`` is why there was none to end.
    """

    def __init__(
        self, now: Callable[[], float], spec: AppSpec, *, id: int, name: str, instance: int, created_at: float
    ) -> None:
        self._now = now
        self.spec = spec
        self.id = id
        self.name = name
        self.instance = instance
        self.created_at = created_at
        self.restarts = 0
        self.wanted = False
        self.incarnation: int | None = None
        self.state = State.STOPPED
        self.health = "unknown"
        self.port: int | None = None
        self.child: Child | None = None
        self.became_ready = False
        self.exit_code: int | None = None
        self.exit_signal: str | None = None
        self.failure: PMDaemonError | None = None
        self.ended: End | None = None
        self.previous_pid: int | None = None

    @property
    def app(self) -> str:
        """The name of the app this is an instance of."""
        return self.spec.name

    @property
    def namespace(self) -> str:
        """The namespace the app was put into."""
        return self.spec.namespace

    @property
    def status(self) -> str:
        """One of the six words of the wire."""
        return STATUS[self.state]

    @property
    def living(self) -> Child | None:
        """The child, or None where none lives."""
        child = self.child
        return child if child is not None and child.alive else None

    @property
    def pid(self) -> int | None:
        """The child's pid, or None where none lives."""
        child = self.living
        return child.pid if child is not None else None

    @property
    def started_at(self) -> float | None:
        """When the living child was started, unix seconds."""
        child = self.living
        return child.started_at if child is not None else None

    @property
    def uptime(self) -> float:
        """Seconds since this start, 0 where nothing runs."""
        started = self.started_at
        return max(0.0, self._now() - started) if started is not None else 0.0

    @property
    def running(self) -> bool:
        """True while a child lives that is not being ended, or is about to be started."""
        return self.state in (State.STARTING, State.ONLINE)
