"""Watches a daemon with asyncio and prints a line for each thing that it tells. Needs `pip install websockets`.

python examples/python_client.py [ws://localhost:9615/ws] [--seconds N]
"""

import argparse
import asyncio
import itertools
import json
import sys
from typing import Any

import websockets

EVENTS = ["process_status", "process_metrics", "system_metrics"]


class PMDaemonClient:
    """One connection. `request` may be used while `listen` runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def connect(self) -> None:
        self._socket = await websockets.connect(self.url)

    async def close(self) -> None:
        await self._socket.close()

    async def request(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """The reply's data; RuntimeError with what the daemon said when it is an error."""
        number = f"py-{next(self._ids)}"
        reply = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"type": kind, "data": data, "id": number}))
        return await reply

    async def listen(self) -> None:
        """Handle messages until the connection is closed."""
        async for text in self._socket:
            message = json.loads(text)
            reply = self._waiting.pop(message.get("reply_to"), None)
            if reply and message["type"] == "error":
                reply.set_exception(RuntimeError(message["data"]["message"]))
            elif reply:
                reply.set_result(message["data"])
            show(message["type"], message["data"])


def show(kind: str, data: dict[str, Any]) -> None:
    """One line for one event; a type that is not known is passed over."""
    match kind:
        case "subscribed":
            print(f"watching {', '.join(one['name'] for one in data['snapshot']) or 'nothing yet'}")
        case "process_status":
            print(f"status   {data['name']}: {data['previous_status'] or 'new'} -> {data['status']}")
        case "process_metrics":
            for one in data["processes"]:
                memory = one["memory"] / 2**20
                print(f"process  {one['name']}: {one['status']}, CPU {one['cpu']}%, memory {memory:.1f} MB")
        case "system_metrics":
            cpu, memory, load = data["cpu"], data["memory"]["usage_percent"], data["load"]["one"]
            print(f"system   CPU {cpu['usage']}% of {cpu['cores']} cores, memory {memory}%, load {load}")


async def watch(url: str, seconds: float | None) -> None:
    client = PMDaemonClient(url)
    await client.connect()
    print(f"connected to {url}")
    listening = asyncio.create_task(client.listen())
    await client.request("subscribe", {"events": EVENTS, "interval": 1000})
    await asyncio.wait([listening], timeout=seconds)
    await client.close()
    await listening
    print("closed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Watch a daemon.")
    parser.add_argument("url", nargs="?", default="ws://localhost:9615/ws")
    parser.add_argument("--seconds", type=float, help="stop after so long (default: never)")
    options = parser.parse_args()
    try:
        asyncio.run(watch(options.url, options.seconds))
    except (OSError, RuntimeError, websockets.WebSocketException) as error:
        sys.exit(f"cannot watch: {error}")
    except KeyboardInterrupt:
        pass
