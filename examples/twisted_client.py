"""Watches a daemon from a Twisted program, with Autobahn, and prints a line for each thing that it tells.

python examples/twisted_client.py [ws://localhost:9615/ws] [--seconds N]
"""

import argparse
import itertools
import json
import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

EVENTS = ["process_status", "process_metrics", "system_metrics"]


class PMDaemonClient(WebSocketClientProtocol):
    """One connection: `opened` fires when it can be used, `closed` with its close code when it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self.closed: Deferred[int] = Deferred()
        self._ids = itertools.count(1)
        self._waiting: dict[str, Deferred[dict[str, Any]]] = {}

    def request(self, kind: str, data: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """Fires with the reply's data, or fails with RuntimeError and what the daemon said."""
        number = f"tx-{next(self._ids)}"
        reply = self._waiting[number] = Deferred()
        self.sendMessage(json.dumps({"type": kind, "data": data, "id": number}).encode())
        return reply

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        reply = self._waiting.pop(message.get("reply_to"), None)
        show(message["type"], message["data"])
        if reply and message["type"] == "error":
            reply.errback(RuntimeError(message["data"]["message"]))
        elif reply:
            reply.callback(message["data"])

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self.opened.called:
            self.opened.errback(RuntimeError(reason))
        self.closed.callback(code or 1006)


def show(kind: str, data: dict[str, Any]) -> None:
    """One line for one event; a type that is not known is passed over."""
    if kind == "subscribed":
        print(f"watching {', '.join(one['name'] for one in data['snapshot']) or 'nothing yet'}")
    elif kind == "process_status":
        print(f"status   {data['name']}: {data['previous_status'] or 'new'} -> {data['status']}")
    elif kind == "process_metrics":
        for one in data["processes"]:
            print(f"process  {one['name']}: {one['status']}, CPU {one['cpu']}%, memory {one['memory'] / 2**20:.1f} MB")
    elif kind == "system_metrics":
        cpu, memory, load = data["cpu"], data["memory"]["usage_percent"], data["load"]["one"]
        print(f"system   CPU {cpu['usage']}% of {cpu['cores']} cores, memory {memory}%, load {load}")


async def watch(reactor: IReactorCore, url: str, seconds: float | None) -> None:
    factory = WebSocketClientFactory(url, reactor=reactor)
    factory.protocol = PMDaemonClient
    client = await HostnameEndpoint(reactor, factory.host, factory.port).connect(factory)
    await client.opened
    print(f"connected to {url}")
    await client.request("subscribe", {"events": EVENTS, "interval": 1000})
    if seconds is not None:
        reactor.callLater(seconds, client.sendClose, 1000)
    print(f"closed with {await client.closed}")


async def main(reactor: IReactorCore, options: argparse.Namespace) -> None:
    try:
        await watch(reactor, options.url, options.seconds)
    except (ConnectError, RuntimeError) as error:
        sys.exit(f"cannot watch: {error}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Watch a daemon.")
    parser.add_argument("url", nargs="?", default="ws://localhost:9615/ws")
    parser.add_argument("--seconds", type=float, help="stop after so long (default: never)")
    react(lambda reactor: ensureDeferred(main(reactor, parser.parse_args())))
