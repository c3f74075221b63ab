"""What ``fanout`` compares with: a server on asyncio that sends ready-made text with ``websockets.broadcast``."""

import asyncio
import platform
import sys
import time

import websockets
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main() -> None:
    """Serve, and do as stdin says: ``run EVENTS SECONDS``, which is answered with turns and when it began."""
    text = "x" * int(sys.argv[1])
    connections: set[ServerConnection] = set()

    async def stay(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()

    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with serve(stay, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        print("ready", port, "websockets", websockets.__version__, "on Python", platform.python_version(), flush=True)
        while line := await orders.readline():
            _, events, seconds = line.split()
            members, turns, begun = list(connections), 0, time.monotonic_ns()
            until = time.monotonic() + float(seconds)
            while time.monotonic() < until:
                if members[turns % len(members)].transport.get_write_buffer_size() <= 65536:
                    turns += 1
                    for _ in range(int(events)):
                        broadcast(connections, text)
                await asyncio.sleep(0)
            print(turns, begun, flush=True)


asyncio.run(main())
