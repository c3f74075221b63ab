"""Holds every app and every process, and what of them is kept: the desired state.

What commands do to processes is ``operations``; what a process does by itself is ``process``.
"""

from collections.abc import Callable, Iterable, Set

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from pmdaemon.core.lifecycle import RESTING, State
from pmdaemon.core.selection import EVERYTHING, Selection, close_matches, matches
from pmdaemon.core.spec import AppSpec
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.means import Means
from pmdaemon.daemon.orders import OrderQueue
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.store import Store, StoredApp, StoredProcess
from pmdaemon.errors import InvalidConfiguration, LimitExceeded, ProcessAlreadyExists, ProcessNotFound

__all__ = ["MAX_PROCESSES", "App", "Supervisor"]

MAX_PROCESSES = 1000
"""Processes of one daemon."""


class App:
    """A declared app and its processes by name; ``source`` is the file it came from.

    ``queue`` holds the changes of the app as a whole that are pending; those of one process have a queue of their own.
    """

    def __init__(self, spec: AppSpec, source: str | None) -> None:
        self.spec = spec
        self.source = source
        self.processes: dict[str, Process] = {}
        self.queue = OrderQueue(spec.name)


class Supervisor:
    """The processes of one daemon; *cores* is what ``instances: max`` means, *keeper* whether one holds children."""

    _log = Logger()

    def __init__(self, store: Store, logs: Logs, *, cores: int, now: Callable[[], float], keeper: bool = True) -> None:
        self._store = store
        self._logs = logs
        self._cores = cores
        self._keeper = keeper
        self._now = now
        self._queues: dict[int, OrderQueue] = {}
        self._saved: dict[int, StoredProcess] = {}
        self._passing: set[Process] = set()
        self._renewed: set[str] = set()
        self.means: Means
        self.apps: dict[str, App] = {}
        self.processes: dict[int, Process] = {}
        self.closing = False

    # What there is

    def select(self, selector: str | int | None, within: Selection = EVERYTHING) -> list[Process]:
        """Return the processes a selector means, by id [P3]; None means all. Raises ProcessNotFound for none.

        *within* are the only processes that exist for who asks: of others not even the name is told.
        """
        everyone = [self.processes[id_] for id_ in sorted(self.processes) if self.processes[id_] in within]
        if selector is None or selector == "all":
            return everyone
        found = [process for process in everyone if matches(selector, process)]
        if not found:
            names = [name for process in everyone for name in (process.app, process.name)]
            near = close_matches(selector, list(dict.fromkeys(names)))
            raise ProcessNotFound(
                f"cannot find a process '{selector}'",
                hint=f"did you mean {', '.join(near)}?" if near else "get_info without a process lists them all",
                details={"matches": near},
            )
        return found

    def present(self, process: Process) -> Process:
        """Return *process*, or who has taken its place [R6]. Raises ProcessNotFound where it was deleted."""
        try:
            return self.processes[process.id]
        except KeyError:
            raise ProcessNotFound(
                f"cannot find the process '{process.name}' any more: it was deleted meanwhile",
                details={"matches": []},
            ) from None

    def queue(self, process: Process) -> OrderQueue:
        """Return the pending commands of a process. Raises ProcessNotFound where it was deleted."""
        return self._queues[self.present(process).id]

    def leaving(self, app: App) -> bool:
        """Tell whether every process of *app* is about to be deleted."""
        return all(self._queues[process.id].newest == "delete" for process in app.processes.values())

    def roots(self) -> dict[int, int]:
        """Return process id -> pid of every living child."""
        return {id_: process.pid for id_, process in self.processes.items() if process.pid is not None}

    def uptimes(self) -> dict[int, float]:
        """Return process id -> seconds since its start, of every living child."""
        return {id_: process.uptime for id_, process in self.processes.items() if process.pid is not None}

    def log_paths(self, process: Process) -> list[str]:
        """Return the files that a process's output goes to, each once."""
        return list(dict.fromkeys(path for path in self._logs.paths(process) if path is not None))

    def newcomer(self, old: Process, spec: AppSpec) -> Process:
        """Return a silent process that may take over from *old* [R6]; ``dismiss`` it or let it ``replace`` the old."""
        process = self._make(spec, id_=old.id, instance=old.instance, name=old.name, muted=True)
        process.created_at = old.created_at
        self._passing.add(process)
        return process

    def replace(self, old: Process, new: Process) -> None:
        """Put *new* in the place of *old*, which goes on as a passing one until it is dismissed."""
        new.take_over(old)
        self.apps[old.app].processes[old.name] = new
        self.processes[old.id] = new
        self._passing.discard(new)
        self._passing.add(old)
        self.save(new)

    def dismiss(self, process: Process) -> None:
        """Hold a passing process no longer; it has ended."""
        self._passing.discard(process)

    def kept_health(self, process: Process) -> str:
        """Return the health that an earlier daemon knew of the child that is adopted."""
        kept = self._saved.get(process.id)
        return "unknown" if kept is None else kept.health

    def is_renewed(self, process: Process) -> bool:
        """Tell whether the ecosystem file gave the process another configuration than its living child has."""
        return process.app in self._renewed

    # What is declared

    def load(self) -> None:
        """Take up what the store holds; nothing is started yet.

        A process that its app no longer has is dropped: the daemon was killed while it changed the app.
        """
        for stored in self._store.apps():
            self.apps[stored.spec.name] = App(stored.spec, stored.source)
        for kept in self._store.processes():
            app = self.apps.get(kept.app)
            if app is not None:
                process = self._make(app.spec, id_=kept.id, instance=kept.instance, name=kept.name)
                process.created_at, process.restarts, process.wanted = kept.created_at, kept.restarts, kept.wanted
                process.incarnation, process.became_ready, process.port = kept.incarnation, kept.ready, kept.port
                process.policy.restore(list(kept.failures))
                self._saved[process.id] = kept
                self._add(app, process)
        for app in list(self.apps.values()):
            self._drop_surplus(app, app.spec)

    def declare(self, spec: AppSpec, source: str | None) -> App:
        """Take up a new app with all its processes, not started. Raises ProcessAlreadyExists or LimitExceeded."""
        self.check(spec)
        app = self.apps[spec.name] = App(spec, source)
        self._store.save_app(StoredApp(spec, source))
        self.resize(app)
        return app

    def check(self, spec: AppSpec, old: App | None = None) -> None:
        """Raise what stands against *spec* as a new app, or in the place of *old*."""
        mine = set() if old is None else {process.name for process in old.processes.values()}
        taken = ({process.name for process in self.processes.values()} | set(self.apps)) - mine
        if old is not None:
            taken.discard(old.spec.name)
        names = self.names(spec)
        used = sorted(taken.intersection([spec.name, *names]))
        if used:
            raise ProcessAlreadyExists(
                f"cannot start '{spec.name}': the name '{used[0]}' is in use",
                hint="choose another name",
            )
        if len(self.processes) - len(mine) + len(names) > MAX_PROCESSES:
            raise LimitExceeded(
                f"cannot start '{spec.name}': a daemon holds at most {MAX_PROCESSES} processes",
                hint="delete some, or use fewer instances",
                details={"limit": MAX_PROCESSES},
            )
        self._check_logs(spec, mine)
        if not self._keeper and spec.needs_keeper:
            raise InvalidConfiguration(
                f"cannot start '{spec.name}': {spec.needs_keeper[0]} needs the keeper",
                hint="start the daemon without --no-keeper, or leave it out",
                details={"path": f"config.{spec.needs_keeper[0]}"},
            )

    def _check_logs(self, spec: AppSpec, mine: set[str]) -> None:
        """A line's process is known by its file, so no two apps may share one."""
        wanted = {path for path in (spec.out_file, spec.error_file, spec.log_file) if path is not None}
        for app in self.apps.values():
            other = {app.spec.out_file, app.spec.error_file, app.spec.log_file}
            shared = wanted & {path for path in other if path is not None}
            if shared and app.spec.name != spec.name:
                raise InvalidConfiguration(
                    f"cannot start '{spec.name}': its log {sorted(shared)[0]} is already the log of '{app.spec.name}'",
                    hint="give each app log files of its own",
                    other=app.spec.name,
                )

    def names(self, spec: AppSpec) -> list[str]:
        """Return the names of the processes that *spec* asks for, by instance [P3]."""
        return spec.process_names(self._cores)

    def resize(self, app: App, without: Set[str] = frozenset()) -> list[Process]:
        """Create the processes that *app*'s spec asks for and that are not there, but for those named in *without*."""
        created = []
        for instance, name in enumerate(self.names(app.spec)):
            if name not in app.processes and name not in without:
                process = self._make(app.spec, id_=self._store.new_process_id(), instance=instance, name=name)
                self._add(app, process)
                self.save(process)
                created.append(process)
        return created

    def redeclare(self, app: App, spec: AppSpec, source: str | None) -> None:
        """Give an app another spec; its processes take it up one by one."""
        app.spec, app.source = spec, source
        self._store.save_app(StoredApp(spec, source))

    def _make(self, spec: AppSpec, *, id_: int, instance: int, name: str, muted: bool = False) -> Process:
        return Process(self.means, spec, id=id_, name=name, instance=instance, created_at=self._now(), muted=muted)

    def _add(self, app: App, process: Process) -> None:
        app.processes[process.name] = process
        self.processes[process.id] = process
        self._queues[process.id] = OrderQueue(process.name)

    def save(self, process: Process) -> None:
        """Keep what is to outlive the daemon where it has changed, unless the process is only passing."""
        if self.processes.get(process.id) is not process:
            return
        kept = StoredProcess(
            process.id,
            process.app,
            process.instance,
            process.name,
            process.wanted,
            process.restarts,
            process.created_at,
            process.incarnation,
            process.became_ready,
            process.health,
            process.port,
            tuple(process.policy.saved()),
        )
        if self._saved.get(process.id) != kept:
            self._saved[process.id] = kept
            self._store.save_process(kept)

    def save_all(self) -> None:
        """Keep everything, whether it has changed or not."""
        self._saved.clear()
        for app in self.apps.values():
            self._store.save_app(StoredApp(app.spec, app.source))
        for process in self.processes.values():
            self.save(process)

    def forget(self, process: Process, *, purge: bool = False) -> None:
        """Drop a process that has ended, and its app with the last of them [R7]."""
        self.processes.pop(process.id, None)
        self._queues.pop(process.id, None)
        self._saved.pop(process.id, None)
        self._logs.forget(process, purge=purge)
        self._store.forget_process(process.id)
        app = self.apps[process.app]
        app.processes.pop(process.name, None)
        if not app.processes:
            del self.apps[process.app]
            self._store.forget_app(process.app)

    def configure(self, specs: Iterable[AppSpec], source: str) -> None:
        """Take up an ecosystem file: its apps win over kept ones of the same name, others stay.

        A new app is wanted unless its ``autostart`` is false; of a known one, what was stopped stays stopped.
        Raises what ``check`` raises, before anything was changed by that app.
        """
        for spec in specs:
            app = self.apps.get(spec.name)
            if app is None:
                wanted, created = spec.autostart, list(self.declare(spec, source).processes.values())
            else:
                self.check(spec, app)
                wanted = any(process.wanted for process in app.processes.values())
                created = self._rebuild(app, spec, source)
            for process in created:
                process.wanted = wanted
                self.save(process)

    def _rebuild(self, app: App, spec: AppSpec, source: str) -> list[Process]:
        """Put *spec* in the place of an app's that does not run; return the processes that are new."""
        self._drop_surplus(app, spec)
        app = self.apps.setdefault(spec.name, app)
        if app.spec != spec:
            self._renewed.add(spec.name)
        self.redeclare(app, spec, source)
        for process in app.processes.values():
            process.adopt(spec)
        return self.resize(app)

    def _drop_surplus(self, app: App, spec: AppSpec) -> None:
        keep = set(self.names(spec))
        for process in list(app.processes.values()):
            if process.name not in keep:
                self.forget(process)

    # The daemon's own life

    def start(self) -> None:
        """Start what is wanted, by id."""
        for process in self.select(None):
            if process.wanted and process.state is State.STOPPED:
                process.start()

    def stop(self) -> "Deferred[list[State]]":
        """Signal all children at once, highest id first; fires when all have ended. What is wanted stays wanted.

        Commands that are pending end with OPERATION_FAILED, so that none of them starts a child again.
        """
        self.closing = True
        for queue in (*(app.queue for app in self.apps.values()), *self._queues.values()):
            queue.close("the daemon is stopping")
        everyone = [each for each in {*self.processes.values(), *self._passing} if each.state not in RESTING]
        everyone.sort(key=lambda each: each.id, reverse=True)
        for process in everyone:
            process.stop("shutdown")
        return gatherResults([process.settled(*RESTING) for process in everyone])
