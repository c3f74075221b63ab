"""What a page of somebody else's can do with the daemon, in headless Chromium: a name made to point here, and none."""

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.integration.chromium import Page, open_page
from tests.integration.harness import LiveDaemon

REBOUND = "--host-resolver-rules=MAP evil.example 127.0.0.1"

OPENED = """new Promise((done) => {
  const socket = new WebSocket(%s);
  socket.onopen = () => done("open");
  socket.onclose = (event) => done(event.code);
})"""

ASKED = """new Promise((done) => {
  const socket = new WebSocket(%s);
  socket.onopen = () => socket.send(%s);
  socket.onmessage = ({ data }) => done(JSON.parse(data));
  socket.onclose = (event) => done(event.code);
})"""


async def opened(page: Page, url: str) -> Any:
    """``open``, or the code that the page is told: 1006, where the handshake was refused."""
    return await page.evaluate(OPENED % json.dumps(url))


async def asked(page: Page, url: str, message: object) -> Any:
    """The first message that the page gets."""
    return await page.evaluate(ASKED % (json.dumps(url), json.dumps(json.dumps(message))))


class PageTests(TestCase):
    """Each from where a browser would let it."""

    async def local_file(self) -> Page:
        """A page without an origin."""
        file = Path(self.mktemp() + ".html").absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("<p>mine")
        return await open_page(self, file.as_uri())

    async def test_a_name_that_was_made_to_point_here(self) -> None:
        daemon = await LiveDaemon.start(self)
        page = await open_page(self, f"http://evil.example:{daemon.port}/examples/dashboard.html", flags=[REBOUND])
        self.assertIn("HOST_NOT_ALLOWED", await page.evaluate("document.body.innerText"))
        self.assertEqual(await opened(page, f"ws://evil.example:{daemon.port}/ws"), 1006, "its own origin")
        self.assertEqual(await opened(page, f"ws://localhost:{daemon.port}/ws"), 1006, "somebody else's page")
        self.assertEqual(daemon.log.count("HOST_NOT_ALLOWED"), 1, "told once a minute")
        self.assertEqual(daemon.log.count("ORIGIN_NOT_ALLOWED"), 1)

    async def test_a_page_without_an_origin(self) -> None:
        daemon = await LiveDaemon.start(self)
        page = await self.local_file()
        self.assertEqual(await opened(page, f"ws://localhost:{daemon.port}/ws"), 1006)
        self.assertIn("ORIGIN_NOT_ALLOWED", daemon.log)

    async def test_it_may_look_where_that_is_allowed(self) -> None:
        daemon = await LiveDaemon.start(self, "--allow-null-origin")
        page = await self.local_file()
        url = f"ws://localhost:{daemon.port}/ws"
        self.assertEqual((await asked(page, url, {"type": "ping"}))["type"], "pong")
        start = {"action": "start", "process": "x", "config": {"script": "true"}}
        answer = await asked(page, url, {"type": "command", "data": start})
        self.assertEqual(answer["data"]["code"], "PERMISSION_DENIED")
