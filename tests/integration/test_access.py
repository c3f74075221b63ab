"""Tokens, keys and TLS with a live daemon: what lets in, for what, until when; and what is taken down of it."""

import base64
import json
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import trustme
from autobahn.twisted.websocket import WebSocketClientFactory
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.trial.unittest import TestCase

from pmdaemon.core.access import Scope
from pmdaemon.tokens import TokenFile
from tests.integration.harness import PATIENT, Client, LiveDaemon, Refused
from tests.integration.program import Program, twistd, within

APPS = """
apps:
  - {name: web-one, script: sleep 1000, autostart: false}
  - {name: web-two, script: sleep 1000, autostart: false}
  - {name: secret-base, script: sleep 1000, autostart: false, args: [--password=canary]}
"""


class AccessCase(TestCase):
    """Has a home to make tokens in."""

    timeout = 60

    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        self.tokens = TokenFile(Path(self.home, "tokens.json"), lambda: 1e9)

    def token(self, name: str, scope: Scope, *processes: str) -> dict[str, str]:
        """The header of a new one."""
        text = self.tokens.create(name, scope, processes or None)[1]
        return {"Authorization": f"Bearer {text}"}

    async def begin(self, *options: str, **how: object) -> LiveDaemon:
        return await LiveDaemon.start(self, *options, home=self.home, config=APPS, **how)

    async def refused(self, daemon: LiveDaemon, **how: object) -> int:
        with self.assertRaises(Refused) as caught:
            await daemon.connect(**how)
        return caught.exception.status


class TokenTests(AccessCase):
    """Tokens of the file."""

    async def test_what_is_outside_of_a_tokens_processes_does_not_exist(self) -> None:
        token = self.token("part", "start", "web-*")
        daemon = await self.begin()
        whole, part = await daemon.connect(), await daemon.connect(headers=token)
        info = (await part.request("get_info"))["data"]["processes"]
        self.assertEqual([each["name"] for each in info], ["web-one", "web-two"])
        for type_, data, code in (
            ("get_info", {"process": "secret-base"}, "PROCESS_NOT_FOUND"),
            ("get_info", {"process": "secret-bas"}, "PROCESS_NOT_FOUND"),
            ("command", {"action": "stop", "process": "secret-base"}, "PROCESS_NOT_FOUND"),
            ("command", {"action": "delete", "process": "ns:hidden"}, "PROCESS_NOT_FOUND"),
            ("command", {"action": "scale", "process": "secret-base", "instances": 2}, "PROCESS_NOT_FOUND"),
            ("command", {"action": "start", "process": "other", "config": {"script": "sleep 1"}}, "PERMISSION_DENIED"),
            (
                "command",
                {"action": "start", "process": "secret-base", "config": {"script": "x"}, "replace": True},
                "PERMISSION_DENIED",
            ),
        ):
            reply = await part.request(type_, data)
            self.assertEqual((reply["type"], reply["data"].get("code")), ("error", code), data)
            if data.get("process") != "secret-base":
                self.assertNotIn("secret-base", json.dumps(reply), "nor its name")
        told = await part.request("subscribe", {"events": ["process_status", "process_event", "process_metrics"]})
        self.assertEqual([each["name"] for each in told["data"]["snapshot"]], ["web-one", "web-two"])
        done = await part.command("reset", "all")
        self.assertEqual([each["name"] for each in done["processes"]], ["web-one", "web-two"])
        await whole.command("start", "secret-base")
        await whole.command("start", "web-one")
        await part.expect_status("web-one", "online")
        await part.expect("process_metrics")
        self.assertNotIn("secret-base", json.dumps([each for each in part.messages if each["type"] != "error"]))

    async def test_a_token_that_is_taken_back_ends_its_connections(self) -> None:
        token, other = self.token("gone", "read"), self.token("stays", "read")
        daemon = await self.begin()
        gone, stays = await daemon.connect(headers=token), await daemon.connect(headers=other)
        self.tokens.revoke("gone")
        code, _ = await gone.closed(timeout=10)
        self.assertEqual(code, 4401)
        self.assertEqual((await stays.request("ping"))["type"], "pong")
        self.assertEqual(await self.refused(daemon, headers=token), 401)

    async def test_authenticate(self) -> None:
        text = self.token("less", "read", "web-*")["Authorization"].split()[1]
        daemon = await self.begin()
        client = await daemon.connect()
        wrong = await client.request("authenticate", {"token": "pmd_wrong"})
        self.assertEqual(wrong["data"]["code"], "UNAUTHORIZED")
        reply = await client.request("authenticate", {"token": text})
        self.assertEqual(reply["type"], "authenticated", reply)
        self.assertEqual(reply["data"], {"scope": "read", "processes": ["web-*"], "expires": None})
        denied = await client.request("command", {"action": "stop", "process": "web-one"})
        self.assertEqual(denied["data"]["code"], "PERMISSION_DENIED")
        await client.request("subscribe", {"events": ["process_status"]})
        late = await client.request("authenticate", {"token": text})
        self.assertEqual(late["data"]["code"], "INVALID_MESSAGE")

    async def test_as_a_browser_sends_it(self) -> None:
        text = self.token("page", "read")["Authorization"].split()[1]
        coded = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        offered = f"base64url.bearer.authorization.pmdaemon.{coded}"
        daemon = await self.begin()
        client = await daemon.connect(origin="null", protocols=["pmdaemon.v1", offered])
        self.assertEqual(client.websocket_protocol_in_use, "pmdaemon.v1")
        self.assertEqual((await client.request("ping"))["type"], "pong")

    async def test_others_are_held_to_a_rate(self) -> None:
        token = self.token("quick", "read")
        daemon = await self.begin()
        own, quick = await daemon.connect(), await daemon.connect(headers=token)
        for _ in range(200):
            own.send("ping")
        for _ in range(80):
            quick.send("ping")
        code, _ = await quick.closed()
        self.assertEqual(code, 4429)
        refused = [each["data"] for each in quick.messages if each["type"] == "error"]
        self.assertEqual({each["code"] for each in refused}, {"RATE_LIMITED"})
        self.assertGreater(refused[0]["details"]["retry_ms"], 0)
        self.assertEqual((await own.request("ping"))["type"], "pong")


