"""What a connection is sent when it subscribes, and when it does so again [S1]..[S6], [S8], [S9], [P4], [P5], [E6]."""

import random

from tests.web.rig import Message, Peer, WorldCase

STATUS, EVENT, LOG = "process_status", "process_event", "log_message"
METRICS, SYSTEM = "process_metrics", "system_metrics"


def statuses(messages: list[Message]) -> list[tuple[str, str]]:
    return [(each["data"]["name"], each["data"]["status"]) for each in messages if each["type"] == STATUS]


class AcknowledgementTests(WorldCase):
    def test_it_tells_what_holds_now(self) -> None:
        """[S2], [S8]"""
        peer = self.world.connect()
        ack = peer.ask(
            "subscribe", {"events": [STATUS, METRICS, "weather"], "processes": ["b", 3, "a*"], "interval": 5}
        )
        self.assertEqual(ack["type"], "subscribed")
        chosen = [3, "a*", "b"]
        self.assertEqual(
            ack["data"],
            {
                "events": {
                    STATUS: {"processes": chosen, "interval": None},
                    METRICS: {"processes": chosen, "interval": 100},
                },
                "ignored": ["weather"],
                "snapshot": [],
            },
        )

    def test_each_type_has_its_own_filter(self) -> None:
        """[S6]"""
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [STATUS, EVENT], "processes": ["a"]})
        ack = peer.ask("subscribe", {"events": [EVENT, LOG], "level": "warn", "grep": "x"})
        self.assertEqual(
            ack["data"]["events"],
            {
                STATUS: {"processes": ["a"], "interval": None},
                EVENT: {"processes": None, "interval": None},
                LOG: {"processes": None, "interval": None, "level": "warn", "grep": "x"},
            },
        )

    def test_unsubscribe(self) -> None:
        """[S6]"""
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [STATUS, EVENT, SYSTEM]})
        ack = peer.ask("unsubscribe", {"events": [SYSTEM, LOG, "weather"]})
        self.assertEqual((ack["type"], ack["data"]["ignored"]), ("unsubscribed", ["weather"]))
        self.assertEqual(set(ack["data"]["events"]), {STATUS, EVENT})
        self.assertEqual(peer.ask("unsubscribe", {"events": ["weather"]})["data"]["code"], "INVALID_MESSAGE")
        self.assertEqual(peer.ask("unsubscribe")["data"], {"events": {}, "ignored": []})
        peer.take()
        self.world.start()
        self.world.pass_time(5)
        self.assertEqual(peer.take(), [])
        self.assertEqual(self.world.channels._channels, {})

    def test_a_refused_subscribe_changes_nothing(self) -> None:
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [STATUS]})
        for wrong in (
            {"events": ["weather"]},
            {"events": []},
            {"events": [LOG], "grep": "(", "regex": True},
            {"events": [LOG], "level": "loud"},
            {"events": [LOG], "since": "0" * 16, "tail": 1},
            {"events": [LOG], "since": "f" * 16},
            {"events": [LOG], "since": "yesterday"},
        ):
            error = peer.ask("subscribe", wrong)
            self.assertEqual((error["type"], error["data"]["code"]), ("error", "INVALID_MESSAGE"))
        self.assertEqual(set(peer.ask("unsubscribe", {"events": []})["data"]["events"]), {STATUS})

    def test_a_list_of_processes_that_would_not_fit_the_answer(self) -> None:
        """[E6]: it would be told once for each type."""
        names = [f"{number:04}" + "\x01" * 60 for number in range(1000)]
        peer = self.world.connect()
        error = peer.ask("subscribe", {"events": [STATUS, EVENT], "processes": names})["data"]
        self.assertEqual((error["code"], error["details"]["path"]), ("LIMIT_EXCEEDED", "data.processes"))
        names = [f"process-{number:04}" for number in range(1000)]
        kinds = [STATUS, EVENT, LOG, METRICS, SYSTEM, "health_update"]
        self.assertEqual(peer.ask("subscribe", {"events": kinds, "processes": names})["type"], "subscribed")


