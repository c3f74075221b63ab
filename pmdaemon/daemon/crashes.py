"""Keeps what is known of each process's latest crashes: how it ended, its last lines, its figures until then [R11]."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pmdaemon.core.events import ProcessEvent
from pmdaemon.core.lines import LineSplitter, Stream, level_of, text_of
from pmdaemon.core.past import Crash, CrashLine
from pmdaemon.core.times import rfc3339
from pmdaemon.daemon.bus import Message
from pmdaemon.daemon.history import METRICS, History
from pmdaemon.daemon.log import STREAMS
from pmdaemon.daemon.logs import Logs
from pmdaemon.daemon.logsearch import times_at
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.store import Store

__all__ = ["Crashes"]

KEPT = 5
"""Crashes of one process that are kept."""

_MAX_LINES = 200
_MAX_BYTES = 128 * 1024
_FIGURES = 300.0


class Crashes:
    """A sink of the bus: it writes a crash down while it is told, before the next child can print anything.

    *find* returns the process of an id; *begun* where the output of its latest child begins in each log.
    """

    def __init__(
        self,
        store: Store,
        logs: Logs,
        history: History,
        *,
        find: Callable[[int], Process | None],
        begun: Callable[[Process], Mapping[Stream, int]],
    ) -> None:
        self._store = store
        self._logs = logs
        self._history = history
        self._find = find
        self._begun = begun

    def offer(self, message: Message) -> None:
        """Take one event from the bus."""
        event = message.event
        if isinstance(event, ProcessEvent) and event.event == "crashed":
            process = self._find(event.id)
            if process is not None:
                self._keep(message.seq, self._crash(process, message.at, event.details))

    def flush(self) -> None:
        """Nothing waits here."""

    def _crash(self, process: Process, at: float, details: Mapping[str, Any]) -> Crash:
        return Crash(
            process=process.name,
            id=process.id,
            at=rfc3339(at),
            exit_code=details["exit_code"],
            exit_signal=details["exit_signal"],
            uptime=details["uptime"],
            attempt=details["attempt"],
            pid=process.previous_pid,
            port=process.port,
            lines=self._last_lines(process),
            metrics={metric: self._history.series(process.id, metric, at - _FIGURES, at).points for metric in METRICS},
        )

    def _last_lines(self, process: Process) -> list[CrashLine]:
        """Return the last lines of the latest child, of both streams by their times, as many as 128 KiB hold."""
        begun, seen, found = self._begun(process), set(), []
        for stream in STREAMS:
            file = self._logs.file(process, stream)
            if file.path not in seen:
                seen.add(file.path)
                end = file.end()
                start = max(begun.get(stream, 0), file.tail_start(_MAX_LINES), end - _MAX_BYTES)
                found += self._lines(process, stream, start, end)
        lines = [line for _, line in sorted(found, key=lambda each: each[0])][-_MAX_LINES:]
        while len(msgspec.json.encode(lines)) > _MAX_BYTES:
            del lines[: 1 + len(lines) // 4]
        return lines

    def _lines(self, process: Process, stream: Stream, start: int, end: int) -> list[tuple[float, CrashLine]]:
        file, splitter = self._logs.file(process, stream), LineSplitter(start)
        lines = splitter.feed(file.read(start, end))
        rest = splitter.flush(final=True)
        lines += [] if rest is None else [rest]
        found = []
        for line, at in zip(lines, times_at(file, [line.offset for line in lines]), strict=True):
            text = text_of(line)
            told = CrashLine(
                stream=stream,
                offset=line.offset,
                at=None if at is None else rfc3339(at),
                level=level_of(text, stream),
                message=text,
            )
            found.append((at or 0.0, told))
        return found

    def _keep(self, seq: int, crash: Crash) -> None:
        self._store.write("INSERT OR REPLACE INTO crashes VALUES (?, ?, ?)", seq, crash.id, msgspec.json.encode(crash))
        self._store.write(
            "DELETE FROM crashes WHERE process = ? AND seq NOT IN "
            "(SELECT seq FROM crashes WHERE process = ? ORDER BY seq DESC LIMIT ?)",
            crash.id,
            crash.id,
            KEPT,
        )

    def newest(self, id_: int) -> Crash | None:
        """Return the latest crash of a process; None where it has none."""
        row = self._store.db.execute(
            "SELECT body FROM crashes WHERE process = ? ORDER BY seq DESC LIMIT 1", (id_,)
        ).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Crash)
