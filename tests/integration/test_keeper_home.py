"""What is true of a daemon with a keeper as of one without: errors, refusals, one daemon for a home."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.harness import LiveDaemon
from tests.integration.keepercase import WRITER, KeeperCase, sh
from tests.integration.program import Program, free_port, twistd


class RefusedTests(KeeperCase):
    async def test_the_same_words_as_without_a_keeper(self) -> None:
        script = self.place / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        port = free_port()
        configs: list[dict[str, Any]] = [
            {"script": "no-such-program"},
            {"script": str(self.place / "nowhere")},
            {"script": str(script)},
            {"script": "/etc/passwd"},
            {"script": "sleep", "args": "1000", "cwd": str(self.place / "nowhere")},
            {"script": "sleep", "args": "1000", "cwd": str(script)},
            {"script": "sleep", "args": "1000", "out_file": str(script / "log")},
            {"script": "sleep", "args": "1000", "port": port},
        ]
        answers = []
        for option in ([], ["--no-keeper"]):
            daemon = await LiveDaemon.start(self, *option)
            client = await daemon.connect()
            await client.command("start", "taker", config={"script": "sleep", "args": "1000", "port": port})
            replies = [
                await client.request("command", {"action": "start", "process": f"app{n}", "config": config}, timeout=3)
                for n, config in enumerate(configs)
            ]
            answers.append([(reply["type"], reply["data"]) for reply in replies])
            await daemon.stop()
        for config, kept, own in zip(configs, *answers, strict=True):
            self.assertEqual(kept, own, config)
            self.assertEqual(kept[0], "error", config)
        codes = [data["code"] for _, data in answers[0]]
        self.assertEqual(codes, ["PROCESS_START_FAILED"] * 7 + ["PORT_IN_USE"])


class HomeTests(KeeperCase):
    async def test_a_second_daemon(self) -> None:
        daemon = await self.start(sh("quiet", "exec sleep 1000"))
        client = await daemon.connect()
        await client.until_online("quiet")
        second = Program.start(self, [*twistd("-n", "--pidfile="), "pmdaemon", "--port", "0", "--home", self.home])
        self.assertEqual(await second.ended(), 1)
        self.assertIn(f"(pid {daemon.program.pid})", second.output)
        await client.command("restart", "quiet")

    async def test_a_long_path(self) -> None:
        self.home = os.path.join(self.home, "x" * 120)
        daemon = await self.start(sh("writer", WRITER))
        client = await daemon.connect()
        await client.until_online("writer")
        pid = (await self.processes(client))["writer"]["pid"]
        await daemon.crash()
        again = await self.start()
        client = await again.connect()
        await client.until_online("writer")
        self.assertEqual((await self.processes(client))["writer"]["pid"], pid)

    async def test_a_stale_socket(self) -> None:
        """As it is in a copy of a home, or when all were killed at once."""
        daemon = await self.start(sh("quiet", "exec sleep 1000"))
        await (await daemon.connect()).until_online("quiet")
        os.kill(daemon.program.pid, signal.SIGSTOP)
        await self.kill_keeper()
        await daemon.crash()
        copy = tempfile.mkdtemp(prefix="pmdaemon-")
        self.addCleanup(shutil.rmtree, copy, ignore_errors=True)
        shutil.copytree(self.home, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("fifo", "*.sock"))
        os.mknod(os.path.join(copy, "keeper.sock"))
        other = await LiveDaemon.start(self, home=copy)
        await (await other.connect()).until_online("quiet")

    async def test_no_keeper_to_be_had(self) -> None:
        Path(self.home, "keeper.lock").mkdir()
        program = Program.start(self, [*twistd("-n", "--pidfile="), "pmdaemon", "--port", "0", "--home", self.home])
        self.assertEqual(await program.ended(), 1)
        said = [line for line in program.output.splitlines() if "cannot start the keeper" in line]
        self.assertEqual(len(said), 1, program)
        self.assertIn("keeper.lock", said[0])
        self.assertNotIn("Traceback", program.output)
