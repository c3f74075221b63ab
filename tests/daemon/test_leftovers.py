"""Whatever a child leaves goes too, before its end is told: no orphan, however it hid."""

import os
import signal
import sys
import time
from typing import Any

from twisted.internet import reactor

from pmdaemon.daemon import leftovers, scans
from pmdaemon.daemon.scans import Scans
from pmdaemon.keeper.table import Table, read
from tests.daemon.recorder import COOKIE, ChildTestCase, alive, until

IGNORES = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
# Ways to start a grandchild, from one that is easily found to one that only its parent leads to.
KINDS = {
    "group": "sh -c '{}' &",
    "session": "setsid sh -c '{}' &",
    "double fork": "(setsid sh -c '{}' &);",
    "no cookie": "env -i PATH=$PATH setsid sh -c '{}' &",
}


class AfterACrash(ChildTestCase):
    async def test_session_is_killed(self) -> None:
        protocol, _ = self.sh(f"trap '' TERM; sh -c \"{IGNORES}\" & sleep 0.2; exit 1")
        (line,) = await protocol.lines(1)
        assert alive(int(line))
        await protocol.ended
        assert not alive(int(line))
        assert protocol.reason.exitCode == 1

    async def test_grandchild_that_holds_the_pipe(self) -> None:
        protocol, _ = self.sh("sleep 60 & echo $!")
        started = time.monotonic()
        await protocol.ended
        assert time.monotonic() - started < 10
        assert not alive(int(protocol.output[1]))
        assert protocol.calls[-4:] == ["processExited", ("lost", 1), ("lost", 2), "processEnded"]

    async def test_grandchild_that_writes_for_ever(self) -> None:
        protocol, _ = self.sh("yes & sleep 0.1")
        await protocol.ended

    async def test_environments_are_not_read(self) -> None:
        self.patch(scans, "cookies", None)
        self.patch(scans, "snapshot", None)
        protocol, _ = self.sh("sleep 60 & exit 1")
        await protocol.ended

    async def test_pid_given_to_somebody_else_meanwhile(self) -> None:
        """Who has the pid of a child that was reaped is no child of ours, nor is his session."""
        _, stranger = self.start("sleep", "60")
        pid = stranger.pid
        assert pid is not None
        gone: list[bool] = []
        left = leftovers.Leftovers(reactor, pid, ("PMDAEMON_NONE", "x"), lambda: gone.append(True))
        left.clear()
        await until(lambda: gone)
        assert alive(pid)


