"""Every command against a live daemon, into pipes: what it prints, its JSON, its exit code."""

import json
import re
import shutil
import stat
import tempfile
from pathlib import Path

import yaml

from tests.cli.commandcase import CommandCase
from tests.integration.harness import LiveDaemon


class LookingTests(CommandCase):
    async def test_what_runs(self) -> None:
        await self.begin()
        plain = (await self.ok("list")).out
        header, *rows = plain.splitlines()
        titles = ["ID", "Name", "Status", "PID", "Port", "CPU (%)", "Memory", "Uptime", "Restarts"]
        self.assertEqual(re.split(r"  +", header), titles)
        self.assertEqual(len(rows), 6)
        self.assertRegex(rows[0], r"^\d+ +web +online +\d+ +- +[\d.]+ +[\d.]+ \w?B +\S+ +0$")
        self.assertNotRegex(plain, r"[│\x1b…]")
        document = (await self.ok("ls", "--json")).json
        self.assertEqual(
            [each["name"] for each in document["processes"]],
            ["web", "worker-0", "worker-1", "idle", "talker", "broken"],
        )
        for each in document["processes"]:
            self.assertNotIn("config", each)
        self.assertEqual((await self.ok("l", "-q", "ns:jobs", "web")).out, "web\nworker-0\nworker-1\n")
        self.assertEqual((await self.ok("status", "--format", "{name}={status}", "idle")).out, "idle=stopped\n")
        await self.fails(1, "list", "--format", "{nmae}")
        missing = await self.fails(10, "list", "wrker-0")
        self.assertEqual(
            missing.err,
            "error: cannot find a process 'wrker-0' (exit 10)\n  did you mean: worker-0, worker-1, worker\n"
            "  see all: pmdaemon list\n",
        )
        await self.fails(10, "list", "--json", "web", "nix")
        colored = (await self.ok("list", "--color", "always", "web")).out
        self.assertNotIn("\x1b", colored, "a table into a pipe is plain")

    async def test_all_of_a_process(self) -> None:
        await self.begin()
        shown = (await self.ok("info", "worker-0")).out
        for line in (
            r"worker-0\n",
            r"  namespace +jobs\n",
            r"  env +QUEUE\n",
            r"  log \(stdout\) +/\S+/worker-0-out.log\n",
        ):
            self.assertRegex(shown, line)
        self.assertNotIn("mail", shown)
        processes = (await self.ok("show", "worker", "--json")).json["processes"]
        self.assertEqual([each["config"]["env"] for each in processes], [["QUEUE"], ["QUEUE"]])
        await self.fails(10, "info", "nix")
        await self.fails(2, "info")

    async def test_what_happened(self) -> None:
        await self.begin()
        why = (await self.ok("why", "broken")).out
        self.assertRegex(why, r"^broken is errored")
        self.assertRegex(why, r"Last crash, [\d: -]+: ended with exit code 3 after ")
        self.assertIn("    | trying\n    ! no such host: db\n", why)
        self.assertIn("  When it is mended: pmdaemon restart broken\n", why)
        (told,) = (await self.ok("why", "broken", "--json")).json["processes"]
        self.assertEqual((told["crash"]["exit_code"], told["process"]["status"]), (3, "errored"))
        self.assertEqual(told["events"][-1]["data"]["event"], "gave_up")
        self.assertIn("It has never crashed.", (await self.ok("why", "web")).out)
        await self.fails(10, "why", "nix")

        events = (await self.ok("events", "broken", "-n", "2")).out.splitlines()
        self.assertEqual(len(events), 2)
        self.assertRegex(events[0], r"broken  crashed: ended with exit code 3 \(uptime ")
        whole = (await self.ok("events", "--since", "1h", "--status", "--json")).json["events"]
        self.assertIn("process_status", {each["type"] for each in whole})
        self.assertEqual([each["id"] for each in whole], sorted(each["id"] for each in whole))
        await self.fails(2, "events", "--since", "yesterday")
        await self.fails(10, "events", "nix")

    async def test_figures(self) -> None:
        await self.begin()
        client = await self.daemon.connect()
        await client.request("subscribe", {"events": ["process_metrics"], "interval": 100})
        for _ in range(3):
            after = len(client.messages)
            await client.expect("process_metrics", after=after)
        points = (await self.ok("history", "web", "--metric", "memory")).out.splitlines()
        self.assertRegex(points[0], r"^\d{4}-\d\d-\d\dT[\d:.]+\t\d+(\.0)?$")
        document = (await self.ok("history", "web", "--json")).json
        self.assertEqual((document["process"], document["metric"]), ("web", "cpu"))
        nothing = await self.ok("history", "web", "--until", "2h")
        self.assertEqual((nothing.out, nothing.err), ("", "nothing was measured in that time\n"))
        await self.fails(2, "history", "web", "--metric", "disk")
        await self.fails(10, "history", "nix")

    async def test_the_daemon_itself(self) -> None:
        await self.begin()
        self.assertRegex(
            (await self.ok("ping")).out, rf"^PMDaemon \S+ at \S+ answers in [\d.]+ ms: pid {self.daemon.program.pid},"
        )
        self.assertEqual((await self.ok("ping", "--json")).json["daemon"]["pid"], self.daemon.program.pid)
        self.assertIn(" ws://localhost", (await self.ok("ping", "--url", self.daemon.http)).out)
        ended = await self.run_it("doctor", "--json")
        found = {each["what"]: each["ok"] for each in ended.json["findings"]}
        self.assertEqual(ended.code, 1)
        self.assertEqual([what for what, ok in found.items() if not ok], ["6 processes, 1 errored"])
        await self.ok("delete", "broken")
        told = (await self.ok("doctor")).out
        self.assertIn(f"ok     a daemon holds it, pid {self.daemon.program.pid}\n", told)
        Path(self.daemon.home, "state.db").chmod(0o644)
        ended = await self.run_it("doctor")
        self.assertEqual(ended.code, 1)
        self.assertRegex(ended.out, r"wrong  nobody else can read its files\n       chmod go= \S+state.db\n")

    async def test_health(self) -> None:
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        (place / "well").touch()
        check = {"check_type": "script", "interval": 0.1, "timeout": 5, "retries": 1, "restart": False}
        scripts = {"good": "true", "bad": f"test -e {place}/well"}
        apps = [
            {"name": name, "script": "sleep 1000", "kill_timeout": 200, "health_check": {**check, "script": script}}
            for name, script in scripts.items()
        ]
        await self.begin(json.dumps({"apps": apps}))
        client = await self.daemon.connect()
        await client.until_online("good", "bad")
        self.assertEqual((await self.ok("health", "--json")).json["processes"][1]["health"], "healthy")
        await client.request("subscribe", {"events": ["health_update"]})
        (place / "well").unlink()
        await client.expect("health_update")
        ended = await self.run_it("health")
        self.assertEqual((ended.code, ended.err), (41, ""))
        self.assertRegex(ended.out, r"(?m)^bad +unhealthy +script +[\d: -]+ +is unhealthy, was healthy \(exit code 1")
        document = (await self.ok("health", "good", "--json")).json
        self.assertEqual(document["processes"][0]["health"], "healthy")
        self.assertIn("Health", (await self.ok("list")).out.splitlines()[0])


