"""The dashboard, the browser class and a page like the API document's, in headless Chromium on a live daemon."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.integration.chromium import Page, open_page
from tests.integration.harness import LiveDaemon
from tests.integration.program import ROOT
from tests.integration.test_examples import NAMES, example_daemon

STATIC = ROOT / "pmdaemon/web/static"

CARD = """[...document.querySelectorAll("#processes .process")].find(
  (card) => card.querySelector("h2").textContent === %r)"""


async def until_card(page: Page, name: str, status: str) -> None:
    """Wait until the card of process ``name`` shows ``status``, as a word and as a class."""
    card = CARD % name
    await page.until(f"{card}?.querySelector('[data-f=status]').textContent === {status!r}")
    assert await page.evaluate(f"{card}.className") == f"process {status}"


class FileTests(SynchronousTestCase):
    """The page as a file."""

    def test_one_small_file(self) -> None:
        text = (STATIC / "dashboard.html").read_text()
        self.assertLess(len(text.encode()), 12 * 1024)
        for word in ("innerHTML", " src=", "@import", "https://"):
            self.assertNotIn(word, text)

    def test_examples_are_what_is_served(self) -> None:
        for example, served in (("dashboard.html", "dashboard.html"), ("browser-client.js", "pmdaemon.js")):
            self.assertEqual((ROOT / "examples" / example).read_bytes(), (STATIC / served).read_bytes())


class DashboardTests(TestCase):
    """/examples/dashboard.html."""

    async def test_a_card_per_process(self) -> None:
        daemon, client = await example_daemon(self)
        page = await open_page(self, f"{daemon.http}/examples/dashboard.html")
        await page.until("document.querySelector('#state').textContent === 'live'")
        for name in NAMES:
            await until_card(page, name, "online")
        for figure, pattern in (("cpu", "^[0-9.]+%$"), ("memory", "^[1-9][0-9.]* MB$"), ("uptime", "^[0-9]+s$")):
            await page.until(f"/{pattern}/.test({CARD % 'web'}.querySelector('[data-f={figure}]').textContent)")
        await page.until("/^[0-9.]+%$/.test(document.querySelector('#system [data-f=cpu]').textContent)")
        await page.until("document.querySelector('#system [data-f=used]').textContent.includes('GB')")
        self.assertEqual(await page.evaluate("document.querySelector('#counts').textContent"), "4 processes: 4 online")

        await client.command("stop", "worker-0")
        await until_card(page, "worker-0", "stopped")
        await client.command("start", "worker-0")
        await until_card(page, "worker-0", "online")
        await client.command("delete", "worker")
        await page.until("document.querySelectorAll('#processes .process').length === 2")
        self.assertEqual(page.errors, [])

    async def test_comes_back_with_the_daemon(self) -> None:
        daemon, client = await example_daemon(self)
        page = await open_page(self, f"{daemon.http}/examples/dashboard.html")
        await until_card(page, "web", "online")
        await client.close()
        await daemon.stop()
        await page.until("/^reconnecting in [0-9]+ s$/.test(document.querySelector('#line').textContent)")
        await page.until("document.querySelector('#notice').innerText.includes('No answer from ws://')")
        await LiveDaemon.start(self, port=daemon.port)
        await page.until("document.querySelector('#state').textContent === 'live'", timeout=30)
        await page.until("document.querySelector('#notice').hidden && !document.querySelector('#empty').hidden")

    async def test_narrow_and_dark(self) -> None:
        daemon, _ = await example_daemon(self)
        page = await open_page(self, f"{daemon.http}/examples/dashboard.html", width=320, dark=True)
        await until_card(page, "worker-1", "online")
        self.assertEqual(await page.evaluate("document.documentElement.scrollWidth"), 320)
        self.assertEqual(await page.evaluate("getComputedStyle(document.body).backgroundColor"), "rgb(18, 21, 27)")

    async def test_a_page_from_a_file_says_what_to_open(self) -> None:
        page = await open_page(self, (ROOT / "examples/dashboard.html").as_uri())
        await page.until(
            "document.querySelector('#notice a')?.href === 'http://localhost:9615/examples/dashboard.html'"
        )
        self.assertIn("opened from a file", await page.evaluate("document.querySelector('#notice').innerText"))


class OwnPageTests(TestCase):
    """Pages of a user, served with --www."""

    async def page(self, body: str) -> Page:
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(f"<!DOCTYPE html><link rel=icon href='data:,'><body>{body}")
        daemon, self.client = await example_daemon(self, "--www", os.path.abspath(folder))
        return await open_page(self, f"{daemon.http}/www/index.html")

    async def test_the_browser_class(self) -> None:
        page = await self.page("""<script src="/examples/pmdaemon.js"></script><script>
            const pmdaemon = new PMDaemonWebSocket(), seen = [];
            const ready = new Promise((resolve) => pmdaemon.on("connected", resolve));
            pmdaemon.on("process_status", (data) => seen.push(`${data.name} ${data.status}`));
            pmdaemon.connect();</script>""")
        await page.evaluate("ready")
        ack = await page.evaluate("pmdaemon.subscribe(['process_status'], ['worker'])")
        self.assertEqual(ack["events"]["process_status"]["processes"], ["worker"])
        for action, status in (("stop", "stopped"), ("start", "online"), ("restart", "online")):
            result = await page.evaluate(f"pmdaemon.{action}Process('worker-0')")
            self.assertEqual([process["status"] for process in result["processes"]], [status])
        seen = await page.evaluate("seen")
        self.assertEqual(seen[:4], [f"worker-0 {status}" for status in ("stopping", "stopped", "starting", "online")])
        self.assertTrue(await page.evaluate("pmdaemon.deleteProcess('worker-0').then((data) => data.success)"))
        refused = "pmdaemon.stopProcess('nobody').then(() => null, (error) => [error.code, error.hint, error.message])"
        code, hint, message = await page.evaluate(refused)
        self.assertEqual(code, "PROCESS_NOT_FOUND")
        self.assertTrue(message.startswith("cannot find"), (message, hint))
        self.assertEqual(page.errors, [])

    async def test_a_page_like_the_document_s(self) -> None:
        """It colours by the ``status`` in process_metrics [P4] and needs every figure to be a number."""
        page = await self.page("""<main></main><footer></footer><script>
            const socket = new WebSocket(`ws://${location.host}/ws`);
            socket.onopen = () => socket.send(JSON.stringify({ type: "subscribe", data: {
              events: ["process_status", "process_metrics", "system_metrics"], interval: 1000 } }));
            const draw = {
              process_metrics: (data) => document.querySelector("main").replaceChildren(...data.processes.map((one) => {
                const box = document.createElement("div");
                box.className = `process ${one.status}`;
                const memory = (one.memory / 1024 / 1024).toFixed(1), uptime = Math.floor(one.uptime / 1000);
                box.textContent = `${one.name} ${one.cpu}% ${memory}MB ${uptime}s`;
                return box;
              })),
              system_metrics: (data) => document.querySelector("footer").textContent =
                `${data.cpu.usage}% ${data.memory.usage_percent}% ${data.load.one}`,
            };
            socket.onmessage = (event) => {
              const { type, data } = JSON.parse(event.data);
              draw[type]?.(data);
            };
            </script>""")
        await page.until("document.querySelectorAll('.process.online').length === 4")
        await page.until("/^web [0-9.]+% [0-9.]+MB [0-9]+s$/.test(document.querySelector('.process').textContent)")
        await page.until("/^[0-9.]+% [0-9.]+% [0-9.]+$/.test(document.querySelector('footer').textContent)")
        await self.client.command("stop", "web")
        await page.until("document.querySelectorAll('.process.stopped').length === 1")
        self.assertEqual(page.errors, [])
