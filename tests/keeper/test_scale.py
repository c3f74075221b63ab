"""Five hundred children at once: what they cost to start and to stop, and what the keeper takes for each.

In processor time, as the tests share a machine: `make bench` says how long it takes where nothing else runs.
"""

import os
import shutil
import signal
import tempfile
import time

from tests.keeper.harness import KeeperTestCase, Link

MANY = 500
TICKS = os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Resident memory in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def cpu(pid: int) -> float:
    """Processor time of the process alone, in seconds."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Many(KeeperTestCase):
    def setUp(self) -> None:
        # In memory, where it can be: how fast the disk of the tests makes files is not the keeper's.
        memory = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.addCleanup(shutil.rmtree, memory)
        super().setUp()
        self.home, self.place = os.path.join(memory, "home"), os.path.join(memory, "place")
        os.mkdir(self.place)

    def start_all(self, link: Link, number: int) -> None:
        for re in link.send(*(self.order((f"k{i}", 1), "sleep", "600") for i in range(number))):
            self.assertIn("ok", link.answer(re))

    def stop_all(self, link: Link, number: int) -> None:
        order = {"op": "signal", "inc": 1, "sig": signal.SIGTERM, "stop": True}
        link.send(*({**order, "id": f"k{i}"} for i in range(number)))
        for i in range(number):
            link.event("gone", (f"k{i}", 1))

    def test_start_and_stop(self) -> None:
        link = self.start()
        (keeper,) = self.keepers
        times, costs = [time.monotonic()], [cpu(keeper.pid)]
        for act in (self.start_all, self.stop_all):
            act(link, MANY)
            times.append(time.monotonic())
            costs.append(cpu(keeper.pid))
        start, stop = costs[1] - costs[0], costs[2] - costs[1]
        lasted = f"in {times[1] - times[0]:.2f} s and {times[2] - times[1]:.2f} s"
        self.assertTrue(start < 2 and stop < 0.75, f"{start:.2f} s to start and {stop:.2f} s to stop, {lasted}")
        self.nothing_left()

    def test_memory(self) -> None:
        link = self.start()
        (keeper,) = self.keepers
        empty = rss(keeper.pid)
        self.start_all(link, 100)
        full = rss(keeper.pid)
        self.assertTrue(empty < 16_000 and full < 18_000, f"{empty} KiB without children, {full} KiB with 100")
        self.stop_all(link, 100)


class ManyWithoutGroups(Many):
    """Where no control group can be made: one look at all processes for all stops of a turn."""

    without = "cgroup"
