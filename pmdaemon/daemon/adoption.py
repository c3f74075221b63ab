"""Takes up the children that the keeper held while no daemon was there: those that live, and how the others ended."""

from twisted.logger import Logger

from pmdaemon.daemon.child import Child
from pmdaemon.daemon.kept import Keeping, Kept
from pmdaemon.daemon.launcher import Launcher
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.keeper.table import boot

__all__ = ["Adoption"]


class Adoption:
    """Matches kept children with processes: by the process's id and the incarnation that was its latest."""

    _log = Logger()

    def __init__(self, supervisor: Supervisor, keeping: Keeping, launcher: Launcher, logs: Logs) -> None:
        self._supervisor = supervisor
        self._keeping = keeping
        self._launcher = launcher
        self._logs = logs

    def take_up(self, kids: list[Kept]) -> None:
        """Adopt those that belong to a process, end those that belong to none, then do what was missed meanwhile."""
        adopted = []
        self._take_newer(kids)
        for kept in sorted(kids, key=lambda each: int(each.id) if each.id.isdecimal() else -1):
            process = self._owner(kept)
            if process is None:
                if kept.alive:
                    self._log.warn("ending process {pid}, a child of none of the apps", pid=kept.pid)
                self._keeping.dismiss(kept)
            else:
                self._adopt(process, kept)
                adopted.append((process, kept))
        for process, kept in adopted:
            self._resume(process, kept)

    def _take_newer(self, kids: list[Kept]) -> None:
        """Believe the keeper where the state could not be written: a child it does not know came after one it knows."""
        incarnations: dict[str, set[int]] = {}
        for kept in kids:
            incarnations.setdefault(kept.id, set()).add(kept.inc)
        for kept in kids:
            process = self._supervisor.processes.get(int(kept.id)) if kept.id.isdecimal() else None
            known = None if process is None else process.incarnation
            if process is not None and known is not None and known not in incarnations[kept.id]:
                newest = max(incarnations[kept.id])
                if kept.alive and kept.inc == newest > known:
                    process.incarnation = newest

    def _owner(self, kept: Kept) -> Process | None:
        """Return whose child it is. None where its end was taken to heart already, or came with that of the machine."""
        if not kept.id.isdecimal() or kept.boot != boot():
            return None
        process = self._supervisor.processes.get(int(kept.id))
        return process if process is not None and process.incarnation == kept.inc else None

    def _adopt(self, process: Process, kept: Kept) -> None:
        out, err, _ = self._logs.paths(process)
        child = Child(process, kept.at, adopted=True)
        child.pid = kept.pid
        process.resume(child, ready=process.became_ready, health=self._supervisor.kept_health(process))
        self._launcher.adopt(process)
        self._keeping.adopt(kept, child, {"1": out, "2": err})

    def _resume(self, process: Process, kept: Kept) -> None:
        """Do what an order of earlier asked for, and judge an end that nobody asked for."""
        if not process.wanted:
            process.stop()
        elif kept.asked is not None or self._supervisor.is_renewed(process):
            process.restart()
        self._keeping.replay(kept)
