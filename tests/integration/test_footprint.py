"""What the daemon and its keeper take of memory: under 75 MiB together with 100 children."""

import psutil

from tests.integration.keepercase import KeeperCase, sh

_MIB = 1 << 20


class FootprintTests(KeeperCase):
    async def test_with_100_children(self) -> None:
        """Resident, what the two share counted twice, while somebody is told everything."""
        names = [f"app{number}" for number in range(100)]
        daemon = await self.start(*(sh(name, f"echo {name}; exec sleep 1000") for name in names))
        client = await daemon.connect()
        await client.until_online(*names)
        await client.request("subscribe", {"events": ["process_status", "system_metrics", "log_message"]})
        await client.expect("system_metrics")
        pids = {"daemon": daemon.program.pid, "keeper": self.keeper()}
        taken = {name: psutil.Process(pid).memory_info().rss / _MIB for name, pid in pids.items()}
        self.assertLess(sum(taken.values()), 75, taken)
