"""Probes of real servers and scripts on this machine [P12]; nothing of a probe is left in the reactor."""

import os
import socket
from typing import Any

import psutil
import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, PrivateCertificate, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from pmdaemon.core.health import DETAILS
from pmdaemon.core.spec import HealthCheck
from pmdaemon.daemon.checker import Prober, ProbeResult
from pmdaemon.daemon.touch import touch
from tests.daemon.recorder import alive, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

LOCALHOST = {str(found[4][0]) for found in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}


class Server(Factory):
    """Answers each request with the same bytes; ``answer`` None is never to answer, ``then`` goes on for ever."""

    def __init__(self, answer: bytes | None, *, then: bytes = b"", close: bool = False) -> None:
        self.answer, self.then, self.close = answer, then, close
        self.asked: list[bytes] = []
        self.open: set[Protocol] = set()

    def buildProtocol(self, addr: Any) -> Protocol:
        return Connection(self)


class Connection(Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server

    def connectionMade(self) -> None:
        self.server.open.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.server.open.remove(self)

    def dataReceived(self, data: bytes) -> None:
        self.server.asked.append(data)
        transport: Any = self.transport
        if self.server.answer is not None:
            transport.write(self.server.answer)
        if self.server.then:
            transport.registerProducer(self, False)
        if self.server.close:
            transport.loseConnection()

    def resumeProducing(self) -> None:
        transport: Any = self.transport
        transport.write(self.server.then)

    def stopProducing(self) -> None:
        """The connection was lost."""


class ProbeTestCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.prober = Prober(reactor)

    def listen(self, server: Server, *, interface: str = "127.0.0.1", certificate: Any = None) -> int:
        if certificate is None:
            port = reactor.listenTCP(0, server, interface=interface)
        else:
            port = reactor.listenSSL(0, server, certificate.options(), interface=interface)

        async def stop() -> None:
            await port.stopListening()
            await until(lambda: not server.open)

        self.addCleanup(stop)
        return int(port.getHost().port)

    async def probe(self, *, cwd: str = ".", env: dict[str, str] | None = None, **check: Any) -> ProbeResult:
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        result = await self.prober.probe(HealthCheck(**check), cwd=os.path.abspath(cwd), env=environment)
        assert tuple(result.details) == DETAILS[check["check_type"]]
        assert result.ok == (result.error is None)
        if "error" in result.details:
            assert result.details["error"] == result.error
        return result

    def closed_port(self) -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])


