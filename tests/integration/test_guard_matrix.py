"""The guard against a live daemon, cell by cell: who asks, from which page, with which token, for what."""

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import psutil
from twisted.trial.unittest import SkipTest, TestCase

from pmdaemon.tokens import TokenFile
from tests.integration.harness import LiveDaemon
from tests.integration.program import Program, require, twistd

STRANGER = 12_345
"""A user of this machine who is not the daemon's; it needs no entry anywhere."""

AS_STRANGER = (
    *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),  # Python may live where only root can read
)

TOKENS = ("none", "wrong", "expired", "read", "operate", "start")
ORIGINS = ("none", "own", "other", "null", "forged")
COMMANDS = ("read", "operate", "start")

# Asks each of the cases it is given on standard input, in one program, as the user that it is started as.
ASKER = """
import encodings.idna, json, os, socket, sys  # all of it before who this is can no longer read where Python lives

def frame(text):
    data = text.encode()
    assert len(data) < 65536
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
    return b"\\x81" + size + bytes(4) + data

def exactly(file, count):
    data = file.read(count)
    assert len(data) == count, "the connection ended"
    return data

def message(file):
    while True:
        first, size = exactly(file, 2)
        if size >= 126:
            size = int.from_bytes(exactly(file, 2 if size == 126 else 8), "big")
        data = exactly(file, size)
        if first == 0x81:
            return json.loads(data)

def ask(case):
    if case["unix"]:
        asked = socket.socket(socket.AF_UNIX)
        asked.connect(case["unix"])
    else:
        asked = socket.create_connection((case["address"], case["port"]), 30)
    asked.settimeout(30)
    lines = ["GET /ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *case["headers"]]
    with asked, asked.makefile("rb") as file:
        asked.sendall(("\\r\\n".join(lines) + "\\r\\n\\r\\n").encode("latin-1"))
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline().strip()):
            name, _, value = line.partition(b": ")
            length = int(value) if name.lower() == b"content-length" else length
        if status != 101:
            return [f"{status} {json.loads(exactly(file, length))['error']['code']}"]
        said = []
        for type_, data in case["requests"]:
            asked.sendall(frame(json.dumps({"type": type_, "data": data})))
            answer = message(file)
            said.append("ok" if answer["type"] != "error" else answer["data"]["code"])
        return said

user = int(sys.argv[1])
if user != os.geteuid():
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
for line in sys.stdin:
    try:
        said = ask(json.loads(line))
    except OSError as why:
        said = [type(why).__name__]
    print("said", json.dumps(said), flush=True)
print("done", flush=True)
"""

REQUESTS = {
    "read": ("get_info", {}),
    "operate": ("command", {"action": "reset", "process": "web"}),
    "start": ("command", {"action": "start", "process": "new", "config": {"script": "/no/such/program"}}),
}
MAKE_WEB = ("command", {"action": "start", "process": "web", "config": {"script": "sleep 1000", "cwd": "/"}})
PASSED = {"ok", "PROCESS_START_FAILED", "PROCESS_ALREADY_EXISTS", "PORT_IN_USE"}
"""What the start of a program that is not there comes to, once and again: the guard had let it through."""