class AfterAStop(ChildTestCase):
    async def leave(self, kind: str, left: str) -> tuple[Any, Any, int]:
        """A child that ends at SIGTERM and leaves a ``kind`` of grandchild that runs ``left``."""
        script = KINDS[kind].format(left.replace("'", "'\\''"))
        protocol, transport = self.sh(f"trap 'exit 0' TERM; {script} while :; do sleep 0.01; done")
        (line,) = await protocol.lines(1)
        return protocol, transport, int(line)

    async def test_all_kinds_get_the_stop_signal(self) -> None:
        for kind in KINDS:
            protocol, transport, pid = await self.leave(
                kind, 'trap "echo bye; exit" TERM; echo $$; while :; do sleep 0.01; done'
            )
            transport.signalProcess("TERM")
            await protocol.ended
            assert not alive(pid), kind
            assert protocol.output[1].endswith(b"bye\n"), kind
            assert protocol.output[1].count(b"bye") == 1, kind

    async def test_all_kinds_have_time_until_kill(self) -> None:
        for kind in KINDS:
            protocol, transport, pid = await self.leave(kind, IGNORES)
            transport.signalProcess("TERM")
            await until(lambda protocol=protocol: protocol.exited)
            assert not protocol.ended.called
            assert alive(pid), kind
            transport.signalProcess("KILL")
            await protocol.ended
            assert not alive(pid), kind

    async def test_kill_ends_the_whole_tree(self) -> None:
        for kind in KINDS:
            protocol, transport, pid = await self.leave(kind, IGNORES)
            transport.signalProcess("KILL")
            await protocol.ended
            assert not alive(pid), kind

    async def test_kill_finds_what_is_outside_the_group_before_it_signals(self) -> None:
        """What runs without the cookie in a session of its own is known only while its parent lives."""
        protocol, transport, pid = await self.leave("no cookie", IGNORES)
        self.patch(scans, "cookies", lambda name: {})
        transport.signalProcess("KILL")
        await protocol.ended
        assert not alive(pid)

    async def test_another_signal_reaches_what_is_left(self) -> None:
        said = 'trap "" TERM; trap "echo hup; exit" HUP; echo $$; while :; do sleep 0.01; done'
        protocol, transport, _ = await self.leave("session", said)
        transport.signalProcess("TERM")
        await until(lambda: protocol.exited)
        transport.signalProcess("HUP")
        await protocol.ended
        assert protocol.output[1].endswith(b"hup\n")

    async def test_signals_at_any_moment(self) -> None:
        protocol, transport, pid = await self.leave("double fork", IGNORES)
        transport.signalProcess("TERM")
        transport.signalProcess("TERM")
        await until(lambda: protocol.exited)
        for name in ("TERM", "INT", "TERM", "KILL", "KILL"):
            transport.signalProcess(name)
        await protocol.ended
        assert protocol.calls.count("processEnded") == 1
        assert not alive(pid)

    async def test_what_multiplies(self) -> None:
        """Each is replaced by another when it gets the signal, so that no single look finds them all."""
        program = (
            "import os, signal, sys\n"
            "def again(*_):\n"
            "    if os.fork(): os._exit(0)\n"
            "    os.setsid()\n"
            "signal.signal(signal.SIGTERM, again)\n"
            "if os.fork(): print('x', flush=True); signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
            "else: os.setsid()\n"
            "while True: signal.pause()\n"
        )
        protocol, transport = self.start(sys.executable, "-c", program)
        await protocol.lines(1)
        transport.signalProcess("TERM")
        await until(lambda: protocol.exited)
        transport.signalProcess("KILL")
        await protocol.ended
        assert not [pids for value, pids in scans.cookies(COOKIE).items() if value.startswith(f"{os.getpid()}-")]

    async def test_who_ends_between_two_readings_may_have_left_another(self) -> None:
        _, ended = self.start("true")
        former = ended.pid
        await until(lambda: ended.pid is None)
        protocol, transport, pid = await self.leave("double fork", IGNORES)
        cookies, looks = scans.cookies, 0

        def too_early_at_first(name: str) -> dict[str, list[int]]:
            nonlocal looks
            looks += 1
            found = cookies(name)
            return {value: [former] for value in found} if looks == 1 else found

        self.patch(scans, "cookies", too_early_at_first)
        transport.signalProcess("TERM")
        await until(lambda: protocol.exited)
        await until(lambda: looks)
        transport.signalProcess("KILL")
        await protocol.ended
        assert not alive(pid)

    async def test_what_may_not_be_signalled_is_not_waited_for(self) -> None:
        def refuse(pid: int, start: int, number: int) -> bool:
            raise PermissionError

        protocol, transport, pid = await self.leave("session", IGNORES)
        kill = leftovers.kill
        self.patch(leftovers, "kill", refuse)
        transport.signalProcess("TERM")
        await protocol.ended
        entry = read(pid)
        assert entry is not None
        kill(pid, entry.start, signal.SIGKILL)
        await until(lambda: not alive(pid))


class OneLook(ChildTestCase):
    """What many need in one turn is read once."""

    def setUp(self) -> None:
        self.read = 0
        snapshot = scans.snapshot

        def counted() -> Table:
            self.read += 1
            return snapshot()

        self.patch(scans, "snapshot", counted)

    async def test_stops_of_one_turn(self) -> None:
        children = [self.start("sleep", "60") for _ in range(5)]
        for _, transport in children:
            transport.signalProcess("TERM")
        assert self.read == 1
        for protocol, _ in children:
            await protocol.ended
        assert self.read <= 1 + 5

    async def test_asked_for_in_one_turn(self) -> None:
        looks = Scans(reactor)
        seen: list[Any] = []
        looks.next(seen.append)
        looks.next(seen.append)
        await until(lambda: len(seen) == 2)
        assert seen[0] is seen[1]
        assert self.read == 0

    async def test_never_older_than_the_question(self) -> None:
        looks = Scans(reactor)
        seen: list[Any] = []
        looks.next(seen.append)
        await until(lambda: seen)
        assert seen[0].table.get(os.getpid())
        looks.next(seen.append)
        await until(lambda: len(seen) == 2)
        assert seen[0] is not seen[1]
