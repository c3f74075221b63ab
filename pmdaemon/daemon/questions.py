"""Answers what clients ask of the past and of the configuration: logs, events, crashes, figures, specs [R11].

Who may ask is decided before; of which processes is told by the caller who comes along.
"""

from collections.abc import Mapping

import msgspec
from twisted.internet.interfaces import IReactorTime

from pmdaemon.core.access import Caller
from pmdaemon.core.commands import GetConfig, GetCrash, GetEvents, GetHistory, GetLogs
from pmdaemon.core.logfilter import LogFilter
from pmdaemon.core.selection import Identity, matches
from pmdaemon.core.times import unix_seconds
from pmdaemon.daemon.bus import EventBus
from pmdaemon.daemon.crashes import Crashes
from pmdaemon.daemon.describe import PAGE, bounded
from pmdaemon.daemon.dispatch import Answer, Reply
from pmdaemon.daemon.eventsearch import EventSearch
from pmdaemon.daemon.history import History
from pmdaemon.daemon.ids import is_id, seq_of
from pmdaemon.daemon.journal import Journal
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.logsearch import LogQuery, LogSearch
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.supervisor import Supervisor
from pmdaemon.errors import InvalidMessage, LimitExceeded

__all__ = ["Questions"]

_LINES = _EVENTS = 100
_HOUR = 3600.0


class Questions:
    """What is known beside the present; ``answers`` is for the dispatcher."""

    def __init__(
        self,
        clock: IReactorTime,
        supervisor: Supervisor,
        bus: EventBus,
        journal: Journal,
        logs: Logs,
        *,
        crashes: Crashes,
        history: History,
    ) -> None:
        self._supervisor = supervisor
        self._bus = bus
        self._journal = journal
        self._logs = LogSearch(clock, logs.paths, logs.owner, page=PAGE)
        self._events = EventSearch(clock, journal, page=PAGE)
        self._crashes = crashes
        self._history = history
        self.answers: Mapping[type, Answer] = {
            GetLogs: self._get_logs,
            GetEvents: self._get_events,
            GetCrash: self._get_crash,
            GetHistory: self._get_history,
            GetConfig: self._get_config,
        }

    async def _get_logs(self, request: GetLogs, caller: Caller) -> Reply:
        processes = self._supervisor.select(request.process, caller.processes)
        chosen = LogFilter(level=request.level, stream=request.stream, grep=request.grep, regex=bool(request.regex))
        since = None if request.since is None else self._time(request.since)
        query = LogQuery(lines=request.lines or _LINES, filter=chosen, since=since, cursor=request.cursor)
        page = await self._logs.page(processes, query)
        data = {"process": request.process, "lines": page.lines, "more": page.cursor is not None}
        return Reply("logs", {**data, "cursor": page.cursor})

    async def _get_events(self, request: GetEvents, caller: Caller) -> Reply:
        def wanted(who: Identity) -> bool:
            return who in caller.processes and (request.process is None or matches(request.process, who))

        after = None if request.since is None else self._after(request.since)
        page = await self._events.page(wanted, request.limit or _EVENTS, after=after, cursor=request.cursor)
        if not page.events and page.cursor is None and request.cursor is None:
            self._supervisor.select(request.process, caller.processes)  # who is nobody, and never was
        data = {"process": request.process, "events": page.events, "more": page.cursor is not None}
        return Reply("events", {**data, "cursor": page.cursor})

    async def _get_crash(self, request: GetCrash, caller: Caller) -> Reply:
        process = self._one(request.process, caller)
        return Reply("crash", {"process": process.name, "crash": self._crashes.newest(process.id)})

    async def _get_history(self, request: GetHistory, caller: Caller) -> Reply:
        process = self._one(request.process, caller)
        end = self._bus.now() if request.to is None else _moment(request.to, "to")
        start = end - _HOUR if request.from_ is None else _moment(request.from_, "from")
        series = self._history.series(process.id, request.metric, start, end)
        data = {"process": process.name, "metric": request.metric}
        return Reply("history", {**data, "resolution": series.resolution, "points": series.points})

    async def _get_config(self, request: GetConfig, caller: Caller) -> Reply:
        selected = self._supervisor.select(request.process, caller.processes)
        (name, *others) = dict.fromkeys(process.app for process in selected)
        if others:
            raise _not_one(request.process, f"{1 + len(others)} apps", "app")
        app = self._supervisor.apps[name]
        config = msgspec.to_builtins(app.spec) if request.secrets else bounded(app.spec.public())
        if len(msgspec.json.encode(config)) > PAGE:
            raise LimitExceeded(
                f"cannot send the configuration of '{name}': it is larger than a message may be",
                details={"limit": PAGE},
            )
        return Reply("config", {"app": name, "source": app.source, "config": config})

    def _one(self, selector: str | int, caller: Caller) -> Process:
        selected = self._supervisor.select(selector, caller.processes)
        if len(selected) != 1:
            raise _not_one(selector, f"{len(selected)} processes", "process")
        return selected[0]

    def _time(self, since: int | str) -> float:
        """Return the unix seconds that *since* means; an id whose time nobody knows is from before all there is."""
        if isinstance(since, str) and is_id(since):
            return self._bus.time_of(seq_of(since, self._bus.last)) or 0.0
        return _moment(since, "since")

    def _after(self, since: int | str) -> int:
        """Return the number after which the events come that *since* means."""
        if isinstance(since, str) and is_id(since):
            return seq_of(since, self._bus.last)
        return self._journal.last_before(_moment(since, "since"), self._bus.last)


def _moment(value: int | str, key: str) -> float:
    try:
        return unix_seconds(value)
    except ValueError:
        raise InvalidMessage(
            f"cannot read the request: {key} is not a time",
            hint='write it as "2026-01-31T12:00:00Z", or in unix milliseconds',
            details={"path": f"data.{key}"},
        ) from None


def _not_one(selector: str | int, several: str, what: str) -> InvalidMessage:
    return InvalidMessage(
        f"cannot answer for '{selector}': it means {several}",
        hint=f"name one {what}",
        details={"path": "data.process"},
    )
