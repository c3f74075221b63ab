"""The client of the daemon, for asyncio (`Client`) and for code that blocks (`BlockingClient`).

With asyncio::

    from pmdaemon.client import Client, LogMessage, ProcessStatus, Restart

    async with Client() as client:
        for process in await client.processes():
            print(process.name, process.status)
        await client.command(Restart(process="web"))
        async for message in client.subscribe(["process_status", "log_message"]):
            match message.data:
                case ProcessStatus(name=name, status=status):
                    print(name, "is", status)
                case LogMessage(process=name, message=line):
                    print(name, "says", line)

Blocking::

    with BlockingClient(home="/srv/pmdaemon") as client:
        print(client.system().hostname)
        for message in client.subscribe(["process_event"]):
            print(message.timestamp, message.data)

Both find the daemon as the command line does: by ``url``, else by ``home``, else by PMDAEMON_URL, PMDAEMON_HOME or
``~/.pmdaemon`` (see `locate`). What goes wrong is an exception of `pmdaemon.errors`, all of which have ``code``,
``message``, ``hint`` and ``details``: ``ProcessNotFound``, ``Unauthorized``, and so on; `NoDaemon` where there is none
and `ConnectionLost` where the connection broke before the reply came.

A subscription has a connection of its own, and comes back by itself when that breaks: it goes on after the last
message it has given out, so that nothing is missed and nothing comes twice. Beside what the daemon tells
(``docs/websocket-api.rst``) it gives out `Subscribed` each time it is connected, with ``snapshot`` complete, and
`Disconnected` each time the connection has broken. `Gap` and `LogGap` say what the daemon could not tell.

Nothing here needs Twisted, and asyncio is imported with `Client` alone.
"""

from typing import TYPE_CHECKING, Any

from pmdaemon.client.address import Address, locate
from pmdaemon.client.errors import ConnectionLost, NoDaemon, ProtocolError
from pmdaemon.client.messages import Disconnected, Message
from pmdaemon.core.commands import (
    Command,
    Delete,
    Flush,
    GetEvents,
    GetHistory,
    GetLogs,
    Reload,
    Request,
    Reset,
    Restart,
    Scale,
    Signal,
    Start,
    Stop,
)
from pmdaemon.core.events import (
    HealthUpdate,
    LogMessage,
    ProcessEvent,
    ProcessMetrics,
    ProcessMetricsEntry,
    ProcessStatus,
    SystemMetrics,
)
from pmdaemon.core.info import ProcessObject, SystemInfo
from pmdaemon.core.past import Crash, LogLine
from pmdaemon.errors import PMDaemonError
from pmdaemon.protocol.replies import (
    CommandResult,
    Config,
    EventRecord,
    Events,
    Gap,
    History,
    LogGap,
    Logs,
    Subscribed,
)

if TYPE_CHECKING:
    from pmdaemon.client.aio import Client, Subscription
    from pmdaemon.client.blocking import BlockingClient, BlockingSubscription

__all__ = [
    "Address",
    "BlockingClient",
    "BlockingSubscription",
    "Client",
    "Command",
    "CommandResult",
    "Config",
    "ConnectionLost",
    "Crash",
    "Delete",
    "Disconnected",
    "EventRecord",
    "Events",
    "Flush",
    "Gap",
    "GetEvents",
    "GetHistory",
    "GetLogs",
    "HealthUpdate",
    "History",
    "LogGap",
    "LogLine",
    "LogMessage",
    "Logs",
    "Message",
    "NoDaemon",
    "PMDaemonError",
    "ProcessEvent",
    "ProcessMetrics",
    "ProcessMetricsEntry",
    "ProcessObject",
    "ProcessStatus",
    "ProtocolError",
    "Reload",
    "Request",
    "Reset",
    "Restart",
    "Scale",
    "Signal",
    "Start",
    "Stop",
    "Subscribed",
    "Subscription",
    "SystemInfo",
    "SystemMetrics",
    "locate",
]

_LATER = {
    "Client": "pmdaemon.client.aio",
    "Subscription": "pmdaemon.client.aio",
    "BlockingClient": "pmdaemon.client.blocking",
    "BlockingSubscription": "pmdaemon.client.blocking",
}
"""Who wants one of the two need not pay for the other."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
