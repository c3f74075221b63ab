"""The snippets of the README, each run against a live daemon; tests.test_docs checks the rest of it."""

import json
import os
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.integration.harness import LiveDaemon
from tests.integration.program import Program, node, require
from tests.test_docs import Document

BROWSER = """
globalThis.location = { host: process.argv[1] };
const end = console.log;
console.log = (message) => {
  end(JSON.stringify(message));
  if (message.type === "process_metrics") process.exit();
};
"""


class ReadmeTests(TestCase):
    async def test_every_snippet(self) -> None:
        readme = Document("README.rst")
        browser, server = readme.snippets("javascript")
        (python,) = readme.snippets("python")
        for script in (server, python):
            self.assertIn("localhost:9615", script)
        daemon = await LiveDaemon.start(self)

        first = Program.start(self, [sys.executable, "-c", python.replace("9615", str(daemon.port))])
        self.assertEqual(await first.ended(), 0, first)
        self.assertIn("'name': 'hello'", first.output)
        self.assertIn("'status': 'online'", first.output)

        path, env = node(self)
        second = Program.start(self, [path, "-e", server.replace("9615", str(daemon.port))], env=env)
        self.assertEqual(await second.ended(), 0, second)
        self.assertEqual(second.output, "hello online\n")

        # Node has the browser's WebSocket from version 22 on; before, ws is the same where the snippet uses it.
        before = f"globalThis.WebSocket ??= require('ws');{BROWSER}"
        third = Program.start(self, [path, "-e", before + browser, f"localhost:{daemon.port}"], env=env)
        self.assertEqual(await third.ended(), 0, third)
        types = [json.loads(line)["type"] for line in third.output.splitlines()]
        self.assertEqual(types, ["subscribed", "process_metrics"])


class ExampleFileTests(TestCase):
    async def test_the_readme_config_starts(self) -> None:
        """With programs of these names, as small as can be."""
        (config,) = Document("README.rst").snippets("yaml")
        node_path = require(self, "node")
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        (place / "server.py").write_text(
            "import http.server as h, os\n"
            "class Page(h.BaseHTTPRequestHandler):\n"
            "    def do_GET(self): self.send_response(200); self.end_headers()\n"
            "h.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Page).serve_forever()\n"
        )
        (place / "worker.js").write_text("setInterval(() => {}, 1000);\n")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        (place / "apps.yaml").write_text(config.replace("8100", port))
        daemon = await LiveDaemon.start(
            self, "--config", str(place / "apps.yaml"), env={"PATH": f"{Path(node_path).parent}:{os.environ['PATH']}"}
        )
        client = await daemon.connect()
        await client.until_online("web", "worker-0", "worker-1")
