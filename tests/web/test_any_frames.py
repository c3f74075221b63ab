"""Whatever a client sends behind the handshake, there is no traceback, and it is answered or closed."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.logger import globalLogPublisher

from tests.web.rig import TEXT, WorldCase

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
TYPES = st.sampled_from(
    ["subscribe", "unsubscribe", "get_info", "get_system", "ping", "command", "get_logs", "get_events"]
)
KEYS = st.sampled_from(
    [
        "events",
        "processes",
        "process",
        "action",
        "config",
        "since",
        "tail",
        "interval",
        "token",
        "grep",
        "cursor",
        "wait",
    ]
)
WORDS = st.sampled_from(
    ["web", "all", "*", "[", "ns:", "process_status", "log_message", "stop", "start", "scale", 0, -1]
)
DATA = st.dictionaries(KEYS, WORDS | st.lists(WORDS, max_size=3) | JSON, max_size=5)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


class AnyFrameTests(WorldCase):
    """In memory."""

    def setUp(self) -> None:
        super().setUp()
        self.failures: list[object] = []
        self.world.declare("web")
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: dict[str, object]) -> None:
        if "log_failure" in event:
            self.failures.append(event["log_failure"])

    @SETTINGS
    @given(st.lists(st.binary(max_size=200), max_size=4))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        client = self.world.connect()
        for chunk in chunks:
            client.protocol.dataReceived(chunk)
        self.world.pass_time(0)
        client.lose()
        self.assertEqual(self.failures, [])

    @SETTINGS
    @given(st.integers(0, 15), st.binary(max_size=200))
    def test_any_frame(self, opcode: int, payload: bytes) -> None:
        client = self.world.connect()
        client.frame(opcode, payload)
        self.world.pass_time(0)
        client.lose()
        self.assertEqual(self.failures, [])

    @SETTINGS
    @given(st.lists(st.tuples(TYPES, DATA), max_size=4))
    def test_nearly_right(self, requests: list[tuple[str, object]]) -> None:
        client = self.world.connect()
        for type_, data in requests:
            client.send(type_, data, id=1)
        self.world.pass_time(1)
        for message in client.messages:
            self.assertNotEqual(message["data"].get("code"), "INTERNAL_ERROR", (requests, message))
        client.lose()
        self.assertEqual(self.failures, [])

    def test_nested_without_end(self) -> None:
        client = self.world.connect()
        client.frame(TEXT, b'{"type": "ping", "data": ' + b"[" * 200_000)
        (reply,) = client.messages
        self.assertEqual(reply["data"]["code"], "INVALID_JSON")