class SnapshotTests(WorldCase):
    def test_the_processes_of_the_request(self) -> None:
        """[S3]: those of this request, not all that the connection has asked for."""
        for name in ("a", "b", "c"):
            self.world.start(name)
        peer = self.world.connect()

        def told(data: Message) -> list[str]:
            return [each["name"] for each in peer.ask("subscribe", data)["data"]["snapshot"]]

        self.assertEqual(told({"events": [STATUS], "processes": ["c", "a"]}), ["a", "c"])
        self.assertEqual(told({"events": [EVENT], "processes": ["b"]}), ["b"])
        self.assertEqual(told({"events": [SYSTEM]}), ["a", "b", "c"])
        self.assertEqual(told({"events": [SYSTEM], "processes": []}), [])

    def test_snapshot_and_stream_have_no_gap_and_no_overlap(self) -> None:
        """[S3], [P7]: under churn, what is told first of a process goes on from the snapshot."""
        dice = random.Random(3)
        watching: list[tuple[Peer, dict[int, str]]] = []
        for step in range(300):
            processes = list(self.world.supervisor.processes.values())
            if len(processes) < 6:
                self.world.start(f"app{step}", kill_timeout=50)
            chosen = dice.choice(list(self.world.supervisor.processes.values()))
            dice.choice([chosen.start, chosen.stop, chosen.restart])()
            if dice.random() < 0.2:  # in the middle of a turn
                peer = self.world.connect()
                peer.send("subscribe", {"events": [STATUS]})
                (ack,) = peer.take()
                watching.append((peer, {each["id"]: each["status"] for each in ack["data"]["snapshot"]}))
            self.world.pass_time(dice.choice([0, 0, 0.1]))
        self.assertGreater(len(watching), 40)
        for peer, known in watching:
            for data in peer.data(STATUS):
                self.assertEqual(data["previous_status"], known.get(data["id"]))
                known[data["id"]] = data["status"]
            self.assertEqual(known, {each.id: each.status for each in self.world.supervisor.select(None)})

    def test_a_thousand_processes(self) -> None:
        """[E6], [P4]: no message passes 512 KiB, which `Peer` checks; lists are paged, metrics are never split."""
        name = "n" * 60
        self.world.declare(name, instances=1000, namespace="s" * 64)
        peer = self.world.connect()
        peer.send("subscribe", {"events": [METRICS]})
        self.world.pass_time()
        first, *pages, metrics = peer.take()
        self.assertEqual([each["type"] for each in (first, *pages, metrics)], ["subscribed", "snapshot", METRICS])
        self.assertEqual([each["data"].get("more", False) for each in (first, *pages)], [True, False])
        ids = [each["id"] for each in first["data"]["snapshot"]]
        self.assertEqual(first["data"]["cursor"], ids[-1] + 1)
        self.assertEqual(ids + [each["id"] for each in pages[0]["data"]["processes"]], list(range(1000)))
        self.assertEqual(len(metrics["data"]["processes"]), 1000)
        names = [f"{name}-{number}" for number in range(1000)]
        ack = peer.ask("subscribe", {"events": [STATUS, EVENT, LOG], "processes": names})
        self.assertTrue(0 < len(ack["data"]["snapshot"]) < len(ids))
        peer.ask("unsubscribe")
        peer.take()
        self._get_all(peer, name)
        result = peer.ask("command", {"action": "reset", "process": name})["data"]
        self.assertEqual((result["success"], result["more"], result["cursor"]), (True, True, len(result["processes"])))

    def _get_all(self, peer: Peer, name: str) -> None:
        ids, cursor = [], {}
        while True:
            page = peer.ask("get_info", {"process": name, **cursor})["data"]
            ids += [each["id"] for each in page["instances"]]
            if "more" not in page:
                break
            cursor = {"cursor": page["cursor"]}
        self.assertEqual(ids, list(range(1000)))


class SelectionTests(WorldCase):
    def test_processes_that_do_not_exist_yet(self) -> None:
        """[S5]"""
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [STATUS, LOG], "processes": ["web", "job-*", "ns:blue", 4]})
        peer.take()
        for name, namespace in (("web", "x"), ("other", "x"), ("job-7", "x"), ("any", "blue"), ("fifth", "x")):
            self.world.say(self.world.start(name, namespace=namespace), f"{name}\n")
        told = {each["data"].get("name") or each["data"]["process"] for each in peer.messages}
        self.assertEqual(told, {"web", "job-7", "any", "fifth"})
        lines = [each["data"]["message"] for each in peer.messages if each["type"] == LOG]
        self.assertEqual(lines, ["web", "job-7", "any", "fifth"])

    def test_another_namespace_by_a_reload(self) -> None:
        process = self.world.start(namespace="blue")
        peers = [self.world.connect() for _ in range(2)]
        for peer, namespace in zip(peers, ("blue", "green"), strict=True):
            peer.ask("subscribe", {"events": [LOG], "processes": [f"ns:{namespace}"]})
        self.world.say(process, "one\n")
        config = {"script": "/bin/sh", "namespace": "green"}
        asked = self.world.connect()
        asked.send("command", {"action": "reload", "process": "web", "config": config})
        self.world.pass_time(5)
        self.assertEqual([each["type"] for each in asked.messages], ["command_result"])
        self.world.say(self.world.supervisor.processes[0], "two\n")
        self.assertEqual([[each["message"] for each in peer.data(LOG)] for peer in peers], [["one"], ["two"]])
        again = self.world.connect()
        again.ask("subscribe", {"events": [LOG], "processes": ["ns:blue"], "since": "0" * 16})
        (line,) = again.data(LOG)
        self.assertEqual((line["message"], line["namespace"]), ("one", "blue"))


