"""A child that prints numbered lines on both outputs at a steady rate, and writes down apart from them what it printed.

Run as ``python printer.py DIRECTORY RATE MORTAL``. What is true of a run is in a file of its own in DIRECTORY, kept up
to date line by line: see `Truth`. A mortal one ends by itself, by a code or a signal that is in there from the start.
"""

import os
import random
import resource
import signal
import struct
import sys
import time
from typing import NamedTuple

_FORM = struct.Struct("<iiiidd")
_TICK = 0.01
CODES = (1, 2, 3, 7, 42, 77, 125, 126, 127, 255)
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGHUP)


class Truth(NamedTuple):
    """What a run printed, in lines by output; how it means to end, as `subprocess` has it; when its end was sure.

    ``done`` is 1 when it has printed all it will, at unix seconds ``ended``; ``blocked`` is the longest write, in
    seconds.
    """

    out: int
    err: int
    code: int
    done: int
    blocked: float
    ended: float = 0.0

    def pack(self) -> bytes:
        """What `read` takes."""
        return _FORM.pack(*self)

    @classmethod
    def read(cls, path: str) -> "Truth":
        with open(path, "rb") as file:
            return cls(*_FORM.unpack(file.read(_FORM.size)))


def main(directory: str, rate: int, mortal: bool) -> None:
    """Print, and end."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))  # first: one without has no truth
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    name, chance = os.environ["PMDAEMON_PROCESS_NAME"], random.Random(os.getpid() ^ time.time_ns())
    run = f"{time.time_ns()}-{os.getpid()}"
    truth = os.open(os.path.join(directory, f"{name}.{run}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    code = chance.choice([*CODES, *(-number for number in SIGNALS)]) if mortal else 0
    most = chance.randrange(200, 3000) if mortal else sys.maxsize
    count, blocked, begun, printed = [0, 0], 0.0, time.monotonic(), 0
    while printed < most and not stopped:
        due = min(most, int((time.monotonic() - begun) * rate))
        while printed < due and not stopped:
            which = int(printed % 4 == 3)
            line = b"%s %d %s\n" % (run.encode(), count[which], b"x" * (printed % 97))
            before = time.monotonic()
            while line:
                line = line[os.write(1 + which, line) :]
            blocked = max(blocked, time.monotonic() - before)
            count[which] += 1
            printed += 1
            os.pwrite(truth, Truth(count[0], count[1], code, 0, blocked).pack(), 0)
        time.sleep(_TICK)
    if stopped:
        code = 0
    os.pwrite(truth, Truth(count[0], count[1], code, 1, blocked, time.time()).pack(), 0)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
        signal.pause()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "mortal")
