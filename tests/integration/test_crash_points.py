"""The daemon, then its keeper, dies at each place where that could hurt; the next one goes on, and nothing is amiss.

The places of the daemon are named by what it calls there; that it is killed there, and nowhere else, is checked.
"""

import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.integration.harness import Client, LiveDaemon, Message
from tests.integration.keepercase import ENDER, WRITER, KeeperCase, alive, sh
from tests.integration.program import Program, twistd

KILLED = 137
KINDS = ("process_status", "process_event", "log_message")


class Place(NamedTuple):
    """Where the daemon dies: *when* the last of *calls*, each made after the one before it, is made or has returned.

    ``action`` is what brings it there. Of a call written ``module:name(word)`` only those count that have the word in
    their arguments.
    """

    action: str
    when: str
    calls: tuple[str, ...]


SEND = "daemon.keeperlink:_Wire.send"
ENDED = "daemon.process:Process.child_ended"
TOLD = "web.channels:Channels.flush"
PLACES = {
    "an order is written, the keeper does not have it": Place("restart", "before", (f"{SEND}('spawn')",)),
    "the keeper has an order": Place("restart", "after", (f"{SEND}('spawn')",)),
    "a birth was heard of": Place("restart", "before", ("daemon.kept:Keeping._born",)),
    "a birth was taken down, and not committed": Place("restart", "after", ("daemon.process:Process.child_started",)),
    "a stop was ordered": Place("stop", "after", (f"{SEND}('signal')",)),
    "an end was heard of": Place("end", "before", ("daemon.kept:Keeping._exited",)),
    "the end of the whole tree was heard of": Place("end", "before", ("daemon.kept:Keeping._gone",)),
    "an end was judged, and not committed": Place("end", "after", (ENDED,)),
    "an end was committed, and not told": Place("end", "before", (ENDED, TOLD)),
    "an end was told, and not acknowledged": Place("end", "before", (ENDED, f"{SEND}('ack')")),
    "an end was acknowledged": Place("end", "after", (ENDED, f"{SEND}('ack')")),
    "a log position was stored, and not committed": Place("", "after", ("daemon.journal:Journal.mark",)),
    "a log position was committed, and not told": Place("", "before", ("daemon.journal:Journal.mark", TOLD)),
    "a newcomer was ordered": Place("reload", "after", ("daemon.supervisor:Supervisor.newcomer", f"{SEND}('spawn')")),
    "a shutdown has begun": Place("TERM", "after", ("daemon.supervisor:Supervisor.stop",)),
    "a replacement has begun": Place("USR2", "after", ("daemon.keeperlink:KeeperLink.leave",)),
    "one child is adopted, another is not": Place("KILL", "after", ("daemon.adoption:Adoption._adopt",)),
    "all children are adopted, nobody can connect": Place("KILL", "after", ("daemon.adoption:Adoption.take_up",)),
}

DYING = """
import importlib, os
calls, arm, when, passed = {calls!r}, {arm!r}, {when!r}, [0]

def follow(number, target):
    target, _, word = target.rstrip(")").partition("(")
    module, _, path = target.partition(":")
    owner = importlib.import_module("pmdaemon." + module)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    whole = getattr(owner, name)

    def call(*args, **kwargs):
        here = passed[0] == number and os.path.exists(arm) and word in repr((args[1:], kwargs))
        last = here and number == len(calls) - 1
        if last and when == "before":
            os._exit({killed})
        passed[0] += here
        result = whole(*args, **kwargs)
        if last:
            os._exit({killed})
        return result

    setattr(owner, name, call)

for number, target in enumerate(calls):
    follow(number, target)
"""

FRAGILE = """
import os
from pmdaemon.daemon import keeperlaunch
launch, note = keeperlaunch.launch_keeper, {note!r}

def launch_keeper(*args):
    try:
        with open(note) as file:
            os.environ["PMDAEMON_CRASH_AT"] = file.read()
        os.unlink(note)
        return launch(*args)
    except FileNotFoundError:
        return launch(*args)
    finally:
        os.environ.pop("PMDAEMON_CRASH_AT", None)

keeperlaunch.launch_keeper = launch_keeper
"""