class ActingTests(CommandCase):
    async def test_on_one_and_on_many(self) -> None:
        await self.begin()
        self.assertRegex((await self.ok("restart", "web")).out, r"^restarted web, pid \d+")
        ended = await self.ok("st", "worker", "web")
        self.assertEqual(
            sorted(re.sub(r"^\[\d/3\] | \(.*\)$", "", line) for line in ended.out.splitlines()),
            ["stopped web", "stopped worker-0", "stopped worker-1"],
        )
        self.assertEqual(ended.err, "3 ok, 0 failed\n")
        ended = await self.ok("s", "worker-0", "w*b", "--json")
        self.assertEqual(ended.json["action"], "start")
        self.assertEqual(
            {each["name"]: each["status"] for each in ended.json["processes"]}, {"worker-0": "online", "web": "online"}
        )
        self.assertRegex((await self.ok("start", "worker-1", "--no-wait")).out, "^starting worker-1")
        reloaded = await self.ok("reload", "web", "worker-0")
        self.assertRegex(reloaded.out, r"reloaded worker-0, pid \d+")
        self.assertRegex((await self.ok("scale", "worker", "3")).out, "^scaled worker to 3")
        self.assertRegex((await self.ok("signal", "CONT", "ns:jobs")).out, r"(?m)^\[3/3\] sent CONT to worker-\d$")
        self.assertEqual((await self.ok("reset", "web")).out, "reset web\n")
        self.assertEqual((await self.ok("flush", "talker")).out, "flushed talker\n")
        self.assertEqual((await self.ok("logs", "talker")).out, "")
        self.assertRegex((await self.ok("del", "worker", "--purge")).out, r"(?m)^\[3/3\] deleted worker-\d")
        self.assertNotIn("worker", (await self.ok("list", "-q")).out)
        self.assertEqual((await self.ok("stop", "all", "--json")).json["failed"], [])
        self.assertEqual((await self.ok("list", "--format", "{status}")).out.split(), ["stopped"] * 4)

    async def test_what_fails(self) -> None:
        await self.begin()
        again = await self.fails(11, "start", "web")
        self.assertIn("cannot start", again.err)
        await self.all_fail(
            (10, "stop", "nix"),
            (10, "restart", "web", "nix"),
            (2, "signal", "CONT"),
            (1, "signal", "NIX", "web"),
            (2, "scale", "worker", "0"),
            (1, "scale", "worker-0", "2"),
            (2, "stop", "web", "--timeout", "never"),
        )
        slow = {"script": "sh", "args": ["-c", "trap '' TERM; sleep 1000 & wait; wait"], "kill_timeout": "2s"}
        await (await self.daemon.connect()).command("start", "slow", config=slow)
        mixed = await self.run_it("stop", "slow", "web", "--timeout", "300ms")
        self.assertEqual(mixed.code, 1)
        self.assertIn("1 ok, 1 failed\n", mixed.err)
        self.assertIn("error: cannot stop 1 of 2: slow (exit 1)\n", mixed.err)
        await self.fails(40, "restart", "slow", "--timeout", "0.2")
        mixed = await self.run_it("start", "web", "broken", "talker", "--json")
        self.assertEqual([each["code"] for each in mixed.json["failed"]], ["PROCESS_ALREADY_RUNNING"])

    async def test_a_start_that_fails_shows_its_last_words(self) -> None:
        await self.begin("apps: []")
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        (place / "dies.sh").write_text("#!/bin/sh\necho out\necho no database >&2\nexit 4\n")
        ended = await self.run_it(
            *("start", "dies.sh", "--readiness", "log_line=ready", "--max-restarts", "0"), cwd=str(place)
        )
        self.assertEqual(ended.code, 12, ended)
        self.assertIn("  | no database\n", ended.err)
        await self.fails(14, "restart", "dies")

    async def test_a_token_for_some(self) -> None:
        """From another place, with a token for some processes: one message a target."""
        await self.begin(env={})
        made = (await self.ok("token", "create", "ci", "--scope", "operate", "--process", "worker-*", "--json")).json
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        (place / "token").write_text(made["token"] + "\n")
        by = ("--url", self.daemon.http, "--token-file", str(place / "token"))
        self.assertEqual((await self.ok("list", "-q", *by)).out, "worker-0\nworker-1\n")
        self.assertRegex((await self.ok("restart", "worker-*", *by)).out, r"^restarted worker-\*, pid \d+ \d+")
        await self.fails(10, "stop", "web", *by)
        denied = await self.fails(61, "flush", "worker-0", *by)
        self.assertIn("scope start is needed, yours is operate", denied.err)
        wrong = await self.fails(61, "list", "--url", self.daemon.http, PMDAEMON_TOKEN="pmd_0_wrong")
        self.assertIn("cannot", wrong.err)
        await self.fails(21, "list", "--url", self.daemon.http, "--token-file", "/nowhere")
        await self.fails(2, "list", "--url", self.daemon.http, "--home", self.daemon.home)
        await self.fails(2, "kill", "--url", self.daemon.http)
        self.assertEqual([each["name"] for each in (await self.ok("token", "list", "--json")).json["tokens"]], ["ci"])
        await self.ok("token", "revoke", "ci")
        await self.fails(61, "list", *by)


