"""Children outlive the keeper that holds them: killed under a living daemon, in turn with it, or with it."""

import os
import signal
from pathlib import Path

from tests.integration.keepercase import ENDER, WRITER, KeeperCase, alive, sh


class KilledKeeperTests(KeeperCase):
    async def test_under_a_living_daemon(self) -> None:
        daemon = await self.start(
            sh("writer", WRITER),
            sh("failing", ENDER + "exit 7"),
            sh("later", ENDER + "echo last words; exit 8", autorestart=False),
        )
        client = await self.follow(daemon)
        await client.until_online("writer", "failing", "later")
        before = await self.processes(client)
        keeper = self.keeper()
        os.kill(daemon.program.pid, signal.SIGSTOP)  # so that nobody starts another one at once
        await self.kill_keeper()
        await self.end("failing", before["failing"]["pid"])
        os.kill(daemon.program.pid, signal.SIGCONT)
        crashed = await self.event(client, "failing", "crashed")
        self.assertEqual(crashed["data"]["details"]["exit_code"], 7)
        await self.event(client, "failing", "restarted")
        await self.end("later", before["later"]["pid"])
        crashed = await self.event(client, "later", "crashed")
        self.assertEqual((crashed["data"]["details"]["exit_code"], self.lines("later")), (8, ["last words"]))
        now = await self.processes(client)
        self.assertEqual((now["writer"]["pid"], now["writer"]["restarts"]), (before["writer"]["pid"], 0))
        self.assertEqual((now["failing"]["status"], now["failing"]["restarts"]), ("online", 1))
        self.assertNotEqual(self.keeper(), keeper)
        self.assertIn("the connection to the keeper is lost", daemon.log)
        await client.command("restart", "writer")
        await daemon.stop()

    async def test_last_words_while_there_was_none(self) -> None:
        """What is in the pipe of a child that has ended stays there as long as somebody holds it open."""
        daemon = await self.start(sh("talker", ENDER + "echo last words; exit 3", autorestart=False))
        client = await self.follow(daemon)
        await client.until_online("talker")
        pid = (await self.processes(client))["talker"]["pid"]
        os.kill(daemon.program.pid, signal.SIGSTOP)
        await self.kill_keeper()
        await self.end("talker", pid)
        os.kill(daemon.program.pid, signal.SIGCONT)
        crashed = await self.event(client, "talker", "crashed")
        details = crashed["data"]["details"]
        self.assertEqual((details["exit_code"], details["last_lines"]), (3, ["last words"]))

    async def test_both_in_turn(self) -> None:
        daemon = await self.start(sh("writer", WRITER), sh("failing", ENDER + "exit 7"))
        client = await self.follow(daemon)
        await client.until_online("writer", "failing")
        pid = (await self.processes(client))["writer"]["pid"]
        for round_ in range(3):
            await self.kill_keeper()
            await daemon.program.line("(?s)(connection to the keeper is lost.*){1}")
            await self.until(lambda: self.has_keeper(), "another keeper")
            await self.end("failing", (await self.processes(client))["failing"]["pid"])
            await self.event(client, "failing", "crashed")
            await self.event(client, "failing", "restarted")
            last = client.messages[-1]["id"]
            await daemon.crash()
            daemon = await self.start()
            client = await self.follow(daemon, since=last)
            now = await self.processes(client)
            self.assertEqual((now["writer"]["pid"], now["writer"]["restarts"]), (pid, 0))
            self.assertEqual(now["failing"]["restarts"], round_ + 1)
        await daemon.stop()
        self.assert_in_order("writer")

    async def test_both_at_once(self) -> None:
        daemon = await self.start(sh("writer", WRITER), sh("failing", ENDER + "exit 7", autorestart=False))
        client = await self.follow(daemon)
        await client.until_online("writer", "failing")
        before = await self.processes(client)
        os.kill(daemon.program.pid, signal.SIGSTOP)
        await self.kill_keeper()
        await daemon.crash()
        await self.end("failing", before["failing"]["pid"])
        again = await self.start()
        client = await self.follow(again, since=client.messages[-1]["id"])
        crashed = await self.event(client, "failing", "crashed")
        self.assertIn(crashed["data"]["details"]["exit_code"], (None, 7), "7 where nobody has reaped it")
        self.assertEqual((await self.processes(client))["writer"]["pid"], before["writer"]["pid"])
        await again.stop()
        self.assert_in_order("writer")

    def has_keeper(self) -> bool:
        text = Path(self.home, "keeper.lock").read_text().strip()
        return text.isdecimal() and alive(int(text))
