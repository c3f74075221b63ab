"""How fast what one child prints comes into its log: ours and each peer's in turn, and the raw limit beside them."""

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from filecmp import cmp
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.asking import Listener
from benchmarks.daemon import running
from benchmarks.figure import OURS, Figure, Section
from benchmarks.peers import app_of, available
from benchmarks.running import Job

__all__ = ["measure"]

_LINES, _LENGTH = 2_000_000, 100
_SIZE = _LINES * _LENGTH
_SETTLED = 0.5
"""Seconds until the child waits for the word."""
_LOOK = 0.001
_PATIENCE = 30.0
_PROGRAM = 'read -r _ <"$GO"; exec cat "$LINES"\n'

_METHOD = f"""
One child, ``cat``, writes {_LINES:,} numbered lines of {_LENGTH} bytes as fast as it can; the time is from the word
that lets it go until all of them are in the log file, which is then compared with what was printed, byte by byte. No
one rotates. *nobody follows*: no client is connected. *one follows*: a client of the WebSocket gets the lines
that can be sent and is told how many were not; lines and dropped ones must come to the number printed, or the run
fails. PM2 sends each line over its bus whether anybody follows or not, so its one figure stands in both rows. *raw*:
``cat`` into a pipe and from there into a file by splice, by nobody.
"""


def measure(scratch: Path, *, quick: bool) -> list[Section]:
    """Return the section of log capture."""
    peers = available()
    source = _source(scratch)
    alone: defaultdict[str, list[float]] = defaultdict(list)
    followed: defaultdict[str, list[float]] = defaultdict(list)
    shares: list[float] = []
    versions, missing = peers.versions, list(peers.missing)
    for number in range(1 if quick else 7):
        for peer in list(peers.all):
            with _printing(scratch, source) as child, peer.run(scratch, [child.job]):
                try:
                    alone[peer.name].append(child.rate())
                except TimeoutError as why:
                    missing.append(f"{peer.name} was measured no more after a run that left {why}")
                    peers.all.remove(peer)
        if number < (1 if quick else 3):  # a client takes half a minute for all that it is told
            rate, share = _followed(scratch, source)
            followed[OURS].append(rate)
            shares.append(share)
        alone["raw"].append(_raw(scratch, source))
    if alone["PM2"]:
        followed["PM2"] = alone["PM2"]
    figures = [
        Figure("capture, nobody follows", "MB/s", dict(alone), more_is_better=True, goals={"supervisor": 1.0}),
        Figure("capture, one follows", "MB/s", dict(followed), more_is_better=True, goals={"PM2": 3.0}),
        Figure("share of lines that were sent", "%", {OURS: shares}, more_is_better=True),
    ]
    return [Section("Log capture", _METHOD, figures, versions, missing)]


class _Child:
    """A child that waits for the word and then prints all of *source*."""

    def __init__(self, place: Path, source: Path) -> None:
        program, go = place / "printer.sh", place / "go"
        program.write_text(_PROGRAM)
        os.mkfifo(go)
        self._go = os.open(go, os.O_RDWR)
        self._source = source
        env = {"GO": str(go), "LINES": str(source)}
        self.job = Job("printer", ["/bin/sh", str(program)], env, place / "printer.log")

    def rate(self) -> float:
        """Let it go; return MB/s until all is in the file. Raises TimeoutError; ValueError where it differs."""
        time.sleep(_SETTLED)
        begun = time.monotonic()
        os.write(self._go, b"go\n")
        while _size(self.job.output) < _SIZE:
            if time.monotonic() - begun > _PATIENCE:
                raise TimeoutError(f"{_size(self.job.output):,} of {_SIZE:,} bytes after {_PATIENCE:g} s")
            time.sleep(_LOOK)
        taken = time.monotonic() - begun
        if not cmp(self._source, self.job.output, shallow=False):
            raise ValueError("what is in the log is not what was printed")
        return _SIZE / taken / 1e6

    def close(self) -> None:
        """Let go of what it waits for; remove its log, which is large."""
        os.close(self._go)
        self.job.output.unlink(missing_ok=True)


@contextmanager
def _printing(scratch: Path, source: Path) -> Iterator[_Child]:
    child = _Child(Path(mkdtemp(dir=scratch)), source)
    try:
        yield child
    finally:
        child.close()


def _followed(scratch: Path, source: Path) -> tuple[float, float]:
    """Return MB/s with one client, and the percentage of lines that it got, once all are accounted for."""
    with _printing(scratch, source) as child, running(scratch, [app_of(child.job)]) as daemon:
        listener = Listener(daemon)
        try:
            rate = child.rate()
            deadline = time.monotonic() + _PATIENCE
            while sum(listener.told) < _LINES and time.monotonic() < deadline:
                time.sleep(0.05)
            sent, dropped = listener.told
        finally:
            listener.close()
    if sent + dropped != _LINES:
        raise ValueError(f"a client got {sent:,} lines and was told that {dropped:,} are missing, of {_LINES:,}")
    return rate, 100 * sent / _LINES


def _raw(scratch: Path, source: Path) -> float:
    output = scratch / "raw"
    with output.open("wb") as file, subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        begun = time.monotonic()
        while os.splice(program.stdout.fileno(), file.fileno(), 1 << 20):
            pass
        taken = time.monotonic() - begun
    output.unlink()
    return _SIZE / taken / 1e6


def _source(scratch: Path) -> Path:
    path = scratch / "lines"
    filler = "x" * (_LENGTH - 13)
    with path.open("w") as file:
        file.writelines(f"{number:011d} {filler}\n" for number in range(_LINES))
    return path


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
