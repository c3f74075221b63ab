"""A connection's standing, and what a WebSocket makes of it when it changes."""

from pathlib import Path

from pmdaemon.core.access import Scope
from pmdaemon.tokens import TokenFile
from pmdaemon.web.credentials import Credentials
from pmdaemon.web.guard import Guard
from pmdaemon.web.limits import BURST, FAILURES, PATIENCE, Connections, FailedLogins, Place
from pmdaemon.web.peer import Peer
from pmdaemon.web.places import Places
from pmdaemon.web.visit import Visit
from pmdaemon.web.websocket import RECHECK
from tests.web.rig import Peer as Client
from tests.web.rig import WorldCase

OTHER = Peer("127.0.0.1", 1001)


class VisitTests(WorldCase):
    """Over a WebSocket in memory."""

    def setUp(self) -> None:
        super().setUp()
        clock = self.world.clock
        self.tokens = TokenFile(Path(self.home, "tokens.json"), clock.seconds)
        credentials = Credentials(self.tokens, clock.seconds)
        self.guard = Guard(Places(), credentials, FailedLogins(clock), own=1000)
        self.connections = Connections(1000, 10)

    def token(self, scope: Scope, *processes: str, lifetime: float | None = None, name: str | None = None) -> str:
        return self.tokens.create(name, scope, processes or None, lifetime)[1]

    def visit(self, token: str) -> Client:
        """A connection of who shows the token."""
        caller = self.guard.authenticate(token, OTHER)
        place = self.connections.enter(OTHER)
        assert isinstance(place, Place)
        place.let_in()
        client = self.world.connect()
        client.protocol.visit = Visit(caller, OTHER, self.guard, place, self.world.clock)  # type: ignore[arg-type]
        self.world.factory.watch(client.protocol)
        return client

    def test_ends_when_the_token_does(self) -> None:
        client = self.visit(self.token("read", lifetime=10))
        self.world.pass_time(9)
        self.assertIsNone(client.closed)
        self.world.pass_time(1 + RECHECK)
        assert client.closed is not None
        self.assertEqual(client.closed[0], 4401)

    def test_ends_when_the_token_is_taken_back(self) -> None:
        client = self.visit(self.token("read", name="one"))
        self.tokens.revoke("one")
        self.world.pass_time(RECHECK)
        assert client.closed is not None
        self.assertEqual(client.closed[0], 4401)

    def test_nothing_is_done_for_a_token_that_was_just_taken_back(self) -> None:
        client = self.visit(self.token("start", name="one"))
        (process,) = self.world.declare("web")
        self.tokens.revoke("one")
        client.send("command", {"action": "start", "process": "web"})
        assert client.closed is not None
        self.assertEqual((client.closed[0], process.status), (4401, "stopped"))

    def test_ends_when_the_file_cannot_be_read(self) -> None:
        client = self.visit(self.token("read"))
        self.tokens.path.write_text("{")
        self.world.pass_time(RECHECK)
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1011)

    def test_the_own_user_stays_and_nothing_wakes_for_it(self) -> None:
        client = self.world.connect()
        self.tokens.path.write_text("{")
        self.world.pass_time(RECHECK)
        self.assertIsNone(client.closed)
        self.assertFalse(self.world.factory._watch.running)

    def test_a_rate(self) -> None:
        client = self.visit(self.token("read"))
        for _ in range(BURST):
            self.assertEqual(client.ask("ping")["type"], "pong")
        for _ in range(PATIENCE - 1):
            self.assertEqual(client.ask("ping")["data"]["code"], "RATE_LIMITED")
        client.send("ping")
        self.assertEqual(client.closed, (4429, "too many messages"))

    def test_authenticate(self) -> None:
        self.world.start("web")
        self.world.start("hidden")
        client = self.visit(self.token("start"))
        for _ in range(3):
            self.assertEqual(client.ask("authenticate", {"token": "x"})["data"]["code"], "UNAUTHORIZED")
        reply = client.ask("authenticate", {"token": self.token("read", "web", lifetime=60)})
        self.assertEqual(
            (reply["type"], reply["data"]["scope"], reply["data"]["processes"]), ("authenticated", "read", ["web"])
        )
        self.assertRegex(reply["data"]["expires"], r"^20\d\d-")
        ack = client.ask("subscribe", {"events": ["log_message", "process_status"], "processes": ["*"]})
        self.assertEqual([each["name"] for each in ack["data"]["snapshot"]], ["web"])
        self.assertEqual(
            client.ask("command", {"action": "stop", "process": "web"})["data"]["code"], "PERMISSION_DENIED"
        )

    def test_too_many_wrong_ones(self) -> None:
        client = self.visit(self.token("read"))
        for _ in range(FAILURES):
            client.ask("authenticate", {"token": "x"})
        refused = client.ask("authenticate", {"token": self.token("start")})["data"]
        self.assertEqual((refused["code"], refused["details"]["retry_ms"]), ("RATE_LIMITED", 60_000))

    def test_gives_its_place_back(self) -> None:
        client = self.visit(self.token("read"))
        self.assertEqual(self.connections._held.total(), 1)
        client.lose()
        self.assertEqual(self.connections._held.total(), 0)
