"""Watches processes that have a memory limit, and only those, every two seconds."""

import math

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pmdaemon.core.samples import Sample
from pmdaemon.daemon.process import Process
from pmdaemon.daemon.sampler import Sampler

__all__ = ["PERIOD", "MemoryLimits"]

_MIB = 1 << 20

PERIOD = 2.0
"""Seconds between looks."""


class MemoryLimits:
    """Ends a process whose tree uses more resident memory than its ``max_memory_restart``.

    It looks at samples that were taken for others too. A reload's newcomer is judged as soon as it has taken over.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, sampler: Sampler) -> None:
        self._sampler = sampler
        self._watched: set[Process] = set()
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def changed(self, process: Process) -> None:
        """Take note that a process was started or has ended."""
        if process.running and process.spec.memory_limit is not None:
            self._watched.add(process)
        else:
            self._watched.discard(process)
        if bool(self._watched) == self._loop.running:
            return
        if self._watched:
            self._loop.start(PERIOD, now=False)
        else:
            self._loop.stop()

    def _look(self) -> None:
        try:
            self._sampler.request(self._judge, fresh=PERIOD / 2)
        except Exception:  # an exception would stop the loop for good
            self._log.failure("cannot look after the memory limits")

    def _judge(self, sample: Sample) -> None:
        for process in list(self._watched):
            used = sample.processes.get(process.id)
            if used is not None and used.pid == process.pid:
                self._compare(process, used.memory)

    def _compare(self, process: Process, memory: int) -> None:
        limit = process.spec.memory_limit
        if limit is not None and memory > limit:
            process.tell("memory_limit_exceeded", {"memory": memory, "limit": limit})
            process.fail("memory_limit", f"memory {math.ceil(memory / _MIB)}M > {math.ceil(limit / _MIB)}M")
