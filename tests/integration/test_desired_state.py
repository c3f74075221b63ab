"""What is to run is known after a daemon restart, with no step to save it."""

import json
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.integration.harness import Client, LiveDaemon

TELLING = "script: sh, cwd: PLACE, autorestart: false"
FILE = f"""
apps:
  - {{name: kept, {TELLING}, args: [-c, "echo >>kept; exec sleep 1000"]}}
  - {{name: stopped, {TELLING}, args: [-c, "echo >>stopped; exec sleep 1000"]}}
  - {{name: once, {TELLING}, args: [-c, "echo >>once"]}}
  - {{name: fails, {TELLING}, args: [-c, "echo >>fails; exit 3"]}}
  - {{name: later, {TELLING}, autostart: false, args: [-c, "echo >>later; exec sleep 1000"]}}
"""


def sleeper(name: str, seconds: int = 1000, **more: object) -> str:
    """An app that does nothing for as long."""
    fields = {"name": name, "script": "sleep", "args": str(seconds), **more}
    return json.dumps(fields)


class DesiredStateTests(TestCase):
    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, self.home)
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()

    async def start(self, config: str | None = None) -> tuple[LiveDaemon, Client]:
        daemon = await LiveDaemon.start(
            self, home=self.home, config=config and config.replace("PLACE", str(self.place))
        )
        return daemon, await daemon.connect()

    def runs(self, name: str) -> int:
        """How often an app was started."""
        path = self.place / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def processes(self, client: Client, **expected: str) -> dict[str, tuple[int, int]]:
        """Wait for these statuses of all processes there are; id and restarts by name."""
        after = len(client.messages)
        snapshot = (await client.request("subscribe", {"events": ["process_status"]}))["data"]["snapshot"]
        self.assertEqual({each["name"] for each in snapshot}, set(expected))
        for each in snapshot:
            if each["status"] != expected[each["name"]]:
                await client.expect_status(each["name"], expected[each["name"]], after=after)
        await client.request("unsubscribe")
        return {each["name"]: (each["id"], each["restarts"]) for each in snapshot}

    async def test_over_several_daemons(self) -> None:
        daemon, client = await self.start(FILE)
        first = await self.processes(
            client, kept="online", stopped="online", once="stopped", fails="errored", later="stopped"
        )
        self.assertEqual([first[name][0] for name in ("kept", "stopped", "once", "fails", "later")], list(range(5)))
        await client.command("stop", "stopped")
        await client.command("start", "later")
        await client.command("restart", "kept")
        await client.command("start", "byhand", config={"script": "sleep", "args": ["1000"]})
        await daemon.stop()

        daemon, client = await self.start()  # nobody names the file again
        again = await self.processes(
            client, kept="online", stopped="stopped", once="stopped", fails="errored", later="online", byhand="online"
        )
        self.assertEqual({**again, **first, "kept": again["kept"]}, again, "ids and counters are kept")
        self.assertEqual(again["kept"], (0, 1))
        counts = {name: self.runs(name) for name in ("kept", "stopped", "once", "fails", "later")}
        self.assertEqual(counts, {"kept": 3, "stopped": 1, "once": 1, "fails": 2, "later": 2})
        await client.command("delete", "later")
        await client.command("stop", "byhand")
        await client.command("start", "stopped")
        await daemon.crash()  # what was told to a client is kept also then
        await client.closed()

        daemon, client = await self.start()
        last = await self.processes(
            client, kept="online", stopped="online", once="stopped", fails="errored", byhand="stopped"
        )
        self.assertEqual(last["byhand"], again["byhand"])

    async def test_the_file_wins_and_others_stay(self) -> None:
        daemon, client = await self.start(f"apps: [{sleeper('a')}, {sleeper('b')}, {sleeper('other')}]")
        before = await self.processes(client, a="online", b="online", other="online")
        await client.command("stop", "b")
        await daemon.stop()

        daemon, client = await self.start(f"apps: [{sleeper('a', 2000)}, {sleeper('b', 2000)}, {sleeper('new')}]")
        after = await self.processes(client, a="online", b="stopped", other="online", new="online")
        self.assertEqual({name: after[name] for name in before}, before)
        info = (await client.request("get_info"))["data"]["processes"]
        args = {each["name"]: each["config"]["args"] for each in info}
        self.assertEqual(args, {"a": "2000", "b": "2000", "other": "1000", "new": "1000"})

        await daemon.stop()
        daemon, client = await self.start(f"apps: [{sleeper('a', instances=2)}]")
        names = await self.processes(
            client, **{"a-0": "online", "a-1": "online", "b": "stopped", "other": "online", "new": "online"}
        )
        self.assertNotIn("a", names)
