"""What lies between two samples [P5], [E7]."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.samples import ProcessSample, SystemSample, cpu_percent, system_metrics


def machine(busy: float = 10.0, total: float = 40.0, **more: object) -> SystemSample:
    fields = {"cores": 4, "memory_total": 1000, "memory_available": 250, "load": (0.854, 1.2, 0.9), **more}
    return SystemSample(busy=busy, total=total, **fields)


class ProcessTests(SynchronousTestCase):
    def test_over_the_interval(self) -> None:
        before, now = ProcessSample(5, 10.0, 0), ProcessSample(5, 10.25, 0)
        self.assertEqual(cpu_percent(now, before, 1.0, 100.0), 25.0)
        self.assertEqual(cpu_percent(now, before, 0.1, 100.0), 250.0, "of one core, so it may pass 100")
        self.assertEqual(cpu_percent(now, before, 3.0, 100.0), 8.3, "one decimal")

    def test_a_first_figure_is_the_average_since_the_start(self) -> None:
        now = ProcessSample(5, 3.0, 0)
        self.assertEqual(cpu_percent(now, None, 0.0, 4.0), 75.0)
        self.assertEqual(cpu_percent(now, ProcessSample(4, 90.0, 0), 1.0, 4.0), 75.0, "another child was there before")
        self.assertEqual(cpu_percent(now, ProcessSample(5, 1.0, 0), 0.0, 4.0), 75.0, "the very same sample")

    def test_numbers_always(self) -> None:
        """[P4]"""
        self.assertEqual(cpu_percent(None, ProcessSample(5, 1.0, 0), 1.0, 4.0), 0.0)
        self.assertEqual(cpu_percent(ProcessSample(5, 1.0, 0), None, 0.0, 0.0), 0.0)
        self.assertEqual(cpu_percent(ProcessSample(5, 1.0, 0), ProcessSample(5, 2.0, 0), 1.0, 4.0), 0.0)


class MachineTests(SynchronousTestCase):
    def test_all_its_figures(self) -> None:
        self.assertEqual(
            msgspec.to_builtins(system_metrics(machine(busy=11.0, total=44.0), machine())),
            {
                "cpu": {"usage": 25.0, "cores": 4},
                "memory": {"total": 1000, "used": 750, "available": 250, "usage_percent": 75.0},
                "load": {"one": 0.85, "five": 1.2, "fifteen": 0.9},
            },
        )

    def test_since_boot_where_there_is_none_before(self) -> None:
        self.assertEqual(system_metrics(machine(busy=10.0, total=30.0), None).cpu.usage, 33.3)

    def test_within_0_and_100(self) -> None:
        self.assertEqual(system_metrics(machine(busy=9.0), machine(total=39.0)).cpu.usage, 0.0)
        self.assertEqual(system_metrics(machine(busy=90.0, total=41.0), machine()).cpu.usage, 100.0)
        self.assertEqual(system_metrics(machine(), machine()).cpu.usage, 0.0)
        self.assertEqual(system_metrics(machine(memory_total=0, memory_available=0), None).memory.usage_percent, 0.0)
