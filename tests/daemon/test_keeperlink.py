"""The connection to the keeper, against one that does what a test says, on a real socket."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from pmdaemon.daemon import keeperlink
from pmdaemon.daemon.keeperlink import Fact, KeeperError, KeeperLink
from tests.daemon.recorder import until

Message = dict[str, Any]
STATE: Message = {"kids": []}


class FakeKeeper(Factory):
    """Greets as a keeper does, keeps all orders, and says nothing but what it is told to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connections: list[_Door] = []
        self.batches: list[list[Message]] = []
        self.state: Message = STATE
        self.hello: Message = {"version": 1, "keeper": {"pid": 7, "versions": [1, 1]}}
        self.silent = False
        self.port: Any = None

    def open(self) -> None:
        self.port = reactor.listenUNIX(self.path, self)

    async def close(self) -> None:
        """As if it had been killed."""
        port, self.port = self.port, None
        if port is not None:
            await port.stopListening()
        for each in self.connections:
            each.transport.abortConnection()
        self.connections.clear()

    def buildProtocol(self, address: object) -> "_Door":
        return _Door(self)

    def say(self, *messages: Message) -> None:
        self.connections[-1].say(*messages)

    @property
    def orders(self) -> list[Message]:
        return [order for batch in self.batches for order in batch]


class _Door(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 24

    def __init__(self, keeper: FakeKeeper) -> None:
        self._keeper = keeper

    def connectionMade(self) -> None:
        self._keeper.connections.append(self)

    def say(self, *messages: Message) -> None:
        self.transport.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def lineReceived(self, line: bytes) -> None:
        message = json.loads(line)
        if "orders" in message:
            self._keeper.batches.append(message["orders"])
        elif self._keeper.silent:
            return
        elif message["op"] == "hello":
            self.say({"re": message["n"], **self._keeper.hello})
        else:
            self.say({"re": message["n"], "ok": self._keeper.state})


class Started:
    """A keeper that was launched; ``why`` it has ended."""

    def __init__(self, why: str | None = None) -> None:
        self.why = why

    def failure(self) -> str | None:
        return self.why


class LinkCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        place = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, place)
        self.keeper = FakeKeeper(os.path.join(place, "keeper.sock"))
        self.addCleanup(self.keeper.close)
        self.facts: list[Fact] = []
        self.states: list[Fact] = []
        self.ahead = 0
        self.launches = 0
        self.launch: Callable[[], Started] = Started
        self.link = KeeperLink(
            reactor,
            self.keeper.path,
            launch=self._launch,
            ahead=self._ahead,
            fact=self.facts.append,
            again=self.states.append,
        )
        self.addCleanup(self.link.leave)
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "pmdaemon.daemon.keeperlink.KeeperLink":
            self.said.append(event["log_format"].format(**event))

    def _launch(self) -> Started:
        self.launches += 1
        return self.launch()

    def _ahead(self) -> None:
        self.ahead += 1

    async def begin(self) -> None:
        self.keeper.open()
        self.assertEqual(await self.link.connect(), self.keeper.state)

    async def fails(self, awaited: "Deferred[Any]") -> KeeperError:
        failure = await self.assertFailure(awaited, KeeperError)
        assert isinstance(failure, KeeperError)
        return failure


