"""Watches processes that have a memory limit, and only those, every two seconds."""

import math

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pmdaemon.daemon.process import Process
from pmdaemon.daemon.sampler import Sampler

__all__ = ["PERIOD", "MemoryLimits"]

_MIB = 1 << 20

PERIOD = 2.0
"""Seconds between looks."""


class MemoryLimits:
    """Ends a process whose tree uses more resident memory than its ``max_memory_restart``."""

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
            watched = list(self._watched)
            roots = {number: each.pid for number, each in enumerate(watched) if each.pid is not None}
            for number, sample in self._sampler.processes(roots).items():
                self._judge(watched[number], sample.memory)
        except Exception:  # an exception would stop the loop for good
            self._log.failure("cannot look after the memory limits")

    def _judge(self, process: Process, memory: int) -> None:
        limit = process.spec.memory_limit
        if limit is not None and memory > limit:
            process.tell("memory_limit_exceeded", {"memory": memory, "limit": limit})
            process.fail("memory_limit", f"memory {math.ceil(memory / _MIB)}M > {math.ceil(limit / _MIB)}M")
