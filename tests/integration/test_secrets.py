"""Where a secret may be that an app is given, and that it is nowhere else: no answer, no event, no log, no other file.

What starts an app again has to be kept somewhere: in ``state.db``, whose mode is 0600, in a directory whose is 0700.
"""

import json
import os
import sqlite3
from pathlib import Path

from twisted.internet import protocol, reactor

from tests.integration.keepercase import KeeperCase

CANARY = "canary-0123456789abcdef"
FROM_FILE = "canary-of-a-file-0123456789"
KEPT_IN = {"state.db", "state.db-wal", "keeper.jsonl"}
"""Files of the home that may hold what an app is given in ``env``, ``args`` or a URL."""
KEPT_AS = {"apps"}
"""Of the tables there, those that may."""
CHANGES = [
    {"action": "restart", "process": "web"},
    {"action": "reload", "process": "web"},
    {"action": "scale", "process": "web", "instances": 2},
    {"action": "start", "process": "web", "config": {"script": CANARY, "x": 1}},
    {"action": "start", "process": "web", "config": {"script": "true"}, "env": {"A": CANARY}},
    {"action": "start", "process": "b", "config": {"script": "true", "env": {"A": [CANARY]}}},
    {"action": "start", "process": "b", "config": {"script": "true", "env": {"A=": CANARY}}},
    {"action": "start", "process": "b", "config": {"script": "true", "env": CANARY}},
    {"action": "start", "process": "b", "config": {"script": "/no/such", "env": {"A": CANARY}}},
    {"action": "start", "process": "b", "config": {"script": "sleep 1000", "cwd": "/no/such", "env": {"A": CANARY}}},
    {
        "action": "start",
        "process": "c",
        "config": {"script": "sleep 1000", "env_file": "/no/such", "env": {"A": CANARY}},
    },
    {"action": "start", "process": "d", "config": {"script": "sleep 1000", "user": "no-such", "env": {"A": CANARY}}},
    {"action": "delete", "process": "d"},
]
QUESTIONS = ("get_info", "get_events", "get_logs", "get_crash", "get_config", "get_history", "get_system", "get_info")


class Well(protocol.Protocol):
    """Answers whatever it is asked that all is well."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.transport.loseConnection()


class SecretTests(KeeperCase):
    def holders(self, secret: str) -> set[str]:
        """The files of the home that hold it."""
        files = [each for each in Path(self.home).rglob("*") if each.is_file()]
        return {str(each.relative_to(self.home)) for each in files if secret.encode() in each.read_bytes()}

    def tables(self, secret: str) -> set[str]:
        """The tables of the database that hold it."""
        with sqlite3.connect(f"file:{self.home}/state.db?mode=ro", uri=True) as db:
            names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {name for name in names for row in db.execute(f"SELECT * FROM {name}") if secret in repr(row)}
        db.close()
        return found

    async def test_where_it_is(self) -> None:
        checked = reactor.listenTCP(0, protocol.Factory.forProtocol(Well), interface="127.0.0.1")
        self.addCleanup(checked.stopListening)
        url = f"http://127.0.0.1:{checked.getHost().port}/?token={CANARY}"
        file = self.place / "secret.env"
        file.write_text(f"FROM_FILE={FROM_FILE}\n")
        web = {
            "name": "web",
            "script": "sh",
            "args": ["-c", 'test "$SECRET" && test "$FROM_FILE"; exec sleep 1000', f"--password={CANARY}"],
            "env": {"SECRET": CANARY},
            "env_file": str(file),
            "health_check": {"check_type": "http", "url": url, "interval": 0.2},
        }
        crashing = {"name": "crashing", "script": "false", "env": {"SECRET": CANARY}, "restart_delay": "60s"}
        daemon = await self.start(web, crashing)
        client = await self.follow(daemon, "process_status", "process_event", "health_update", "log_message")
        await client.expect(lambda message: message["type"] == "health_update", what="a check", timeout=20)
        for change in CHANGES:
            await client.request("command", {**change, "timeout": 5000})
        for type_ in QUESTIONS:
            for process in ("web", "crashing", "web-0", "all"):
                data = {"process": process, **({"metric": "cpu"} if type_ == "get_history" else {})}
                await client.request(type_, {} if type_ == "get_system" else data)
        crash = await client.request("get_crash", {"process": "crashing"})
        self.assertEqual(crash["data"]["crash"]["exit_code"], 1, "there was something to be told")
        await self.kill_keeper()
        await client.request("command", {"action": "restart", "process": "web", "timeout": 5000})
        for secret in (CANARY, FROM_FILE):
            for message in client.messages:
                self.assertNotIn(secret, json.dumps(message))
            self.assertNotIn(secret, daemon.log)
        whole = await client.request("get_config", {"process": "web", "secrets": True})
        self.assertEqual(whole["data"]["config"]["env"], {"SECRET": CANARY}, "for whoever may start anything")
        for running in (True, False):
            self.assertEqual(self.holders(CANARY) - KEPT_IN, set(), running)
            self.assertTrue(self.holders(CANARY), "or the app could not be started again")
            self.assertEqual(self.holders(FROM_FILE), set(), "read at each start, and never kept")
            self.assertEqual(os.stat(self.home).st_mode & 0o777, 0o700)
            for each in Path(self.home).rglob("*"):
                if not each.is_symlink():
                    self.assertEqual(os.lstat(each).st_mode & 0o077, 0, f"{each} is for its user alone")
            if running:
                await client.close()
                await daemon.stop()  # who lets go of the database
        self.assertEqual(self.tables(CANARY), KEPT_AS)
