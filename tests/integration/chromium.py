"""Headless Chromium, driven over its DevTools protocol: open a page, wait for what it shows, read its errors."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.trial.unittest import TestCase

from tests.integration.program import Program, require, within

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)

# Resolves with the value of EXPRESSION as soon as a change of the page makes it true.
UNTIL = """new Promise((resolve) => {
  const look = () => { const value = (EXPRESSION); if (value) { watch.disconnect(); resolve(value); } };
  const watch = new MutationObserver(look);
  watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
  look();
})"""


class DevTools(WebSocketClientProtocol):
    """The connection to the browser: numbered calls, and events as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()
        self.event: Callable[[dict[str, Any]], None] = lambda message: None
        self._calls: dict[int, Deferred[dict[str, Any]]] = {}
        self._number = 0

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.over.callback(None)

    def call(self, method: str, session: str | None = None, **params: object) -> Deferred[dict[str, Any]]:
        """The result of one DevTools method."""
        self._number += 1
        message = {
            "id": self._number,
            "method": method,
            "params": params,
            **({"sessionId": session} if session else {}),
        }
        answer = self._calls[self._number] = Deferred()
        self.sendMessage(json.dumps(message).encode())
        return within(30, answer, lambda: f"{method} {params}")

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if "id" not in message:
            self.event(message)
        elif "error" in message:
            self._calls.pop(message["id"]).errback(AssertionError(message["error"]))
        else:
            self._calls.pop(message["id"]).callback(message["result"])


class Page:
    """One tab; what its console, its scripts and the browser complain of is in ``errors``."""

    def __init__(self, tools: DevTools, session: str) -> None:
        self.errors: list[str] = []
        self._tools = tools
        self._session = session
        self._loaded: Deferred[None] | None = None
        tools.event = self._event

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """The result of one DevTools method of this tab."""
        return await self._tools.call(method, self._session, **params)

    async def open(self, url: str) -> None:
        """Go to ``url`` and wait until it is loaded."""
        self._loaded = loaded = Deferred()
        await self.call("Page.navigate", url=url)
        await within(30, loaded, lambda: f"{url} to be loaded")

    async def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression; a promise is awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, timeout: float = 15.0) -> Any:
        """The value of ``expression`` as soon as it is true; the page's text is told when that takes too long."""
        waiting = self.evaluate(UNTIL.replace("EXPRESSION", expression))
        try:
            return await within(timeout, waiting, lambda: expression)
        except AssertionError as error:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{error}\nthe page shows:\n{shown}\nerrors: {self.errors}") from None

    def _event(self, message: dict[str, Any]) -> None:
        method, params = message["method"], message["params"]
        if method == "Page.loadEventFired" and self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            loaded.callback(None)
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(value.get("value", value)) for value in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


async def open_page(
    test: TestCase, url: str, *, width: int = 1100, height: int = 800, dark: bool = False, flags: Sequence[str] = ()
) -> Page:
    """``url`` in a new browser, which is ended with ``test``; ``flags`` are further arguments of its command line."""
    folder = os.path.abspath(test.mktemp())
    options = (*FLAGS, *flags, f"--user-data-dir={folder}")
    program = Program.start(test, [require(test, "chromium"), *options, "about:blank"])
    address = (await program.line(r"DevTools listening on (ws://[\d.]+:(\d+)/\S+)", timeout=60)).groups()
    factory = WebSocketClientFactory(address[0], reactor=reactor)
    factory.protocol = DevTools
    tools: DevTools = await TCP4ClientEndpoint(reactor, "127.0.0.1", int(address[1])).connect(factory)

    async def end() -> None:
        program.signal("TERM")
        await program.ended()
        await within(20, tools.over, lambda: "the end of the DevTools connection")

    test.addCleanup(end)
    await within(20, tools.opened, lambda: "the DevTools connection")
    target = (await tools.call("Target.createTarget", url="about:blank"))["targetId"]
    session = (await tools.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
    page = Page(tools, session)
    for domain in ("Page", "Runtime", "Log"):
        await page.call(f"{domain}.enable")
    await page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    await page.call("Emulation.setEmulatedMedia", features=[scheme])
    await page.open(url)
    return page
