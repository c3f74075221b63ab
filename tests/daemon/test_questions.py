"""What is asked of the past and of the configuration, through the API [R11]."""

import json

from pmdaemon.core.access import Caller
from pmdaemon.core.selection import Selection
from pmdaemon.daemon import eventsearch, questions
from tests.web.rig import Message, WorldCase


class QuestionCase(WorldCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = self.world.connect()

    def ask(self, request: str, **data: object) -> Message:
        reply = self.peer.ask(request, data)
        self.assertEqual(reply["type"], request.removeprefix("get_"), reply)
        return reply["data"]

    def refused(self, request: str, **data: object) -> tuple[str, str | None]:
        reply = self.peer.ask(request, data)
        self.assertEqual(reply["type"], "error", reply)
        return reply["data"]["code"], reply["data"]["details"].get("path")

    def only(self, *processes: str, scope: str = "read") -> None:
        """Go on as somebody for whom only these exist."""
        caller = Caller(name="ci", kind="token", scope=scope, processes=Selection(processes))  # type: ignore[arg-type]
        self.peer.protocol.visit.caller = caller


class LogsTests(QuestionCase):
    def test_a_page(self) -> None:
        web = self.world.start("web")
        self.world.say(web, "one\ntwo\n")
        self.world.say(web, "three\n", 2)
        data = self.ask("get_logs", process="web", lines=2)
        self.assert_keys(data, "process", "lines", "more", "cursor")
        self.assertEqual([line["message"] for line in data["lines"]], ["two", "three"])
        self.assertEqual((data["process"], data["more"]), ("web", True))
        rest = self.ask("get_logs", process="web", lines=2, cursor=data["cursor"])
        self.assertEqual([line["message"] for line in rest["lines"]], ["one"])
        self.assertEqual((rest["more"], rest["cursor"]), (False, None))

    def test_what_it_takes(self) -> None:
        web = self.world.start("web")
        self.world.say(web, "error a1\ninfo a2\nerror b1\n")
        found = self.ask("get_logs", process="web", grep="a.", regex=True, level="error", stream="stdout")
        self.assertEqual([line["message"] for line in found["lines"]], ["error a1"])

    def test_since(self) -> None:
        web = self.world.start("web")
        self.world.pass_time(10)
        self.world.say(web, "one\n")
        self.world.pass_time(10)
        pong = self.peer.ask("ping")
        self.world.pass_time(10)
        self.world.say(web, "two\n")
        for since in (pong["id"], pong["timestamp"], 1_700_000_015_000, "2023-11-14T23:13:35+01:00"):
            found = self.ask("get_logs", process="web", since=since)
            self.assertEqual([line["message"] for line in found["lines"]], ["two"], since)
        for since in ("yesterday", "2023-11-14T22:13:35", -1, 10**30, "ffffffffffffffff"):
            self.assertEqual(self.refused("get_logs", process="web", since=since), ("INVALID_MESSAGE", "data.since"))

    def test_whom(self) -> None:
        self.world.say(self.world.start("web"), "w\n")
        self.world.say(self.world.start("job"), "j\n")
        self.assertEqual(self.refused("get_logs", process="wep")[0], "PROCESS_NOT_FOUND")
        self.assertEqual(self.refused("get_logs"), ("INVALID_MESSAGE", "data.process"))
        self.only("web")
        found = self.ask("get_logs", process="all")
        self.assertEqual([line["process"] for line in found["lines"]], ["web"])
        self.assertEqual(self.refused("get_logs", process="job")[0], "PROCESS_NOT_FOUND")


class EventsTests(QuestionCase):
    def names(self, **data: object) -> list[str]:
        events = self.ask("get_events", **data)["events"]
        return [each["data"].get("event") or each["data"]["status"] for each in events]

    def test_just_as_they_were_told(self) -> None:
        self.peer.ask("subscribe", {"events": ["process_status", "process_event", "health_update"]})
        self.world.start("web")
        told = self.peer.take("process_status", "process_event")
        data = self.ask("get_events")
        self.assertEqual(data, {"process": None, "events": told, "more": False, "cursor": None})

    def test_after_a_restart_of_the_daemon(self) -> None:
        """[S7]"""
        self.world.start("web")
        before = self.ask("get_events", process="web")["events"]
        self.world = self.restart()
        self.peer = self.world.connect()
        self.assertEqual(self.ask("get_events", process="web")["events"][: len(before)], before)

    def test_since(self) -> None:
        self.world.start("web")
        self.world.pass_time(10)
        first = self.ask("get_events")["events"][0]
        mark = self.peer.ask("ping")
        self.world.pass_time(10)
        self.peer.ask("command", {"action": "stop", "process": "web"})
        for since in (mark["id"], mark["timestamp"]):
            self.assertEqual(self.names(since=since), ["stopping", "stopped", "stopped"])
        self.assertEqual(self.names(since=first["id"], limit=1), ["online"])
        self.assertEqual(self.names(since=0, limit=1), ["starting"])
        self.assertEqual(self.refused("get_events", since="x"), ("INVALID_MESSAGE", "data.since"))

    def test_from_page_to_page(self) -> None:
        self.patch(eventsearch, "_BATCH", 3)
        for number in range(4):
            self.world.start(f"web-{number}")
        self.world.start("job")
        everything = self.ask("get_events", process="web-*")["events"]
        for since, scan in ((None, 1000), (0, 1000), (None, 4), (0, 4)):
            self.patch(eventsearch, "MAX_SCAN", scan)
            pages, cursor = [], None
            while not pages or cursor is not None:
                data = self.ask("get_events", process="web-*", since=since, limit=5, cursor=cursor)
                self.assertEqual(data["more"], data["cursor"] is not None)
                pages.append(data["events"])
                cursor = data["cursor"]
            told = pages if since == 0 else pages[::-1]
            self.assertEqual([event for page in told for event in page], everything)
            self.assertLessEqual(max(map(len, pages)), 5)
        self.assertEqual(self.refused("get_events", cursor="n1"), ("INVALID_MESSAGE", "data.cursor"))

    def test_a_page_has_a_bound(self) -> None:
        """[E6], which `Peer` checks."""
        web = self.world.start("web")
        for _ in range(20):
            web.tell("gave_up", {"reason": "x" * 50_000, "attempts": 1})
        data = self.ask("get_events", limit=1000)
        self.assertEqual((len(data["events"]), data["more"]), (7, True))

    def test_of_one_that_is_gone(self) -> None:
        self.world.start("web")
        self.peer.ask("command", {"action": "delete", "process": "web"})
        self.assertEqual(self.names(process="web")[-1], "deleted")
        self.assertEqual(self.refused("get_events", process="wep")[0], "PROCESS_NOT_FOUND")

    def test_whose(self) -> None:
        self.world.start("web")
        self.world.start("job")
        self.only("job")
        events = self.ask("get_events")["events"]
        self.assertEqual({each["data"].get("name") or each["data"]["process"] for each in events}, {"job"})
        self.assertEqual(self.refused("get_events", process="web")[0], "PROCESS_NOT_FOUND")


class CrashTests(QuestionCase):
    def test_all_that_is_known(self) -> None:
        web = self.world.start("web", port=3000)
        self.world.history.start()
        self.addCleanup(self.world.history.stop)
        self.world.pass_time(20)
        self.world.say(web, "".join(f"{number}\n" for number in range(300)))
        self.world.pass_time(1)
        self.world.say(web, "Traceback\nhalf", 2)
        self.world.children.of(web)[0].exit(3)
        self.world.pass_time()
        data = self.ask("get_crash", process="web")
        self.assert_keys(data, "process", "crash")
        crash = data["crash"]
        lines, metrics = crash.pop("lines"), crash.pop("metrics")
        self.assertEqual(
            crash,
            {
                "process": "web",
                "id": 0,
                "at": "2023-11-14T22:13:41.000Z",
                "exit_code": 3,
                "exit_signal": None,
                "uptime": 21_000,
                "attempt": 1,
                "pid": 1001,
                "port": web.port,
            },
        )
        self.assertEqual(len(lines), 200)
        self.assertEqual(
            [(each["stream"], each["message"]) for each in lines[-3:]],
            [("stdout", "299"), ("stderr", "Traceback"), ("stderr", "half")],
        )
        self.assert_keys(lines[0], "stream", "offset", "at", "level", "message")
        self.assertEqual([value for _, value in metrics["memory"]], [1 << 20] * 2)
        self.assertEqual(len(metrics["cpu"]), 2)

    def test_the_newest_and_four_more(self) -> None:
        web = self.world.start("web", max_restarts=100)
        self.assertIsNone(self.ask("get_crash", process="web")["crash"])
        for code in range(1, 9):
            self.world.children.of(web)[0].exit(code)
            self.world.pass_time(1)
        self.assertEqual(self.ask("get_crash", process="web")["crash"]["exit_code"], 8)
        (count,) = self.world.store.db.execute("SELECT count(*) FROM crashes").fetchone()
        self.assertEqual(count, 5)
        self.world = self.restart()
        self.peer = self.world.connect()
        self.assertEqual(self.ask("get_crash", process=0)["crash"]["exit_code"], 8)
        self.peer.ask("command", {"action": "delete", "process": "web"})
        (count,) = self.world.store.db.execute("SELECT count(*) FROM crashes").fetchone()
        self.assertEqual(count, 0)

    def test_its_own_lines_alone(self) -> None:
        web = self.world.start("web")
        for text in ("first", "second"):
            self.world.say(web, f"{text}\n")
            self.world.children.of(web)[0].exit(1)
            self.world.pass_time(1)
        lines = self.ask("get_crash", process="web")["crash"]["lines"]
        self.assertEqual([each["message"] for each in lines], ["second"])

    def test_a_lot_to_say(self) -> None:
        """[E6], which `Peer` checks."""
        web = self.world.start("web")
        self.world.say(web, ("\x00" * 60_000 + "\n") * 10)
        self.world.children.of(web)[0].exit(1)
        self.world.pass_time()
        self.assertLess(len(json.dumps(self.ask("get_crash", process="web"))), 200_000)

    def test_an_end_that_is_none(self) -> None:
        web = self.world.start("web")
        self.world.children.of(web)[0].exit(0)
        self.world.pass_time()
        self.assertIsNone(self.ask("get_crash", process="web")["crash"])

    def test_whose(self) -> None:
        self.world.start("job", instances=2)
        self.assertEqual(self.refused("get_crash", process="job"), ("INVALID_MESSAGE", "data.process"))
        self.only("job-1")
        self.assertEqual(self.ask("get_crash", process="job")["process"], "job-1")


class HistoryTests(QuestionCase):
    def setUp(self) -> None:
        super().setUp()
        self.world.start("web")
        self.world.history.start()
        self.addCleanup(lambda: self.world.history.stop())

    def test_figures(self) -> None:
        self.world.pass_time(30)
        data = self.ask("get_history", process="web", metric="memory")
        start = 1_700_000_000_000
        points = [[start + at, 1 << 20] for at in (10_000, 20_000, 30_000)]
        self.assertEqual(data, {"process": "web", "metric": "memory", "resolution": 10, "points": points})
        for from_, to in ((start + 15_000, start + 25_000), ("2023-11-14T22:13:35Z", "2023-11-14T22:13:45Z")):
            found = self.ask("get_history", process="web", metric="memory", to=to, **{"from": from_})
            self.assertEqual(found["points"], points[1:2])

    def test_while_somebody_watches(self) -> None:
        """[S8]: what is sampled for him is kept."""
        self.world.connect().ask("subscribe", {"events": ["process_metrics"], "interval": 100})
        self.world.pass_time(30)
        data = self.ask("get_history", process=0, metric="cpu")
        self.assertEqual(data["resolution"], 1)
        self.assertAlmostEqual(len(data["points"]), 30, delta=1)

    def test_what_it_takes(self) -> None:
        self.assertEqual(self.refused("get_history", process="web"), ("INVALID_MESSAGE", "data.metric"))
        self.assertEqual(self.refused("get_history", process="web", metric="disk"), ("INVALID_MESSAGE", "data.metric"))
        wrong = self.refused("get_history", process="web", metric="cpu", **{"from": "x"})
        self.assertEqual(wrong, ("INVALID_MESSAGE", "data.from"))
        self.assertEqual(self.refused("get_history", process="web", metric="cpu", from_=1)[1], "data.from_")


class ConfigTests(QuestionCase):
    def test_public(self) -> None:
        """[R9]"""
        self.world.start("web", env={"SECRET": "s3cret"}, args=["--password", "hunter2"])
        self.only("web")
        data = self.ask("get_config", process="web")
        self.assertEqual((data["app"], data["source"], data["config"]["env"]), ("web", None, ["SECRET"]))
        self.assertNotIn("hunter2", json.dumps(data))

    def test_secrets_are_for_those_who_may_start(self) -> None:
        self.world.start("web", env={"SECRET": "s3cret"}, args=["--password", "hunter2"])
        self.only("web", scope="operate")
        self.assertEqual(self.refused("get_config", process="web", secrets=True)[0], "PERMISSION_DENIED")
        self.only("web", scope="start")
        config = self.ask("get_config", process="web", secrets=True)["config"]
        self.assertEqual((config["env"], config["args"]), ({"SECRET": "s3cret"}, ["--password", "hunter2"]))

    def test_secrets_are_audited(self) -> None:
        self.world.start("web", env={"SECRET": "s3cret"})
        self.ask("get_config", process="web")
        self.ask("get_config", process="web", secrets=True)
        with open(f"{self.home}/audit.jsonl") as audit:
            (line,) = audit.read().splitlines()
        taken = json.loads(line)
        self.assertEqual((taken["client"], taken["action"], taken["process"]), ("root", "get_config", "web"))
        self.assertNotIn("s3cret", line)

    def test_of_one_app(self) -> None:
        self.world.start("job", instances=2)
        self.assertEqual(self.ask("get_config", process="job-1")["app"], "job")
        self.world.start("web")
        self.assertEqual(self.refused("get_config", process="all"), ("INVALID_MESSAGE", "data.process"))

    def test_too_large_for_a_message(self) -> None:
        """[E6]"""
        self.patch(questions, "PAGE", 10_000)
        self.world.start("web", env={"LONG": "x" * 10_000})
        self.assertEqual(self.refused("get_config", process="web", secrets=True)[0], "LIMIT_EXCEEDED")
        self.assertEqual(self.ask("get_config", process="web")["config"]["env"], ["LONG"])


class FlushTests(QuestionCase):
    def flush(self, process: str) -> Message:
        return self.peer.ask("command", {"action": "flush", "process": process})

    def test_emptied(self) -> None:
        """[R8]"""
        web = self.world.start("web")
        self.world.say(web, "old\n")
        self.world.say(web, "old\n", 2)
        self.assertEqual(self.flush("web")["type"], "command_result")
        self.assertEqual(self.ask("get_logs", process="web")["lines"], [])
        self.peer.ask("subscribe", {"events": ["log_message"]})
        self.world.say(web, "new\n")
        (told,) = self.peer.data("log_message")
        self.assertEqual((told["message"], told["offset"]), ("new", 0))
        self.assertEqual([line["message"] for line in self.ask("get_logs", process="web")["lines"]], ["new"])

    def test_of_one_that_does_not_run(self) -> None:
        self.world.declare("web")
        self.assertEqual(self.flush("web")["type"], "command_result")

    def test_what_cannot_be_emptied(self) -> None:
        web = self.world.declare("web")[0]
        out = self.world.logs.paths(web)[0]
        self.world.logs.file(web, "stdout").close()
        (self.world.logs._directory / "x").parent.mkdir(parents=True, exist_ok=True)
        (self.world.logs._directory / out.rsplit("/", 1)[1]).mkdir()
        error = self.flush("web")["data"]
        self.assertEqual((error["code"], error["details"]["failed"]), ("OPERATION_FAILED", [out]))