class CrashPointCase(KeeperCase):
    apps = (
        sh("writer", WRITER, log_max_size="1K", log_max_files=1000),
        sh("failing", ENDER + "exit 7", kill_timeout="10s", min_uptime=0),
    )

    def setUp(self) -> None:
        super().setUp()
        self.ends = 0
        self.told: list[int] = []

    async def begin(self, client: Client) -> dict[str, Message]:
        """Wait until both run, which a stop that was carried through needs a command for."""
        if (await self.processes(client))["failing"]["status"] != "online":
            await client.request("command", {"action": "start", "process": "failing"})
        await client.until_online("writer", "failing")
        return await self.processes(client)

    async def act(self, daemon: LiveDaemon, client: Client, action: str) -> None:
        """Bring the daemon or the keeper to where it dies."""
        if action in ("TERM", "USR2"):
            os.kill(daemon.program.pid, signal.Signals[f"SIG{action}"])
        elif action == "end":
            self.ends += 1
            (self.place / "end-failing").touch()
        elif action:
            client.send("command", {"action": action, "process": "failing"})

    def children(self, name: str) -> list[int]:
        """The pids of all that were started as the process of this name and live, whoever knows of them."""
        found = []
        for each in psutil.process_iter():
            try:
                if each.environ().get("PMDAEMON_PROCESS_NAME") == name and each.cwd() == str(self.place):
                    found += [each.pid] if os.getsid(each.pid) == each.pid and alive(each.pid) else []
            except (psutil.Error, OSError):
                continue
        return found

    async def assert_sane(self, client: Client, writer: Message, what: str) -> None:
        """One child each, the one that is told of; the writer's has not changed; each end was told once."""
        await self.begin(client)
        await self.until(lambda: self.children("failing") and not self.place.joinpath("end-failing").exists(), what)
        now = await self.processes(client)
        for name in ("writer", "failing"):
            await self.until(lambda name=name: self.children(name) == [now[name]["pid"]], f"one {name}, {what}")
        self.assertEqual((now["writer"]["pid"], now["writer"]["restarts"]), (writer["pid"], writer["restarts"]), what)
        self.assertEqual(now["writer"]["uptime"] > writer["uptime"], True, what)
        self.assertEqual(await self.crashes(client), [7] * self.ends, what)

    async def crashes(self, client: Client) -> list[int | None]:
        """How the process ended that ends by itself, as was told; one that never became its program is left out."""
        reply = await client.request("get_events", {"process": "failing", "limit": 1000})
        about = [each["data"] for each in reply["data"]["events"] if each["type"] == "process_event"]
        codes = [each["details"]["exit_code"] for each in about if each["event"] == "crashed"]
        return [code for code in codes if code not in (None, 125)]

    def hear(self, client: Client) -> None:
        """Note which lines of the writer a client was told."""
        lines = [each["message"] for each in client.of_type("log_message") if each["process"] == "writer"]
        self.told += [int(line.split()[1]) for line in lines]

    def assert_told_once(self, what: str) -> None:
        first = self.told[0]
        since = [number for number in self.told if number >= first]  # of before, nobody was told yet: they may come
        self.assertEqual(since, list(range(first, first + len(since))), what)
        self.assertEqual(len(set(self.told)), len(self.told), what)


class DaemonTests(CrashPointCase):
    timeout = 240

    def dying(self, place: Place) -> list[str]:
        """A command that runs a daemon which dies there, once that is armed."""
        code = DYING.format(calls=place.calls, arm=str(self.place / "armed"), when=place.when, killed=KILLED)
        return [*twistd("-n", "--pidfile=", before=code), "pmdaemon"]

    async def test_all(self) -> None:
        apps: Any = self.apps
        last: str | None = None
        writer: Message = {}
        before = ""
        for what, place in PLACES.items():
            daemon = await self.start(*apps, command=self.dying(place))
            client = await self.follow(daemon, *KINDS, **({"since": last} if last else {}))
            now = await self.begin(client)
            if not apps:
                await self.assert_sane(client, writer, before)
            writer, before, apps = now["writer"], what, ()
            await self.line_told(client)
            await self.die(daemon, client, place, what)
            self.hear(client)
            last = client.messages[-1]["id"]
            self.assert_told_once(what)
        daemon = await self.start()
        client = await self.follow(daemon, *KINDS, since=last)
        await self.begin(client)
        await self.assert_sane(client, writer, before)
        await self.line_told(client)
        self.hear(client)
        self.assert_told_once(before)
        await client.command("restart", "writer")
        await daemon.stop()

    async def line_told(self, client: Client) -> None:
        """Wait for a line of the writer that is new to this client."""
        await client.expect(
            lambda each: each["type"] == "log_message" and each["data"]["process"] == "writer",
            after=len(client.messages),
        )

    async def die(self, daemon: LiveDaemon, client: Client, place: Place, what: str) -> None:
        armed = self.place / "armed"
        armed.touch()
        if place.action == "KILL":
            await daemon.crash()
            options = ["--port", "0", "--home", self.home]
            daemon.program = Program.start(self, [*self.dying(place), *options])
        else:
            await self.act(daemon, client, place.action)
        self.assertEqual(await daemon.program.ended(), KILLED, f"{what}: {daemon.program}")
        armed.unlink()


KEEPER_PLACES = {
    "after_fork": "restart",
    "after_journal": "restart",
    "after_go": "restart",
    "before_reply": "restart",
    "after_exit_journal": "end",
    "before_ack": "end",
    "on_signal": "restart",
    "adopt": "",
    **{f"mid_rotate_{step}": "" for step in range(1, 5)},
}


class KeeperTests(CrashPointCase):
    timeout = 240

    async def test_all(self) -> None:
        note = self.place / "dies-at"
        command = [*twistd("-n", "--pidfile=", before=FRAGILE.format(note=str(note))), "pmdaemon"]
        daemon = await self.start(*self.apps, command=command)
        client = await self.follow(daemon, *KINDS)
        for place, action in KEEPER_PLACES.items():
            writer = (await self.begin(client))["writer"]
            note.write_text(place)
            fragile = await self.another_keeper(self.keeper(), place, kill=True)
            await self.act(daemon, client, action)
            await self.another_keeper(fragile, place)
            self.assertFalse(note.exists(), place)
            await self.assert_sane(client, writer, place)
        self.hear(client)
        self.assert_told_once("all places")
        self.assertGreater(len(list(Path(self.home, "logs").glob("writer-out.log.0*"))), 0)
        await daemon.stop()

    async def another_keeper(self, before: int, place: str, *, kill: bool = False) -> int:
        """The pid of the keeper that comes after one that is killed, or that dies by itself."""
        if kill:
            os.kill(before, signal.SIGKILL)
        await self.until(lambda: self.keeper_pid() not in (0, before), f"a keeper after the one at {place}")
        return self.keeper_pid()

    def keeper_pid(self) -> int:
        return int(Path(self.home, "keeper.lock").read_text().strip() or 0)