class MatrixCase(TestCase):
    """Has a daemon with one app, and tokens of every kind."""

    async def begin(self, *options: str) -> LiveDaemon:
        daemon = await LiveDaemon.start(
            self, *options, config="apps: [{name: web, script: sleep 1000, autostart: false}]"
        )
        self.make_tokens(daemon.home)
        return daemon

    def make_tokens(self, home: str) -> None:
        past = TokenFile(Path(home, "tokens.json"), lambda: 1.0)
        now = TokenFile(Path(home, "tokens.json"), lambda: 1e9)
        self.texts = {"wrong": "pmd_000000000000_wrong", "expired": past.create("old", "start", lifetime=10)[1]}
        for scope in COMMANDS:
            self.texts[scope] = now.create(scope, scope)[1]

    def case(
        self,
        daemon: LiveDaemon,
        *,
        origin: str = "none",
        token: str = "none",
        host: str = "",
        unix: bool = False,
        requests: Sequence[Any] = tuple(REQUESTS.values()),
    ) -> dict[str, Any]:
        """One connection, on which everything of ``requests`` is asked."""
        origins = {
            "own": f"http://localhost:{daemon.port}",
            "other": "https://evil.example",
            "null": "null",
            "forged": f"http://evil@localhost:{daemon.port}",
        }
        headers = [f"Host: {host or 'localhost'}:{daemon.port}"]
        headers += [f"Origin: {origins[origin]}"] if origin != "none" else []
        headers += [f"Authorization: Bearer {self.texts[token]}"] if token != "none" else []
        return {
            "address": "127.0.0.1",
            "port": daemon.port,
            "unix": f"{daemon.home}/api.sock" if unix else "",
            "headers": headers,
            "requests": list(requests),
        }

    async def ask(self, cases: list[dict[str, Any]], user: int) -> list[list[str]]:
        """What each connection comes to, made by ``user``: the refusal, or what is said to each request."""
        if user != os.geteuid() and os.geteuid() != 0:
            raise SkipTest("only root can ask as another user")
        with tempfile.TemporaryFile("w+") as file:
            file.writelines(json.dumps(case) + "\n" for case in cases)
            file.flush()
            file.seek(0)
            asker = Program.start(self, [sys.executable, "-c", ASKER, str(user)], stdin=file.fileno())
            await asker.line("^done$", timeout=60)
        return [json.loads(line[5:]) for line in asker.output.splitlines() if line.startswith("said ")]

    def cells(self) -> Iterator[tuple[str, str]]:
        # Few enough wrong ones in a minute that the right ones are still looked at.
        yield from ((origin, token) for origin, token in product(ORIGINS, TOKENS) if token not in ("wrong", "expired"))
        yield from ((origin, "wrong") for origin in ORIGINS)
        yield from ((origin, "expired") for origin in ORIGINS[:4])

    async def check(self, user: int, *, trusted: bool, unix: bool = False) -> None:
        daemon = await self.begin()
        cells = list(self.cells())
        answers = await self.ask(
            [self.case(daemon, origin=origin, token=token, unix=unix) for origin, token in cells], user
        )
        self.assertEqual(len(answers), len(cells))
        for (origin, token), answer in zip(cells, answers, strict=True):
            found = ["pass" if each in PASSED else each for each in answer]
            self.assertEqual(found, expected(trusted=trusted, origin=origin, token=token), (user, origin, token))


def expected(*, trusted: bool, origin: str, token: str) -> list[str]:
    """What the policy says: the one refusal, or which of ``COMMANDS`` pass."""
    if token in COMMANDS:
        return ["pass" if COMMANDS.index(token) >= number else "PERMISSION_DENIED" for number in range(3)]
    if token != "none":
        return ["401 BAD_TOKEN" if token == "wrong" else "401 TOKEN_EXPIRED"]
    if origin not in ("none", "own"):
        return ["403 ORIGIN_NOT_ALLOWED"]
    return ["pass"] * 3 if trusted else ["401 TOKEN_REQUIRED"]


class MatrixTests(MatrixCase):
    """Every cell."""

    timeout = 120

    async def test_the_own_user(self) -> None:
        await self.check(os.geteuid(), trusted=True)

    async def test_another_user(self) -> None:
        await self.check(STRANGER, trusted=False)

    async def test_the_own_user_on_the_unix_socket(self) -> None:
        await self.check(os.geteuid(), trusted=True, unix=True)

    async def test_another_user_does_not_get_to_the_unix_socket(self) -> None:
        daemon = await self.begin()
        self.assertEqual(await self.ask([self.case(daemon, unix=True)], STRANGER), [["PermissionError"]])

    async def test_a_name_of_somebody_elses(self) -> None:
        daemon = await self.begin()
        cases = [self.case(daemon, host="evil.example", token=token) for token in ("none", "start", "wrong")]
        self.assertEqual(await self.ask(cases, os.geteuid()), [["421 HOST_NOT_ALLOWED"]] * 3)


