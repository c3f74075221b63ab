"""The keys that do something to the selected process, and those that open what is to be read about it."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from textual.app import App

from pmdaemon.cli.terminal import Terminal
from pmdaemon.client import (
    Client,
    Command,
    CommandResult,
    Delete,
    Flush,
    PMDaemonError,
    Reload,
    Reset,
    Restart,
    Scale,
    Signal,
    Start,
    Stop,
)
from pmdaemon.monit.dialogs import Ask, Confirm, Line, Reader
from pmdaemon.monit.model import Model
from pmdaemon.monit.notices import Notices
from pmdaemon.monit.table import Table
from pmdaemon.monit.views import events_text, help_text, info_text, why_text

__all__ = ["Acting"]

_DOING: Final = {
    "start": ("starting", "started"),
    "stop": ("stopping", "stopped"),
    "restart": ("restarting", "restarted"),
    "reload": ("reloading", "reloaded"),
    "scale": ("scaling", "scaled"),
    "signal": ("signalling", "signalled"),
    "reset": ("resetting", "reset"),
    "flush": ("flushing", "flushed"),
    "delete": ("deleting", "deleted"),
}
_PLAIN: Final = {"start": Start, "stop": Stop, "restart": Restart, "reload": Reload, "reset": Reset, "flush": Flush}
_MOST: Final = 1000
_GOODBYE: Final = 0.3
"""Seconds."""


class Acting(App[None]):
    """An application that has a client, a table with a selected process, and a place for what came of it."""

    def __init__(self, client: Client, *, unicode: bool) -> None:
        super().__init__(ansi_color=True)
        self.client = client
        self.terminal = Terminal(is_terminal=True, colors=True, unicode=unicode)
        self.model = Model(time.monotonic)
        self.table = Table(self.model, unicode=unicode)
        self.notices = Notices(time.monotonic, id="notices")
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do something beside, until it is done or the application ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """End what is done beside, and the client, without waiting long for the daemon to say good-bye."""
        for task in list(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(_GOODBYE):
                await asyncio.gather(*self._tasks, self.client.close(), return_exceptions=True)
        except TimeoutError:
            pass

    # Commands

    def action_act(self, action: str) -> None:
        """Carry out a command that needs nothing but a process."""
        entry = self.table.entry
        if entry is not None:
            self._order(entry.name, _PLAIN[action](process=entry.id))

    def action_scale(self) -> None:
        """Ask how many processes an app shall have."""
        entry = self.table.entry
        if entry is None:
            return
        app = entry.app
        count = sum(row.entry.app == app for row in self.model.rows.values())

        def problem(value: str) -> str | None:
            right = value.isdecimal() and 1 <= int(value) <= _MOST
            return None if right else f"'{value}' is not a number from 1 to {_MOST}"

        def answered(value: str | None) -> None:
            if value is not None:
                self._order(app, Scale(process=app, instances=int(value)))

        hint = f"1 to {_MOST}; it has {count} now"
        self.push_screen(Ask(f"How many processes shall {app} have?", hint, str(count), problem), answered)

    def action_signal(self) -> None:
        """Ask which signal to send."""
        entry = self.table.entry
        if entry is None:
            return
        name, id_ = entry.name, entry.id

        def problem(value: str) -> str | None:
            known = f"SIG{value.upper().removeprefix('SIG')}" in signal.Signals.__members__
            return None if known else f"'{value}' is not a signal"

        def answered(value: str | None) -> None:
            if value is not None:
                self._order(name, Signal(process=id_, signal=value.upper()))

        self.push_screen(
            Ask(f"Which signal to {name}?", "HUP, INT, USR1, USR2, TERM, KILL ...", "HUP", problem), answered
        )

    def action_delete(self) -> None:
        """Delete a process, if that is confirmed."""
        entry = self.table.entry
        if entry is None:
            return
        name, id_ = entry.name, entry.id

        def answered(sure: bool | None) -> None:
            if sure:
                self._order(name, Delete(process=id_))

        runs = "It is stopped, with everything it has started, and forgotten" if entry.pid else "It is forgotten"
        self.push_screen(Confirm(f"Delete {name}?", f"{runs}; its logs stay."), answered)

    def _order(self, name: str, command: Command) -> None:
        self.notices.say(name, f"{_DOING[command.action][0]} {name}{self._mark()}", lasting=True)
        self.begin(self._carry_out(name, command))

    def _mark(self) -> str:
        return "…" if self.terminal.unicode else "..."

    async def _carry_out(self, name: str, command: Command) -> None:
        begun = time.monotonic()
        try:
            result = await self.client.command(command)
        except PMDaemonError as why:
            self.notices.fail(name, why)
        else:
            self.notices.say(name, _worded(name, result, time.monotonic() - begun))

    # Reading

    def action_info(self) -> None:
        """Show all that is known of the selected process."""
        self._read_about("", lambda id_: info_text(self.client, id_, self.terminal))

    def action_why(self) -> None:
        """Show how the selected process came to be as it is."""
        self._read_about("Why: ", lambda id_: why_text(self.client, id_, self.terminal))

    def _read_about(self, title: str, ask: Callable[[int], Coroutine[Any, Any, list[Line]]]) -> None:
        entry = self.table.entry
        if entry is not None:
            self.begin(self._open(f"{title}{entry.name}", entry.name, ask(entry.id)))

    async def _open(self, title: str, name: str, asked: Coroutine[Any, Any, list[Line]]) -> None:
        try:
            text = await asked
        except PMDaemonError as why:
            self.notices.fail(name, why)
        else:
            self.push_screen(Reader(title, lambda: text))

    def action_events(self) -> None:
        """Show what happened to all processes, and happens."""
        model, terminal = self.model, self.terminal
        self.push_screen(Reader("Events, the latest first", lambda: events_text(model.events, terminal), live=True))

    def action_help(self) -> None:
        """Show the keys."""
        text = help_text()
        self.push_screen(Reader("Keys", lambda: text))

    def action_leave(self) -> None:
        """End it."""
        self.exit()


def _worded(name: str, result: CommandResult, took: float) -> str:
    pids = [str(each.pid) for each in result.processes if each.pid is not None]
    running = f", pid {' '.join(pids[:8])}" if pids and result.action in ("start", "restart", "reload") else ""
    count = f" to {len(result.processes)}" if result.action == "scale" else ""
    time_ = f" ({took:.1f} s)" if took >= 0.1 else ""
    return f"{_DOING[result.action][1]} {name}{count}{running}{time_}"
