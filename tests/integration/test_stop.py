"""The daemon's own end: by signal, in order, with all its children, and exit code 0."""

import re
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import twistd

TELL_SIGNALS = """
import os
def tell(group, number, killpg=os.killpg):
    os.write(1, b"signal %d to %d\\n" % (number, group))
    killpg(group, number)
os.killpg = tell
"""

SLOW = """
apps:
  - name: slow
    instances: 3
    script: sh
    args: [-c, "trap 'sleep 0.5; echo >bye-$NODE_APP_INSTANCE; exit 0' TERM; echo ready; while :; do sleep 1; done"]
    cwd: "{cwd}"
    readiness: {{log_line: ready}}
    kill_timeout: 10s
"""

STUBBORN = """
apps:
  - name: stubborn
    script: sh
    args: [-c, "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
    readiness: {log_line: ready}
    kill_timeout: 500
"""


class StopTests(TestCase):
    async def test_all_at_once_highest_id_first_and_waited_for(self) -> None:
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        command = (*twistd("-n", before=TELL_SIGNALS), "pmdaemon", "--no-keeper")  # the signals are the daemon's own
        daemon = await LiveDaemon.start(self, config=SLOW.format(cwd=place), command=command)
        client = await daemon.connect()
        await client.until_online("slow-0", "slow-1", "slow-2")
        objects = (await client.request("get_info", {}))["data"]["processes"]
        pids = [process["pid"] for process in sorted(objects, key=lambda each: each["id"])]
        await client.request("subscribe", {"events": ["process_status", "process_event"]})
        before = len(client.messages)
        started = time.monotonic()
        await daemon.stop()
        self.assertLess(time.monotonic() - started, 1.4, "one after another they would take 1.5 s")
        told = re.findall(r"^signal 15 to (\d+)$", daemon.log, re.MULTILINE)
        self.assertEqual([int(pid) for pid in told], pids[::-1])
        self.assertNotIn("signal 9", daemon.log)
        self.assertEqual({path.name for path in place.iterdir()}, {"bye-0", "bye-1", "bye-2"})
        self.assertEqual(await client.closed(), (1001, "the daemon stops"))
        after = [message["data"] for message in client.messages[before:]]
        said = [(data["name"], data["status"]) for data in after if "status" in data]
        names = ("slow-2", "slow-1", "slow-0")
        self.assertEqual(said[:3], [(name, "stopping") for name in names])
        self.assertCountEqual(said[3:], [(name, "stopped") for name in names])
        reasons = [data["details"] for data in after if "event" in data]
        self.assertEqual(reasons, [{"exit_code": 0, "exit_signal": None, "reason": "shutdown"}] * 3)
        self.assertFalse((Path(daemon.home) / "twistd.pid").exists())

    async def test_ctrl_c_again_and_a_child_that_does_not_listen(self) -> None:
        daemon = await LiveDaemon.start(self, config=STUBBORN)
        client = await daemon.connect()
        await client.until_online("stubborn")
        daemon.program.signal("INT")
        await daemon.program.line("PMDaemon is stopping")
        refused = await client.request("command", {"action": "restart", "process": "stubborn"})
        self.assertIn("the daemon is stopping", refused["data"]["message"])
        daemon.program.signal("INT")
        await daemon.program.line("still waiting: a process has its kill_timeout to end")
        daemon.program.signal("TERM")
        self.assertEqual(await daemon.program.ended(), 0)
        daemon.assert_quiet_log()
        await daemon.assert_no_survivor()

    async def test_a_signal_as_soon_as_it_listens(self) -> None:
        """Announced is only what has its own signal handlers."""
        for name in ("TERM", "INT"):
            daemon = await LiveDaemon.start(self)
            daemon.program.signal(name)
            self.assertEqual(await daemon.program.ended(), 0)

    async def test_one_that_was_told_to_ignore_ctrl_c(self) -> None:
        """As a shell tells what it starts with ``&``: that Ctrl-C was meant for something else."""
        ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
        daemon = await LiveDaemon.start(self, command=(*twistd("-n", "--pidfile=", before=ignore), "pmdaemon"))
        daemon.program.signal("INT")
        self.assertEqual((await daemon.get("/"))[0], 302)
        await daemon.stop()
