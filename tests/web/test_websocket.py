"""The socket's own rules: its options, what closes it and with which code, pings, and when it is not read."""

import json

from pmdaemon.web.websocket import BEAT, MAX_MESSAGE, MAX_PENDING, OPTIONS
from tests.web.rig import BINARY, CLOSE, PONG, TEXT, Peer, WorldCase


class HandshakeTests(WorldCase):
    def test_every_option_is_what_it_is_meant_to_be(self) -> None:
        """Read from a live connection, so that no default of Autobahn's changes one unseen."""
        protocol = self.world.connect().protocol
        expected = {
            "allowNullOrigin": True,
            "allowedOrigins": ["*"],
            "applyMask": True,
            "autoFragmentSize": 0,
            "autoPingInterval": 0,
            "autoPingTimeout": 0,
            "closeHandshakeTimeout": 1,
            "echoCloseCodeReason": False,
            "failByDrop": False,
            "maskServerFrames": False,
            "maxConnections": 0,
            "maxFramePayloadSize": 1048576,
            "maxMessagePayloadSize": 1048576,
            "openHandshakeTimeout": 10,
            "requireMaskedClientFrames": True,
            "tcpNoDelay": True,
            "trustXForwardedFor": 0,
            "utf8validateIncoming": True,
            "versions": [13],
            "webStatus": False,
        }
        self.assertEqual({name: getattr(protocol, name) for name in expected}, expected)
        self.assertEqual(OPTIONS.keys() - expected.keys(), {"perMessageCompressionAccept"})

    def test_nothing_is_said_before_the_client_asks(self) -> None:
        """[S1]"""
        peer = self.world.connect()
        self.world.start()
        self.assertEqual((peer.messages, peer.pings), ([], 0))

    def test_compression_is_not_negotiated(self) -> None:
        peer = self.world.connect(b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        self.assertIn(b"101", peer.answer)
        self.assertNotIn(b"permessage-deflate", peer.answer)

    def test_the_subprotocol_is_ours_or_none(self) -> None:
        offered = self.world.connect(b"Sec-WebSocket-Protocol: other, pmdaemon.v1\r\n")
        self.assertIn(b"Sec-WebSocket-Protocol: pmdaemon.v1", offered.answer)
        other = self.world.connect(b"Sec-WebSocket-Protocol: other\r\n")
        self.assertIn(b"101", other.answer)
        self.assertNotIn(b"Sec-WebSocket-Protocol", other.answer)

    def test_the_answer_does_not_tell_a_version(self) -> None:
        self.assertIn(b"Server: PMDaemon\r\n", self.world.connect().answer)


class CloseTests(WorldCase):
    def test_a_binary_frame(self) -> None:
        """[E4]"""
        peer = self.world.connect()
        peer.frame(BINARY, b'{"type": "ping"}')
        self.assertEqual((peer.messages, peer.closed), ([], (1003, "send text frames of JSON")))

    def test_nothing_is_done_or_said_behind_the_close(self) -> None:
        self.world.start()
        peer = self.world.connect()
        peer.ask("subscribe", {"events": ["process_status"]})
        peer.take()
        peer.frame(BINARY, b"")
        peer.send("command", {"action": "stop", "process": "web"})
        self.world.start("other")
        self.assertEqual((peer.take(), self.world.supervisor.processes[0].status), ([], "online"))

    def test_a_message_of_more_than_1_MiB(self) -> None:
        """[E4]"""
        peer = self.world.connect()
        peer.frame(TEXT, b'{"type": "ping"}'.ljust(MAX_MESSAGE))
        self.world.pass_time()
        self.assertEqual([each["type"] for each in peer.take()], ["pong"])
        peer.frame(TEXT, b'{"type": "ping"}'.ljust(MAX_MESSAGE + 1))
        self.assertEqual((peer.take(), (peer.closed or (0, ""))[0]), ([], 1009))

    def test_many_frames_of_one_message_of_more_than_1_MiB(self) -> None:
        peer = self.world.connect()
        for _ in range(17):
            peer.protocol.dataReceived(b"\x01\xff" + (1 << 16).to_bytes(8, "big") + bytes(4) + b" " * (1 << 16))
            if peer.messages or peer.closed:
                break
        self.assertEqual((peer.closed or (0, ""))[0], 1002, "a second first frame")
        peer = self.world.connect()
        for number in range(17):
            first = b"\x00" if number else b"\x01"
            peer.protocol.dataReceived(first + b"\xff" + (1 << 16).to_bytes(8, "big") + bytes(4) + b" " * (1 << 16))
        self.assertEqual((peer.messages, (peer.closed or (0, ""))[0]), ([], 1009))

    def test_what_is_not_UTF8(self) -> None:
        peer = self.world.connect()
        peer.frame(TEXT, b'{"type": "\xff"}')
        self.assertEqual((peer.closed or (0, ""))[0], 1007)

    def test_wrong_messages_leave_the_connection_open(self) -> None:
        """[E4]"""
        peer = self.world.connect()
        for text in (b"", b"{", b"[]", b'{"type": "nothing"}', b'{"type": "subscribe"}'):
            peer.frame(TEXT, text)
        codes = [each["code"] for each in peer.data("error")]
        self.assertEqual(codes, ["INVALID_JSON", "INVALID_JSON", "INVALID_MESSAGE", "UNKNOWN_TYPE", "INVALID_MESSAGE"])
        self.assertEqual(peer.ask("ping")["type"], "pong")

    def test_the_daemon_stops(self) -> None:
        peers = [self.world.connect() for _ in range(3)]
        gone = self.world.factory.leave()
        self.assertEqual([peer.closed for peer in peers], [(1001, "the daemon stops")] * 3)
        for peer in peers:
            self.assertNoResult(gone)
            peer.frame(CLOSE, (1001).to_bytes(2, "big"))
            peer.lose()
        self.successResultOf(gone)

    def test_a_client_that_does_not_answer_the_close_is_dropped(self) -> None:
        peer = self.world.connect()
        self.world.factory.leave()
        self.world.pass_time(2)
        self.assertTrue(peer.wire.disconnecting or peer.wire.disconnected)

    def test_a_lost_connection_leaves_nothing_behind(self) -> None:
        peers = [self.world.connect() for _ in range(2)]
        for peer in peers:
            peer.ask("subscribe", {"events": ["process_metrics", "log_message"], "tail": 10})
        for peer in peers:
            peer.lose()
        self.assertEqual((self.world.factory.connections, self.world.timers()), (set(), []))


class DefectTests(WorldCase):
    def test_a_defect_is_one_answer_and_one_line_in_the_log(self) -> None:
        peer = self.world.connect()
        self.patch(self.world.describer, "processes", lambda *args, **kwargs: 1 / 0)
        self.world.start()
        for type_, data in (("get_info", {}), ("subscribe", {"events": ["process_status"]})):
            error = peer.ask(type_, data)["data"]
            self.assertEqual((error["code"], error["message"].startswith("cannot ")), ("INTERNAL_ERROR", True))
            self.assertNotIn("ZeroDivision", json.dumps(error))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_answer_that_is_not_text_is_told_all_the_same(self) -> None:
        """As of a directory whose name is not UTF-8."""
        peer = self.world.connect()
        process = self.world.start()
        self.patch(self.world.logs, "paths", lambda who: ("/caf\udce9/out", "/err", None))
        info = peer.ask("get_info", {"process": process.id})
        self.assertEqual(info["data"]["logs"]["stdout"], "/caf?/out")


class PingTests(WorldCase):
    def test_each_20_seconds(self) -> None:
        """[F2]"""
        peer = self.world.connect()
        for beats in range(1, 4):
            self.world.pass_time(BEAT)
            self.assertEqual(len(peer.messages) + peer.pings, beats)
            peer.frame(PONG, b"pmdaemon")
        self.assertFalse(peer.wire.disconnected)

    def test_no_pong_within_20_seconds(self) -> None:
        """[F2]"""
        silent, alive = self.world.connect(), self.world.connect()
        self.world.pass_time(BEAT)
        alive.frame(PONG, b"pmdaemon")
        self.world.pass_time(BEAT - 1)
        self.assertFalse(silent.wire.disconnected)
        self.world.pass_time(1)
        self.assertEqual((silent.wire.disconnected, alive.wire.disconnected), (True, False))

    def test_who_is_behind_is_not_pinged(self) -> None:
        """[F2]: the outbox judges such a client [F1]."""
        peer = self.world.connect()
        peer.wire.lags = True
        peer.protocol.outbox.write(bytes(100_000))
        self.world.pass_time(3 * BEAT)
        self.assertFalse(peer.wire.disconnected)

    def test_who_is_not_read_is_not_pinged(self) -> None:
        """[F3]: its pong would not be seen."""
        self.world.start(kill_timeout="10h")
        peer = self.world.connect()
        _wait_for_many(self, peer, MAX_PENDING)
        self.world.pass_time(3 * BEAT)
        self.assertEqual((peer.messages, peer.pings, peer.wire.disconnected), ([], 0, False))


class PendingTests(WorldCase):
    def test_64_commands_that_wait_and_no_more_are_read(self) -> None:
        """[F3]"""
        self.world.start(kill_timeout="10h")
        peer = self.world.connect()
        _wait_for_many(self, peer, MAX_PENDING - 1)
        self.assertEqual(peer.wire.producerState, "producing")
        peer.send("command", {"action": "stop", "process": "web", "timeout": 86_400_000})
        self.assertEqual(peer.wire.producerState, "paused")
        self.world.children.last.exit()
        self.world.pass_time()
        self.assertEqual((peer.wire.producerState, len(peer.data("command_result"))), ("producing", MAX_PENDING))

    def test_answers_for_a_client_that_has_gone(self) -> None:
        self.world.start(kill_timeout="10h")
        peer = self.world.connect()
        _wait_for_many(self, peer, MAX_PENDING)
        peer.lose()
        self.world.children.last.exit()
        self.world.pass_time()
        self.assertEqual(peer.messages, [])


def _wait_for_many(test: WorldCase, peer: Peer, count: int) -> None:
    """Have *count* commands wait for a child that does not end."""
    test.world.children.stubborn = True
    for _ in range(count):
        peer.send("command", {"action": "stop", "process": "web", "timeout": 86_400_000})
