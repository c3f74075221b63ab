"""Real children of the real reactor: how they start, what is told of them and in what order."""

import errno
import os
import signal
import time

from twisted.internet import reactor
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from zope.interface.verify import verifyObject

from pmdaemon.daemon.spawn import SpawnError, spawn
from tests.daemon.recorder import COOKIE, ChildTestCase, Recorder, alive, until

LAST = [("lost", 1), ("lost", 2), "processEnded"]


def wait_for_exit(transport: IProcessTransport) -> None:
    """Block until the child has ended, and leave it to be reaped."""
    os.waitid(os.P_PID, transport.pid, os.WEXITED | os.WNOWAIT)


class Starting(ChildTestCase):
    def setUp(self) -> None:
        self.place = os.path.realpath(self.mktemp())
        os.mkdir(self.place)

    def file(self, name: str, text: str, mode: int = 0o644) -> str:
        path = os.path.join(self.place, name)
        with open(path, "w", newline="") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    async def test_interface(self) -> None:
        protocol, transport = self.start("true")
        assert verifyObject(IProcessTransport, transport)
        await protocol.ended

    async def test_session_of_its_own(self) -> None:
        protocol, transport = self.start("sleep", "60")
        pid = transport.pid
        assert pid is not None
        assert os.getsid(pid) == os.getpgid(pid) == pid
        transport.signalProcess("KILL")
        await protocol.ended

    async def test_what_it_is_given(self) -> None:
        protocol, _ = self.sh('pwd -P; echo "$A"; cat; echo "$1" >&2', cwd=self.place, env={"A": "é b"})
        await protocol.ended
        assert protocol.output == {1: f"{self.place}\né b\n".encode(), 2: b"\n"}

    async def test_environment_is_what_is_given_and_the_cookie(self) -> None:
        protocol, _ = self.start("env", env={"A": "b"})
        await protocol.ended
        names = [line.split("=")[0] for line in protocol.output[1].decode().splitlines()]
        assert sorted(names) == sorted(["PATH", "A", COOKIE])

    async def test_other_name_than_the_program(self) -> None:
        protocol, _ = self.start("called", "-c", 'echo "$0"', executable="/bin/sh")
        await protocol.ended
        assert protocol.output[1] == b"called\n"

    async def test_path_from_the_working_directory(self) -> None:
        self.file("run", "#!/bin/sh\necho here", mode=0o755)
        protocol, _ = self.start("./run", cwd=self.place)
        await protocol.ended
        assert protocol.output[1] == b"here\n"

    async def test_descriptors_are_not_passed_on(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        os.set_inheritable(writing, True)
        protocol, _ = self.start("ls", "/proc/self/fd")
        await protocol.ended
        assert protocol.output[1].split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory it lists

    async def test_signals_the_daemon_ignores_are_not_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        protocol, _ = self.sh("kill -HUP $$; echo survived")
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        await protocol.ended
        assert (protocol.reason.signal, protocol.output[1]) == (signal.SIGHUP, b"")

    def refused(self, *argv: str, **options: object) -> SpawnError:
        error = self.assertRaises(SpawnError, self.start, *argv, **options)
        assert isinstance(error, SpawnError)
        assert str(error) == error.reason
        return error

    def test_no_such_program(self) -> None:
        error = self.refused("nod", env={"PATH": "/bin:/nope"})
        assert (error.reason, error.errno) == ("no such program 'nod' in PATH=/bin:/nope", errno.ENOENT)

    def test_no_such_file(self) -> None:
        assert self.refused("./nod", cwd=self.place).reason == f"no such file '{self.place}/./nod'"

    def test_not_executable(self) -> None:
        path = self.file("run", "#!/bin/sh\n")
        error = self.refused(path)
        assert (error.reason, error.errno) == (f"{path!r} is not executable", errno.EACCES)
        assert self.refused("run", env={"PATH": self.place}).reason == f"{path!r} is not executable"

    def test_directory(self) -> None:
        assert self.refused(self.place).reason == f"{self.place!r} is a directory"

    def test_no_interpreter_line(self) -> None:
        path = self.file("run", "echo no\n", mode=0o755)
        error = self.refused(path)
        assert error.reason == f"{path!r} cannot be executed: exec format error, no '#!' line?"
        assert error.errno == errno.ENOEXEC

    def test_no_such_interpreter(self) -> None:
        path = self.file("run", "#!\t/no/such -x\n", mode=0o755)
        assert self.refused(path).reason == f"{path!r} needs '/no/such', which does not exist"
        path = self.file("dos", "#!/bin/sh\r\necho\r\n", mode=0o755)
        assert self.refused(path).reason == f"{path!r} needs '/bin/sh\\r', which does not exist"

    def test_link_to_nothing(self) -> None:
        path = os.path.join(self.place, "link")
        os.symlink("/no/such", path)
        assert self.refused(path).reason == f"{path!r} is a link to nothing"

    def test_working_directory(self) -> None:
        assert self.refused("true", cwd="/nope").reason == "the working directory '/nope' does not exist"
        path = self.file("data", "")
        assert self.refused("true", cwd=path).reason == f"the working directory {path!r} is not a directory"

    def test_too_long(self) -> None:
        assert "arguments and environment of that size" in self.refused("true", "x" * 10_000_000).reason

    def test_nul(self) -> None:
        assert "embedded null byte" in self.refused("true", "a\0b").reason

    def test_a_failed_start_tells_the_protocol_nothing(self) -> None:
        protocol = Recorder()
        self.assertRaises(
            SpawnError, spawn, reactor, protocol, ["nod"], env={"PATH": "/bin"}, cwd=None, cookie=(COOKIE, "x")
        )
        assert protocol.calls == []


class Telling(ChildTestCase):
    """The order of the calls, and that nothing is lost."""

    async def test_order(self) -> None:
        protocol, transport = self.sh("echo out; sleep 0.05; echo err >&2; exit 3")
        assert transport.pid is not None
        await protocol.ended
        assert protocol.calls == ["makeConnection", ("data", 1), ("data", 2), "processExited", *LAST]
        assert isinstance(protocol.reason, ProcessTerminated)
        assert (protocol.reason.exitCode, protocol.reason.signal) == (3, None)
        assert transport.pid is None

    async def test_success(self) -> None:
        protocol, _ = self.start("true")
        await protocol.ended
        assert isinstance(protocol.reason, ProcessDone)

    async def test_killed_from_outside(self) -> None:
        protocol, transport = self.start("sleep", "60")
        assert transport.pid is not None
        os.kill(transport.pid, signal.SIGKILL)
        await protocol.ended
        assert (protocol.reason.exitCode, protocol.reason.signal) == (None, signal.SIGKILL)

    async def test_told_within_20_ms(self) -> None:
        async def measure() -> float:
            protocol, transport = self.start("sleep", "60")
            assert transport.pid is not None
            killed = time.monotonic()
            os.kill(transport.pid, signal.SIGKILL)
            await protocol.ended
            return time.monotonic() - killed

        assert min([await measure() for _ in range(5)]) < 0.02

    async def test_ended_before_it_was_watched(self) -> None:
        class Slow(Recorder):
            def makeConnection(self, transport: IProcessTransport) -> None:
                super().makeConnection(transport)
                wait_for_exit(transport)

        protocol = Slow()
        transport = spawn(reactor, protocol, ["true"], env=dict(os.environ), cwd=None, cookie=(COOKIE, "x"))
        assert transport.pid is not None
        assert protocol.calls == ["makeConnection"]
        await protocol.ended
        assert protocol.calls == ["makeConnection", "processExited", *LAST]

    async def test_all_output_comes_before_the_exit(self) -> None:
        protocol, _ = self.sh("head -c 1000000 /dev/zero; head -c 60000 /dev/zero >&2")
        await protocol.ended
        assert [len(protocol.output[fd]) for fd in (1, 2)] == [1_000_000, 60_000]
        assert protocol.calls[-4:] == ["processExited", *LAST]

    async def test_closed_outputs(self) -> None:
        protocol, _ = self.sh("exec >&- 2>&-; sleep 0.1")
        await protocol.ended
        assert protocol.calls == ["makeConnection", "processExited", *LAST]

    async def test_reader_that_reads_no_more(self) -> None:
        protocol, transport = self.start("yes")
        await protocol.lines(1)
        transport.loseConnection()
        await protocol.ended
        assert protocol.reason.signal == signal.SIGPIPE
        assert protocol.calls == ["makeConnection", ("data", 1), "processExited", *LAST]

    async def test_a_protocol_that_fails_is_told_of_the_end_all_the_same(self) -> None:
        class Failing(Recorder):
            def processExited(self, reason: object) -> None:
                raise RuntimeError("a defect")

        protocol = Failing()
        spawn(reactor, protocol, ["true"], env=dict(os.environ), cwd=None, cookie=(COOKIE, "x"))
        await protocol.ended
        assert len(self.flushLoggedErrors(RuntimeError)) == 1


class Signals(ChildTestCase):
    async def test_names_and_numbers(self) -> None:
        for name in ("TERM", "SIGTERM", signal.SIGTERM, 15):
            protocol, transport = self.start("sleep", "60")
            transport.signalProcess(name)
            await protocol.ended
            assert protocol.reason.signal == signal.SIGTERM

    async def test_unknown(self) -> None:
        protocol, transport = self.start("sleep", "60")
        for name in ("NOPE", 999):
            self.assertRaises(ValueError, transport.signalProcess, name)
        transport.signalProcess("KILL")
        await protocol.ended

    async def test_whole_group(self) -> None:
        protocol, transport = self.sh("sleep 60 & echo $!; wait")
        (line,) = await protocol.lines(1)
        transport.signalProcess("TERM")
        await protocol.ended
        assert not alive(int(line))

    async def test_after_the_end(self) -> None:
        protocol, transport = self.start("true")
        await protocol.ended
        self.assertRaises(ProcessExitedAlready, transport.signalProcess, "TERM")
        self.assertRaises(ProcessExitedAlready, transport.relay_signal, "HUP")

    async def test_ended_and_not_yet_reaped(self) -> None:
        protocol, transport = self.start("sleep", "0.2")
        wait_for_exit(transport)
        transport.signalProcess("TERM")  # as good as sent
        await protocol.ended
        assert isinstance(protocol.reason, ProcessDone)

    async def test_relayed_signal_is_no_stop(self) -> None:
        protocol, transport = self.sh("trap 'echo hup' HUP; echo ready; while :; do sleep 0.01; done")
        await protocol.lines(1)
        transport.relay_signal("HUP")
        assert await protocol.lines(2) == ["ready", "hup"]
        transport.signalProcess("KILL")
        await protocol.ended


class ForTheInterface(ChildTestCase):
    async def test_nothing_can_be_written(self) -> None:
        protocol, transport = self.start("cat")
        transport.closeStdin()
        self.assertRaises(KeyError, transport.write, b"x")
        self.assertRaises(KeyError, transport.writeSequence, [b"x"])
        self.assertRaises(KeyError, transport.writeToChild, 0, b"x")
        self.assertRaises(NotImplementedError, transport.getHost)
        self.assertRaises(NotImplementedError, transport.getPeer)
        transport.closeChildFD(7)
        transport.closeStdout()
        transport.closeStderr()
        await protocol.ended
        assert isinstance(protocol.reason, ProcessDone)

    async def test_an_ordinary_protocol_will_do(self) -> None:
        protocol = ProcessProtocol()
        transport = spawn(reactor, protocol, ["true"], env=dict(os.environ), cwd=None, cookie=(COOKIE, "x"))
        await until(lambda: transport.pid is None)