class RootTests(MatrixCase):
    """Root is another user to the daemon of an ordinary one, but on the Unix socket."""

    timeout = 120

    async def begin(self, *options: str) -> LiveDaemon:
        if os.geteuid() != 0:
            raise SkipTest("only root can start a daemon as another user")
        require(self, "setpriv")
        home = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        self.make_tokens(home)
        for place in (home, f"{home}/tokens.json"):
            os.chown(place, STRANGER, STRANGER)
        command = (*AS_STRANGER, *twistd("-n", "--pidfile="), "pmdaemon")
        daemon = await LiveDaemon.start(self, *options, home=home, command=command, env={"HOME": home})
        client = await self.ask([self.case(daemon, unix=True, requests=[MAKE_WEB])], 0)
        self.assertEqual(client, [["ok"]])
        return daemon

    async def test_root(self) -> None:
        await self.check(0, trusted=False)

    async def test_root_on_the_unix_socket(self) -> None:
        await self.check(0, trusted=True, unix=True)

    async def test_its_user(self) -> None:
        await self.check(STRANGER, trusted=True)


class NobodyTests(MatrixCase):
    """Who comes from elsewhere, so that nobody knows who it is, though it is the same user here."""

    timeout = 120

    async def begin(self, *options: str) -> LiveDaemon:
        addresses = [each for all_of in psutil.net_if_addrs().values() for each in all_of]
        elsewhere = [each.address for each in addresses if each.family == socket.AF_INET]
        self.address = next((each for each in elsewhere if not each.startswith("127.")), "")
        if not self.address:
            raise SkipTest("this machine has no address but the loopback one")
        return await super().begin("--host", "0.0.0.0", "--insecure-remote", "--allow-host", "localhost", *options)

    def case(self, daemon: LiveDaemon, **more: Any) -> dict[str, Any]:
        return {**super().case(daemon, **more), "address": self.address}

    async def test_nobody(self) -> None:
        await self.check(os.geteuid(), trusted=False)


class MeansTests(MatrixCase):
    """The other ways to find out who connects, where there is no netlink, or where the system is not Linux."""

    async def check_means(self, change: str) -> None:
        before = f"from pmdaemon.web import peer\n{change}"
        command = (*twistd("-n", "--pidfile=", before=before), "pmdaemon")
        daemon = await LiveDaemon.start(self, command=command)
        self.texts = {}
        case = self.case(daemon, requests=[REQUESTS["read"]])
        self.assertEqual(await self.ask([case], os.geteuid()), [["ok"]])
        self.assertEqual(await self.ask([case], STRANGER), [["401 TOKEN_REQUIRED"]])
        self.assertNotIn("cannot tell who connects", daemon.log)

    async def test_where_netlink_is_denied(self) -> None:
        await self.check_means("def denied(self): raise PermissionError(1, 'denied')\npeer.SockDiag.__init__ = denied")

    async def test_not_on_linux(self) -> None:
        await self.check_means("peer.Peers.__init__.__defaults__ = ((lambda: peer.in_own_processes,),)")

    async def test_nowhere(self) -> None:
        before = "from pmdaemon.web import peer\npeer.Peers.__init__.__defaults__ = ((),)"
        command = (*twistd("-n", "--pidfile=", before=before), "pmdaemon")
        daemon = await LiveDaemon.start(self, command=command)
        self.texts = {}
        self.assertEqual(await self.ask([self.case(daemon)], os.geteuid()), [["401 TOKEN_REQUIRED"]])
        self.assertIn("cannot tell who connects by TCP", daemon.log)


class OptionTests(MatrixCase):
    """What options make of it."""

    async def test_read_only(self) -> None:
        daemon = await self.begin("--read-only")
        cases = [self.case(daemon), self.case(daemon, token="start"), self.case(daemon, unix=True)]
        self.assertEqual(await self.ask(cases, os.geteuid()), [["ok", "PERMISSION_DENIED", "PERMISSION_DENIED"]] * 3)

    async def test_allow_null_origin(self) -> None:
        daemon = await self.begin("--allow-null-origin")
        cases = [self.case(daemon, origin="null"), self.case(daemon, origin="other")]
        self.assertEqual(
            await self.ask(cases, os.geteuid()),
            [["ok", "PERMISSION_DENIED", "PERMISSION_DENIED"], ["403 ORIGIN_NOT_ALLOWED"]],
        )
