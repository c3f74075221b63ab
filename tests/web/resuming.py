"""A daemon with one process and a witness, for the tests of what a client is told that comes back [S7]."""

from tests.web.rig import Message, Peer, WorldCase

STATUS, EVENT, LOG = "process_status", "process_event", "log_message"
KINDS = [STATUS, EVENT, LOG]

MUCH = "".join(f"{number:1000}\n" for number in range(500))
"""Far more than a client takes at once."""


def of(messages: list[Message], *types: str) -> list[Message]:
    return [each for each in messages if each["type"] in types]


def texts(messages: list[Message]) -> list[str]:
    return [each["data"]["message"] for each in messages if each["type"] == LOG]


class ResumeCase(WorldCase):
    def setUp(self) -> None:
        super().setUp()
        self.process = self.world.start()
        self.witness = self.watch()

    def watch(self, *names: str, **more: object) -> Peer:
        """A client that is subscribed, with nothing read yet."""
        peer = self.world.connect()
        peer.ask("subscribe", {"events": list(names or KINDS), **more})
        return peer

    def cursor(self) -> str:
        """The id of a message that has just been sent."""
        return self.world.connect().ask("ping")["id"]