class ExportTests(CommandCase):
    async def test_what_runs_can_be_run_elsewhere(self) -> None:
        await self.begin()
        place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, place)
        shown = await self.ok("export", "web", "worker")
        apps = yaml.safe_load(shown.out)["apps"]
        self.assertEqual([each["name"] for each in apps], ["web", "worker"])
        self.assertNotIn("env", apps[1])
        self.assertIn("left out: values of env of worker: QUEUE\n", shown.err)
        for name in ("all.yaml", "all.json"):
            file = place / name
            await self.ok("export", "--with-env", "-o", str(file))
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
            found = yaml.safe_load(file.read_text())["apps"]
            self.assertEqual(found[1]["env"], {"QUEUE": "mail"})
        other = await LiveDaemon.start(self)
        await self.run_it("start", "-c", str(place / "all.yaml"), "--home", other.home)
        ours, theirs = [
            (await self.ok("export", "--with-env", "--home", home)).out for home in (self.daemon.home, other.home)
        ]
        self.assertEqual(ours, theirs)
        await self.fails(2, "export", "-o", str(place / "all.toml"))
        await self.fails(60, "export", "-o", "/nowhere/all.yaml")
        await self.fails(10, "export", "nix")


class NobodyTests(CommandCase):
    async def test_each_command_says_that_there_is_no_daemon(self) -> None:
        home = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, home)
        commands = (
            *(("list",), ("list", "--watch"), ("info", "a"), ("logs",), ("logs", "-f"), ("events",), ("events", "-f")),
            *(("why", "a"), ("health",), ("history", "a"), ("stop", "a"), ("restart", "a"), ("reload", "a")),
            *(("scale", "a", "2"), ("delete", "a"), ("signal", "HUP", "a"), ("reset", "a"), ("flush", "a")),
            *(("export",), ("ping",), ("upgrade",), ("kill",), ("start", "a", "--no-daemon")),
        )
        for words, ended in zip(
            commands, await self.all_fail(*((51, *words, "--home", home) for words in commands)), strict=True
        ):
            self.assertEqual(ended.out, "", words)
            if words[0] != "kill":
                self.assertIn(f"start one: twistd pmdaemon --home {home}\n", ended.err, words)

    def env(self, **more: str) -> dict[str, str]:
        self.daemon = self.daemon if hasattr(self, "daemon") else LiveDaemon(self, "/nowhere", "", None)  # type: ignore[arg-type]  # only its home is asked for
        return super().env(**more)