class KeyTests(AccessCase):
    """Keys that are given at the start."""

    async def test_api_key(self) -> None:
        daemon = await self.begin(env={"PMDAEMON_API_KEY": "canary-0123456789abcdef"})
        client = await daemon.connect(headers={"X-API-Key": "canary-0123456789abcdef"}, origin="https://any.example")
        await client.command("start", "web-one")
        self.assertEqual(await self.refused(daemon, headers={"X-API-Key": "canary-0123456789abcdeX"}), 401)
        pid = (await client.request("get_info", {"process": "web-one"}))["data"]["pid"]
        self.assertNotIn(b"canary-", Path(f"/proc/{pid}/environ").read_bytes(), "children do not get it")
        self.assertNotIn("canary-", daemon.log)


class AuditTests(AccessCase):
    """Who had what done."""

    async def test_every_command_and_every_refused_one(self) -> None:
        token = self.token("ci", "operate")
        daemon = await self.begin()
        own, other = await daemon.connect(), await daemon.connect(headers=token)
        await own.command("start", "web-one")
        await other.request("command", {"action": "delete", "process": "web-one"})
        await other.request("command", {"action": "stop", "process": "no\x1b]0;forged\x07\r\nsuch"})
        await own.request("get_info")
        file = Path(self.home, "audit.jsonl")
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        raw = file.read_bytes()
        self.assertFalse(set(raw) & (set(range(32)) - {10} | {127}), "nothing that a terminal would act on")
        lines = [json.loads(line) for line in raw.splitlines()]
        self.assertEqual(
            [(each["client"], each["kind"], each["action"], each["outcome"]) for each in lines],
            [
                (f"uid:{os.geteuid()}", "user", "start", "ok"),
                ("ci", "token", "delete", "PERMISSION_DENIED"),
                ("ci", "token", "stop", "PROCESS_NOT_FOUND"),
            ],
        )
        self.assertEqual(daemon.log.count("audit: "), 3)
        self.assertNotIn("\x1b", daemon.log)