class TalkTests(LinkCase):
    async def test_orders_of_one_turn_leave_in_one_line(self) -> None:
        await self.begin()
        first, second = self.link.order("spawn", id="1"), self.link.order("spawn", id="2")
        self.link.post("ack", id="3")
        self.assertEqual(self.ahead, 0)
        await until(lambda: self.keeper.batches)
        (batch,) = self.keeper.batches
        self.assertEqual([order["op"] for order in batch], ["spawn", "spawn", "ack"])
        self.assertEqual(self.ahead, 1, "what they follow from was made last")
        self.keeper.say({"re": batch[1]["n"], "ok": {"pid": 2}}, {"re": batch[0]["n"], "error": "no"})
        self.assertEqual((await second)["ok"], {"pid": 2})
        self.assertEqual((await self.fails(first)).answer["error"], "no")

    async def test_what_is_no_text(self) -> None:
        """A path or a variable may hold any bytes; they come and go as lone surrogates."""
        await self.begin()
        env = {"A": "\udcff", "B": "\u20ac"}
        self.link.post("spawn", id="1", env=env)
        await until(lambda: self.keeper.batches)
        self.assertEqual(self.keeper.orders[0]["env"], env)
        self.keeper.say({"ev": "log", "path": "/\udcff", "end": 1})
        await until(lambda: self.facts)
        self.assertEqual(self.facts[0]["path"], "/\udcff")

    async def test_facts(self) -> None:
        await self.begin()
        self.keeper.say({"ev": "log", "path": "x", "end": 1}, {"ev": "exit", "id": "1", "inc": 1})
        await until(lambda: len(self.facts) == 2)
        self.assertEqual([fact["ev"] for fact in self.facts], ["log", "exit"])

    async def test_what_makes_no_sense_is_told_and_left_alone(self) -> None:
        await self.begin()
        for line in (b"garbage", b"[1]", b'"ev"', b"\xff"):
            self.keeper.connections[-1].transport.write(line + b"\n")
        self.keeper.say({"error": "malformed: no"}, {"re": 999, "ok": {}}, {"ev": "log"})
        await until(lambda: self.facts)
        self.assertEqual(len([line for line in self.said if "what is no message" in line]), 4, self.said)
        self.assertEqual(len([line for line in self.said if "does not understand" in line]), 1)

    async def test_a_fact_that_cannot_be_dealt_with(self) -> None:
        await self.begin()
        self.link._fact = lambda fact: fact["id"]
        self.keeper.say({"ev": "exit"})
        order = self.link.order("ping")
        await until(lambda: self.keeper.orders)
        self.keeper.say({"re": self.keeper.orders[0]["n"], "ok": {}})
        await order
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class LostTests(LinkCase):
    async def test_what_was_not_answered_is_sent_again_in_its_order(self) -> None:
        await self.begin()
        answered, first = self.link.order("spawn", id="0"), self.link.order("spawn", id="1")
        await until(lambda: self.keeper.batches)
        self.keeper.say({"re": self.keeper.orders[0]["n"], "ok": {}})
        await answered
        await self.keeper.close()
        await until(lambda: self.link._wire is None)
        second = self.link.order("spawn", id="2")
        await until(lambda: self.launches)
        self.link._again = lambda state: self.link.post("ack", id="3")
        self.keeper.batches.clear()
        self.keeper.open()
        await until(lambda: self.keeper.batches)
        self.assertEqual([order["id"] for order in self.keeper.orders], ["1", "2", "3"])
        self.assertEqual(self.launches, 1)
        self.keeper.say(*({"re": order["n"], "ok": {"pid": order["id"]}} for order in self.keeper.orders))
        self.assertEqual([(await each)["ok"]["pid"] for each in (first, second)], ["1", "2"])
        self.assertIn("the connection to the keeper is lost, making it again", self.said)

    async def test_what_is_told_before_the_state_is_part_of_it(self) -> None:
        await self.begin()
        self.keeper.silent = True
        self.keeper.connections[-1].transport.abortConnection()
        await until(lambda: len(self.keeper.connections) == 2)
        self.keeper.say({"ev": "exit", "id": "1"})
        self.keeper.say({"re": 3, "version": 1}, {"ev": "gone", "id": "1"})
        self.keeper.state = {"kids": [1]}
        self.keeper.say({"re": 4, "ok": self.keeper.state}, {"ev": "exit", "id": "2"})
        await until(lambda: self.facts)
        self.assertEqual((self.states, [fact["id"] for fact in self.facts]), ([{"kids": [1]}], ["2"]))

    async def test_leave(self) -> None:
        await self.begin()
        self.link.post("ack", id="1")
        self.link.leave()
        await until(lambda: self.keeper.orders)
        self.assertEqual((self.said, self.launches), ([], 0))

    async def test_no_keeper_to_be_had_any_more(self) -> None:
        self.patch(keeperlink, "_LATER", 0.05)
        await self.begin()
        self.launch = lambda: Started("no space left on device")
        await self.keeper.close()
        await until(lambda: self.launches >= 2)
        words = "cannot start the keeper: no space left on device; the processes go on, but none can be started"
        self.assertTrue(self.said[-1].startswith(words), self.said)
        self.launch = Started
        self.keeper.open()
        order = self.link.order("ping")
        await until(lambda: self.keeper.orders)
        self.keeper.say({"re": self.keeper.orders[0]["n"], "ok": {}})
        await order


class FirstTests(LinkCase):
    async def connect(self) -> Fact:
        return await self.link.connect()

    async def test_one_is_launched_where_none_answers(self) -> None:
        def launch() -> Started:
            reactor.callLater(0.1, self.keeper.open)
            return Started()

        self.launch = launch
        self.assertEqual(await self.link.connect(), STATE)
        self.assertEqual(self.launches, 1)

    async def test_one_that_ends_at_once(self) -> None:
        self.launch = lambda: Started("OSError: keeper.lock")
        error = await self.fails(Deferred.fromCoroutine(self.connect()))
        self.assertEqual(str(error), "cannot start the keeper: OSError: keeper.lock")

    async def test_one_that_cannot_be_executed(self) -> None:
        def launch() -> Started:
            raise FileNotFoundError(2, "No such file or directory", "/no/python")

        self.launch = launch
        error = await self.fails(Deferred.fromCoroutine(self.connect()))
        self.assertEqual(str(error), "cannot start the keeper: No such file or directory: /no/python")

    async def test_one_that_never_listens(self) -> None:
        self.patch(keeperlink, "_PATIENCE", 0.2)
        error = await self.fails(Deferred.fromCoroutine(self.connect()))
        self.assertTrue(str(error).startswith(f"cannot reach the keeper at {self.keeper.path}: "), error)

    async def test_one_that_never_answers(self) -> None:
        self.patch(keeperlink, "_PATIENCE", 0.2)
        self.keeper.silent = True
        self.keeper.open()
        error = await self.fails(Deferred.fromCoroutine(self.connect()))
        self.assertTrue(str(error).startswith(f"cannot reach the keeper at {self.keeper.path}: "), error)

    async def test_one_that_speaks_nothing_we_understand(self) -> None:
        self.keeper.hello = {"error": "version", "keeper": {"pid": 7, "versions": [3, 4]}}
        self.keeper.open()
        error = await self.fails(Deferred.fromCoroutine(self.connect()))
        words = "cannot talk to the keeper with pid 7: it speaks version 3-4 of the protocol, this daemon 1"
        self.assertTrue(str(error).startswith(words), error)
        self.assertEqual(self.launches, 0)