class FiguresTests(WorldCase):
    def test_at_once_and_then_each_interval(self) -> None:
        """[S4]"""
        peer = self.world.connect()
        peer.send("subscribe", {"events": [METRICS, SYSTEM], "interval": 250})
        self.assertEqual([each["type"] for each in peer.take()], ["subscribed", METRICS, SYSTEM])
        for _ in range(4):
            self.world.pass_time(0.25)
            self.assertEqual([each["type"] for each in peer.take()], [METRICS, SYSTEM])

    def test_cpu_over_the_interval_of_each(self) -> None:
        """[P5]: the first is the average since the start, the next ones are over the channel's own interval."""
        process = self.world.start()
        pid = process.pid or 0
        self.world.cpu[pid] = 3.0
        self.world.pass_time(4)
        fast, slow = self.world.connect(), self.world.connect()
        for peer, interval in ((fast, 1000), (slow, 2000)):
            peer.ask("subscribe", {"events": [METRICS], "interval": interval})
        for used in (1.0, 0.5, 0.0, 0.25):
            self.world.cpu[pid] += used
            self.world.pass_time(1)

        def told(peer: Peer) -> list[float]:
            return [each["processes"][0]["cpu"] for each in peer.data(METRICS)]

        self.assertEqual((told(fast), told(slow)), ([75.0, 100.0, 50.0, 0.0, 25.0], [75.0, 75.0, 12.5]))

    def test_measured_once_for_all_who_want_the_same(self) -> None:
        self.world.start()
        for number in range(20):
            peer = self.world.connect()
            peer.ask("subscribe", {"events": [METRICS]})
            peer.ask("subscribe", {"events": [LOG], "grep": f"{number}"})
        measured: list[object] = []
        measure = self.world.describer.metrics
        figures = self.world.channels._figures
        self.patch(figures, "_measure", lambda *args: measured.append(args) or measure(*args))
        taken = self.world.source.listings
        self.world.pass_time(1)
        self.assertEqual((len(self.world.channels._channels), len(measured)), (20, 1))
        self.assertEqual(self.world.source.listings - taken, 1)

    def test_nothing_is_sampled_for_nobody(self) -> None:
        self.world.start()
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [METRICS]})
        peer.ask("unsubscribe", {"events": [METRICS]})
        taken = self.world.source.listings
        self.world.pass_time(10)
        self.assertEqual(self.world.source.listings, taken)

    def test_stopped_processes_are_in_it_with_numbers(self) -> None:
        """[P4]"""
        process = self.world.start()
        process.stop()
        self.world.pass_time(1)
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [METRICS]})
        (entry,) = peer.data(METRICS)[0]["processes"]
        expected = {"cpu": 0.0, "memory": 0, "uptime": 0, "restarts": 0, "status": "stopped", "pid": None}
        self.assertEqual({key: entry[key] for key in expected}, expected)


class LineTests(WorldCase):
    def test_the_filter(self) -> None:
        """[S9]"""
        process = self.world.start()
        wanted = {
            "level": {"level": "warn"},
            "stream": {"stream": "stderr"},
            "grep": {"grep": "b.d"},
            "regex": {"grep": "b.d", "regex": True},
        }
        peers = {key: self.world.connect() for key in wanted}
        for key, peer in peers.items():
            peer.ask("subscribe", {"events": [LOG], **wanted[key]})
        self.world.say(process, "good\nWARN bad\nb.d\n")
        self.world.say(process, "to stderr\n", 2)
        self.assertEqual(
            {key: [each["message"] for each in peer.data(LOG)] for key, peer in peers.items()},
            {
                "level": ["WARN bad", "to stderr"],
                "stream": ["to stderr"],
                "grep": ["b.d"],
                "regex": ["WARN bad", "b.d"],
            },
        )

    def test_64_KiB_of_control_characters(self) -> None:
        """[E6], [P13]: six times as many in JSON, and still below 512 KiB, which `Peer` checks."""
        process = self.world.start()
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [LOG]})
        self.world.say(process, b"\x01" * 70_000 + b"\n" + b"\xff" * 65_536 + b"\n")
        first, second = peer.data(LOG)
        self.assertEqual((first["message"], first["truncated"]), ("\x01" * 65_536, True))
        self.assertEqual((second["message"], second["truncated"]), ("\ufffd" * 65_536, False))

    def test_nothing_is_read_for_nobody(self) -> None:
        process = self.world.start()
        peer = self.world.connect()
        peer.ask("subscribe", {"events": [LOG], "stream": "stderr"})
        self.assertEqual([self.world.logs.position(process, each) for each in ("stdout", "stderr")], [None, 0])
        self.world.say(process, "unheard\n")
        self.assertEqual(self.world.journal.marks(0, 10), [])
        peer.lose()
        self.world.say(process, "the last\n", 2)
        self.assertIsNone(self.world.logs.position(process, "stderr"))