class TLSTests(AccessCase):
    """wss."""

    async def test_wss(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        cert, key = Path(self.home, "cert.pem"), Path(self.home, "key.pem")
        cert.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        daemon = await self.begin("--tls-cert", str(cert), "--tls-key", str(key))
        self.assertIn(f"listens on https://localhost:{daemon.port}/", daemon.log)
        root = Certificate.loadPEM(authority.cert_pem.bytes())
        trust = optionsForClientTLS("localhost", trustRootFromCertificates([root]))
        for origin, passes in ((f"https://localhost:{daemon.port}", True), (f"http://localhost:{daemon.port}", False)):
            factory = WebSocketClientFactory(f"wss://localhost:{daemon.port}/ws", origin=origin, reactor=reactor)
            factory.protocol = Client
            factory.setProtocolOptions(**PATIENT)
            endpoint = wrapClientTLS(trust, HostnameEndpoint(reactor, "localhost", daemon.port))
            client = await endpoint.connect(factory)
            self.addCleanup(client.close)
            if not passes:
                with self.assertRaises(Refused) as caught:
                    await within(10, client._opened, lambda: "an answer")
                self.assertEqual(caught.exception.status, 403)
                continue
            await within(10, client._opened, lambda: "the handshake")
            self.assertEqual((await client.request("ping"))["type"], "pong", "its user is known through TLS too")
            await self.look_at_lines(client)

    async def look_at_lines(self, client: Client) -> None:
        """Far more of them than a socket takes at once come whole and in order."""
        await client.request("subscribe", {"events": ["log_message"]})
        last = 5000
        script = f"i=0; while [ $i -le {last} ]; do echo $i {'x' * 200}; i=$((i + 1)); done; exec sleep 1000"
        await client.command("start", "printer", config={"script": "sh", "args": ["-c", script]})
        await client.expect(
            lambda message: message["type"] == "log_message" and message["data"]["message"].startswith(f"{last} "),
            timeout=20,
            what="the last line",
        )
        told = [each["data"]["message"] for each in client.messages if each["type"] == "log_message"]
        self.assertEqual(told, [f"{number} {'x' * 200}" for number in range(last + 1)])


class UnixSocketTests(AccessCase):
    """HOME/api.sock."""

    async def check(self) -> None:
        path = Path(self.home, "api.sock")
        daemon = await self.begin()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode), 0o700)
        directory = os.open(self.home, os.O_PATH)
        self.addCleanup(os.close, directory)
        factory = WebSocketClientFactory("ws://localhost/ws", reactor=reactor)
        factory.protocol = Client
        factory.setProtocolOptions(**PATIENT)
        client = await UNIXClientEndpoint(reactor, f"/proc/self/fd/{directory}/api.sock").connect(factory)
        await within(10, client._opened, lambda: "the handshake")
        await client.command("start", "web-one")
        await client.close()
        await daemon.stop()
        self.assertFalse(path.exists(), "it goes with the daemon")

    async def test_a_stale_one_is_replaced(self) -> None:
        os.chmod(self.home, 0o755)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(f"{self.home}/api.sock")
        await self.check()

    async def test_a_path_that_is_too_long(self) -> None:
        self.home = f"{self.home}/{'long' * 30}"
        await self.check()


class RemoteTests(AccessCase):
    """Other machines."""

    async def ended(self, *options: str) -> tuple[str | int, str]:
        argv = [*twistd("-n", "--pidfile="), "pmdaemon", "--home", self.home, "--port", "0", *options]
        program = Program.start(self, argv)
        return await program.ended(), program.output

    async def test_does_not_start_without_tls_and_a_token(self) -> None:
        self.token("there-is-one", "read")
        code, said = await self.ended("--host", "0.0.0.0")
        self.assertEqual(code, 61)
        self.assertRegex(said, r"\Apmdaemon: refusing to listen on 0\.0\.0\.0 without TLS and a token; [^\n]*\n\Z")
        self.assertFalse(Path(self.home, "api.sock").exists())