class Http(ProbeTestCase):
    async def http(self, url: str, **check: Any) -> ProbeResult:
        result = await self.probe(check_type="http", url=url, **check)
        assert result.details["url"] == url
        return result

    async def test_ok(self) -> None:
        server = Server(OK)
        result = await self.http(f"http://127.0.0.1:{self.listen(server)}/health?a=b")
        assert result.ok
        assert result.details["status_code"] == 200
        assert type(result.details["response_time"]) is int
        (request,) = server.asked
        assert request.startswith(b"GET /health?a=b HTTP/1.1\r\n")
        assert b"\r\nUser-Agent: pmdaemon\r\n" in request
        assert b"\r\nConnection: close\r\n" in request

    async def test_localhost_as_it_resolves(self) -> None:
        for interface in LOCALHOST:
            port = self.listen(Server(OK), interface=interface)
            assert (await self.http(f"http://localhost:{port}/")).ok, interface

    async def test_address_of_version_6(self) -> None:
        port = self.listen(Server(OK), interface="::1")
        assert (await self.http(f"http://[::1]:{port}/")).ok

    async def test_other_statuses(self) -> None:
        for status in (301, 404, 503):
            server = Server(b"HTTP/1.1 %d So\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status)
            result = await self.http(f"http://127.0.0.1:{self.listen(server)}/")
            assert result.error == f"HTTP status {status}"
            assert result.details["status_code"] == status
            assert len(server.asked) == 1

    async def test_body_is_not_read(self) -> None:
        for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
            server = Server(head, then=b"x" * 65536)
            assert (await self.http(f"http://127.0.0.1:{self.listen(server)}/")).ok
        server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert (await self.http(f"http://127.0.0.1:{self.listen(server)}/")).ok

    async def test_refused(self) -> None:
        result = await self.http(f"http://127.0.0.1:{self.closed_port()}/")
        assert result.error == "connection refused"
        assert (result.details["status_code"], result.details["response_time"]) == (None, None)

    async def test_no_answer_in_time(self) -> None:
        for answer in (None, b"HTTP/1.1 200 OK\r\nX: "):
            url = f"http://127.0.0.1:{self.listen(Server(answer))}/"
            result = await self.http(url, timeout=0.05)
            assert result.error == "no answer within 0.05 s"

    async def test_closed_without_an_answer(self) -> None:
        result = await self.http(f"http://127.0.0.1:{self.listen(Server(None, close=True))}/")
        assert result.error == "the connection was closed without an answer"

    async def test_no_http(self) -> None:
        port = self.listen(Server(b"220 mail ready\r\n"))
        result = await self.http(f"http://127.0.0.1:{port}/")
        assert result.error == "the answer cannot be read as HTTP"
        assert result.details["status_code"] is None

    async def test_unknown_host(self) -> None:
        result = await self.http("http://no-such-host.invalid/")
        assert result.error == "the host name cannot be resolved"

    async def test_cancelled(self) -> None:
        server = Server(None)
        check = HealthCheck(check_type="http", url=f"http://127.0.0.1:{self.listen(server)}/")
        probing = self.prober.probe(check, cwd="/", env={})
        await until(lambda: server.asked)
        probing.cancel()
        result = await probing
        assert not result.ok

    async def test_cancelled_while_it_connects(self) -> None:
        check = HealthCheck(check_type="http", url=f"http://localhost:{self.closed_port()}/")
        probing = self.prober.probe(check, cwd="/", env={})
        probing.cancel()
        assert not (await probing).ok


class Https(ProbeTestCase):
    """Certificates are verified, by default against what the system trusts."""

    def serve(self, host: str) -> int:
        self.authority = trustme.CA()
        issued = self.authority.issue_cert(host)
        pem = issued.private_key_pem.bytes() + b"".join(each.bytes() for each in issued.cert_chain_pems)
        return self.listen(Server(OK), certificate=PrivateCertificate.loadPEM(pem))

    def trust(self) -> Prober:
        root = trustRootFromCertificates([Certificate.loadPEM(self.authority.cert_pem.bytes())])
        return Prober(reactor, root)

    async def error(self, url: str) -> str | None:
        return (await self.probe(check_type="http", url=url)).error

    async def test_trusted(self) -> None:
        port = self.serve("localhost")
        self.prober = self.trust()
        assert await self.error(f"https://localhost:{port}/") is None

    async def test_trusted_address(self) -> None:
        port = self.serve("127.0.0.1")
        self.prober = self.trust()
        assert await self.error(f"https://127.0.0.1:{port}/") is None

    async def test_untrusted(self) -> None:
        port = self.serve("localhost")
        assert await self.error(f"https://localhost:{port}/") == "the certificate is not trusted"

    async def test_other_name(self) -> None:
        port = self.serve("example.org")
        self.prober = self.trust()
        assert await self.error(f"https://localhost:{port}/") == "the certificate is for another host name"

    async def test_no_tls(self) -> None:
        error = await self.error(f"https://127.0.0.1:{self.listen(Server(OK))}/")
        assert error is not None
        assert error.startswith("TLS failed: ")

    async def test_silent_instead_of_tls(self) -> None:
        result = await self.probe(
            check_type="http", url=f"https://127.0.0.1:{self.listen(Server(None))}/", timeout=0.05
        )
        assert result.error == "no answer within 0.05 s"


class Tcp(ProbeTestCase):
    async def test_connects(self) -> None:
        for interface in LOCALHOST:
            port = self.listen(Server(None), interface=interface)
            result = await self.probe(check_type="tcp", port=port)
            assert result.ok
            assert (result.details["host"], result.details["port"]) == ("localhost", port)
            assert type(result.details["response_time"]) is int

    async def test_refused(self) -> None:
        port = self.closed_port()
        result = await self.probe(check_type="tcp", host="127.0.0.1", port=port)
        assert result.error == "connection refused"
        assert result.details["response_time"] is None

    async def test_no_connection_in_time(self) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            with socket.create_connection(full.getsockname()):
                port = full.getsockname()[1]
                result = await self.probe(check_type="tcp", host="127.0.0.1", port=port, timeout=0.05)
                assert result.error == "no answer within 0.05 s"

    async def test_a_port_that_connects_to_itself_is_closed(self) -> None:
        port = self.closed_port()
        itself = TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=("127.0.0.1", port))
        await self.assertFailure(Deferred.fromCoroutine(touch(reactor, itself)), ConnectionRefusedError)


