"""Five hundred children at once: how long they take to start and to stop, and what the keeper takes for each."""

import signal
import time

from tests.keeper.harness import KeeperTestCase, Link

MANY = 500


def rss(pid: int) -> int:
    """Resident memory in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Many(KeeperTestCase):
    def start_all(self, link: Link, number: int) -> float:
        began = time.monotonic()
        for re in link.send(*(self.order((f"k{i}", 1), "sleep", "600") for i in range(number))):
            assert "ok" in link.answer(re)
        return time.monotonic() - began

    def stop_all(self, link: Link, number: int) -> float:
        began = time.monotonic()
        link.send(
            *({"op": "signal", "id": f"k{i}", "inc": 1, "sig": signal.SIGTERM, "stop": True} for i in range(number))
        )
        for i in range(number):
            link.event("gone", (f"k{i}", 1))
        return time.monotonic() - began

    def test_start_and_stop(self) -> None:
        link = self.start()
        started = self.start_all(link, MANY)
        stopped = self.stop_all(link, MANY)
        self.assertTrue(started < 1.5 and stopped < 0.25, f"started in {started:.2f} s, stopped in {stopped:.3f} s")
        self.nothing_left()

    def test_memory(self) -> None:
        link = self.start()
        (keeper,) = self.keepers
        empty = rss(keeper.pid)
        self.start_all(link, 100)
        full = rss(keeper.pid)
        self.assertTrue(empty < 16_000 and full < 20_000, f"{empty} KiB without children, {full} KiB with 100")
        self.stop_all(link, 100)


class ManyWithoutGroups(Many):
    without = "cgroup"
