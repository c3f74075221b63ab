"""How many files a daemon may have open, for all the connections of its user, and how many its children."""

import psutil
from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import twistd

FOUND = 300
LOWER = f"import resource; h = resource.getrlimit(7)[1]; resource.setrlimit(7, ({FOUND}, h))"
APP = "apps: [{name: web, script: sh, args: [-c, 'ulimit -n; exec sleep 1000']}]"


class DescriptorTests(TestCase):
    async def check(self, *options: str) -> None:
        command = (*twistd("-n", "--pidfile=", before=LOWER), "pmdaemon")
        daemon = await LiveDaemon.start(self, *options, config=APP, command=command)
        soft, hard = psutil.Process(daemon.program.pid).rlimit(psutil.RLIMIT_NOFILE)
        self.assertEqual(soft, hard)
        client = await daemon.connect()
        await client.until_online("web")
        await client.request("subscribe", {"events": ["log_message"]})
        reply = await client.request("get_logs", {"process": "web"})
        lines = [each["message"] for each in reply["data"]["lines"]]
        if not lines:
            lines = [(await client.expect("log_message"))["data"]["message"]]
        self.assertEqual(lines, [str(FOUND)])

    async def test_with_a_keeper(self) -> None:
        await self.check()

    async def test_without_one(self) -> None:
        await self.check("--no-keeper")