class Script(ProbeTestCase):
    async def script(self, script: str, **options: Any) -> ProbeResult:
        return await self.probe(check_type="script", script=script, **options)

    def file(self, name: str, text: str, mode: int = 0o755) -> str:
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
        os.chmod(file.name, mode)
        return folder

    async def test_ok(self) -> None:
        result = await self.script("sh -c 'echo fine; echo odd >&2'")
        assert result.ok
        assert result.details["exit_code"] == 0
        assert sorted(result.details["output"].split()) == ["fine", "odd"]

    async def test_failure(self) -> None:
        result = await self.script("sh -c 'echo bad; exit 3'")
        assert result.error == "the script ended with exit code 3"
        assert result.details == {"exit_code": 3, "output": "bad\n"}

    async def test_signal(self) -> None:
        result = await self.script("sh -c 'kill -9 $$'")
        assert result.error == "the script was ended by signal 9 (Killed)"
        assert result.details == {"exit_code": None, "output": ""}

    async def test_no_shell(self) -> None:
        assert (await self.script("echo $HOME; exit 1 | cat")).details["output"] == "$HOME; exit 1 | cat\n"

    async def test_file_with_blanks(self) -> None:
        folder = self.file("is it well", "#!/bin/sh\npwd; echo $A")
        result = await self.script("is it well", cwd=folder, env={"A": "b"})
        assert result.details["output"] == f"{folder}\nb\n"

    async def test_file_of_the_directory_with_arguments(self) -> None:
        folder = self.file("check", "#!/bin/sh\necho $1")
        assert (await self.script("check 'a b'", cwd=folder)).details["output"] == "a b\n"

    async def test_cannot_start(self) -> None:
        result = await self.script("nod --check")
        assert result.error is not None
        assert result.error.startswith("no such program 'nod' in PATH=")
        assert result.details == {"exit_code": None, "output": None}
        assert (await self.script("echo 'open")).error == "No closing quotation"

    async def test_output_is_bounded_and_decoded(self) -> None:
        result = await self.script("sh -c 'head -c 300000 /dev/zero; printf \"\\377end\"'")
        output = result.details["output"]
        assert len(output) == 8192
        assert output.endswith("\0\ufffdend")

    async def test_killed_with_its_tree_when_it_takes_too_long(self) -> None:
        result = await self.script("sh -c 'setsid sleep 60 & echo $!; sleep 60'", timeout=0.2)
        assert result.error == "the script did not end within 0.2 s and was killed"
        assert result.details["exit_code"] is None
        assert not alive(int(result.details["output"]))

    async def test_cancelled(self) -> None:
        check = HealthCheck(check_type="script", script="sleep 60")
        probing = self.prober.probe(check, cwd="/", env={"PATH": os.environ["PATH"]})
        probing.cancel()
        await probing
        await until(lambda: not psutil.Process().children())
