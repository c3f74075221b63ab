"""The screen with Textual's pilot and no daemon: what keys do, what is shown, and how it bears a lot."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pmdaemon.client import Delete, Disconnected, ProcessMetrics, Reload, Restart, Scale, Signal, Stop
from pmdaemon.errors import OperationFailed, Unauthorized
from pmdaemon.monit.app import Monitor
from tests.integration.program import within
from tests.monit.made import NoClient, begun, line, message, process

SIZE = (80, 24)


class Screen:
    """One screen that is driven."""

    def __init__(self, pilot: Any, app: Monitor, client: NoClient) -> None:
        self.pilot = pilot
        self.app = app
        self.client = client

    @property
    def text(self) -> str:
        """All that is on the screen."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in lines)

    async def until(self, true: Callable[[], object], what: str = "") -> None:
        """Return when something holds."""
        try:
            async with asyncio.timeout(30):
                while not true():
                    await self.pilot.pause(0.02)
        except TimeoutError:
            raise AssertionError(f"not within 30 s: {what}\n{self.text}") from None

    async def shows(self, *texts: str) -> None:
        """Return when all of these are on the screen."""
        await self.until(lambda: all(text in self.text for text in texts), repr(texts))

    async def hides(self, text: str) -> None:
        """Return when it is not on the screen any more."""
        await self.until(lambda: text not in self.text, f"without {text!r}")

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        await self.pilot.press(*keys)

    async def reads(self, id_: int) -> None:
        """Return when the log of a process is asked for."""
        await self.until(lambda: id_ in self.client.logs, f"the log of {id_}")

    def say(self, id_: int, *texts: str) -> None:
        """Have a process print lines."""
        self.client.logs[id_].say(*(message(line(text, id_)) for text in texts))


class AppTests(TestCase):
    def drive(
        self, work: Callable[[Screen], Coroutine[Any, Any, None]], size: tuple[int, int] = SIZE, **options: Any
    ) -> "Deferred[None]":
        """Run a screen with two processes, in an event loop of its own beside the reactor."""

        async def run() -> None:
            client: Any = NoClient()
            app = Monitor(client, **({"colors": True, "unicode": True} | options))
            async with app.run_test(size=size) as pilot:
                screen = Screen(pilot, app, client)
                client.told.say(begun(process(0, "web"), process(1, "worker", "errored")))
                await screen.shows("web", "worker")
                await screen.reads(0)
                await work(screen)

        return within(60, deferToThread(asyncio.run, run()), lambda: "the end of the screen")

    async def test_first_picture(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, "hello from web")
            await screen.shows("PMDaemon 1.2.3", "● live", "● online", "✗ errored", "1 errored", "hello from web")
            await screen.shows("r Restart", "d Delete", "? Help", "following", "1 line")

        await self.drive(work)

    async def test_commands(self) -> None:
        async def work(screen: Screen) -> None:
            await screen.press("r", "R", "down", "s")
            await screen.shows("reloaded web", "stopped worker")
            await screen.press("c")
            await screen.shows("How many processes shall worker have?")
            await screen.press("x", "enter")
            await screen.shows("'x' is not a number from 1 to 1000")
            await screen.press("backspace", "3", "enter")
            await screen.press("K")
            await screen.shows("Which signal to worker?")
            await screen.press("enter", "d")
            await screen.shows("Delete worker?")
            await screen.press("n", "d", "y")
            expected = [Restart(process=0), Reload(process=0), Stop(process=1), Scale(process="worker", instances=3)]
            expected += [Signal(process=1, signal="HUP"), Delete(process=1)]
            await screen.until(lambda: screen.client.commands == expected, f"{expected}, not {screen.client.commands}")

        await self.drive(work)

    async def test_an_error_stays_until_it_is_cleared(self) -> None:
        async def work(screen: Screen) -> None:
            screen.client.refusal = OperationFailed("cannot stop web: it is busy", hint="try again later")
            await screen.press("s")
            await screen.shows("error: cannot stop web: it is busy", "try again later")
            await screen.press("escape")
            await screen.hides("try again later")

        await self.drive(work)

    async def test_the_log_follows_the_selection(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, "hello from web")
            await screen.shows("hello from web")
            await screen.press("j")
            await screen.reads(1)
            screen.say(1, "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07end")
            await screen.shows("red end", "── worker")
            await screen.hides("hello from web")

        await self.drive(work)

    async def test_who_comes_back_at_once_sees_the_same_log(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, "hello from web")
            await screen.shows("hello from web")
            asked = screen.client.logs[0]
            screen.app.table.action_move(1)
            screen.app.table.action_move(-1)
            screen.app._read()
            self.assertIs(screen.client.logs[0], asked)
            await screen.shows("hello from web")

        await self.drive(work)

    async def test_follow_scroll_and_pause(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, *(f"line-{number:03}" for number in range(100)))
            await screen.shows("line-099", "following")
            await screen.press("tab", "pageup")
            await screen.shows("f follows")
            before = [part for part in screen.text.split() if part.startswith("line-")]
            screen.say(0, *(f"line-{number:03}" for number in range(100, 120)))
            await screen.shows("20 new below")
            self.assertEqual([part for part in screen.text.split() if part.startswith("line-")], before)
            await screen.press("f")
            await screen.shows("line-119", "following")
            await screen.press("space")
            screen.say(0, "waits-1", "waits-2")
            await screen.shows("paused, 2 waiting")
            self.assertNotIn("waits-1", screen.text)
            await screen.press("space")
            await screen.shows("waits-2", "following")
            await screen.press("home")
            await screen.shows("line-000")
            await screen.press("end")
            await screen.shows("waits-2", "following")

        await self.drive(work)

    async def test_a_place_in_the_log_is_kept_when_old_lines_go(self) -> None:
        async def work(screen: Screen) -> None:
            screen.app.pane.log_lines._kept = 200
            screen.say(0, *(f"line-{number:03}" for number in range(200)))
            await screen.shows("line-199")
            await screen.press("tab", "pageup", "pageup")
            await screen.shows("f follows")
            before = [part for part in screen.text.split() if part.startswith("line-")]
            screen.say(0, *(f"more-{number:03}" for number in range(100)))
            await screen.shows("100 new below", "200 lines")
            self.assertEqual([part for part in screen.text.split() if part.startswith("line-")], before)

        await self.drive(work)

    async def test_search(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, *("needle" if number % 50 == 10 else f"line-{number:03}" for number in range(200)))
            await screen.shows("line-199")
            await screen.press("ctrl+f", *"needle")
            await screen.shows("Find: needle", "- of 4")
            await screen.press("enter")
            await screen.shows("4 of 4", "line-161")
            await screen.press("N")
            await screen.shows("3 of 4", "line-111")
            await screen.press("n", "n")
            await screen.shows("1 of 4", "line-011")
            await screen.press("escape")
            await screen.hides("'needle'")

        await self.drive(work)

    async def test_wrap_and_times(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, f"{'x' * 100}tail-of-it")
            await screen.shows("tail-of-it")
            await screen.press("w")
            await screen.hides("tail-of-it")
            await screen.press("tab", "right", "right", "right", "right", "right")
            await screen.shows("tail-of-it")
            await screen.press("t")
            await screen.shows(":00:00.500")

        await self.drive(work)

    async def test_filter_and_sort(self) -> None:
        async def work(screen: Screen) -> None:
            await screen.press("slash", *"status:err")
            await screen.shows("Filter: status:err", "── worker")
            self.assertEqual(len(screen.app.model.listed()), 1)
            await screen.press("enter", "escape")
            self.assertEqual(len(screen.app.model.listed()), 2)
            await screen.press("o", "O")
            self.assertEqual((screen.app.model.sort, screen.app.model.reverse), ("name", True))
            await screen.shows("Name▼")
            await screen.pilot.click(screen.app.table, offset=(2, 0))
            await screen.until(lambda: screen.app.model.sort == "id")
            await screen.shows("ID▲")

        await self.drive(work)

    async def test_help_and_events(self) -> None:
        async def work(screen: Screen) -> None:
            await screen.press("question_mark")
            await screen.shows("Stop it, with everything it has started")
            await screen.press("escape", "e")
            await screen.shows("Events, the latest first", "Nothing has happened yet")
            await screen.press("q")
            await screen.shows("web")
            await screen.press("q")
            await screen.until(lambda: not screen.app.is_running)

        await self.drive(work)

    async def test_the_connection_breaks_and_comes_back(self) -> None:
        async def work(screen: Screen) -> None:
            screen.client.told.say(message(Disconnected(reason="it broke")))
            await screen.shows("reconnecting", "stale since", "web")
            screen.client.told.say(begun(process(0, "web"), process(2, "new")))
            await screen.shows("● live", "new")
            await screen.hides("worker")

        await self.drive(work)

    async def test_refused(self) -> None:
        async def work(screen: Screen) -> None:
            screen.app.model.refused = Unauthorized("cannot go on: the token was taken back")
            screen.app.model.changed = True
            await screen.shows("no connection", "error: cannot go on: the token was taken back")

        await self.drive(work)

    async def test_small(self) -> None:
        async def work(screen: Screen) -> None:
            for size in ((40, 12), (20, 6), (5, 3), (200, 60), (80, 24)):
                await screen.pilot.resize_terminal(*size)
                await screen.until(lambda size=size: len(screen.text.splitlines()[0]) == size[0])
            await screen.shows("web", "following", "q Quit")

        await self.drive(work)

    async def test_without_unicode_and_colours(self) -> None:
        async def work(screen: Screen) -> None:
            screen.say(0, "naïve 日本")
            await screen.shows("naive ????", "* online", "x errored", "-- web")
            await screen.press("d")
            await screen.shows("Delete web?", "+--")
            await screen.until(lambda: screen.text.isascii())
            strips = screen.app.screen._compositor.render_strips()
            styles = [segment.style for strip in strips for segment in strip if segment.style]
            self.assertEqual({(style.color, style.bgcolor) for style in styles} - {(None, None)}, set())

        await self.drive(work, unicode=False, colors=False)

    async def test_a_thousand_processes_and_a_burst_of_lines(self) -> None:
        async def work(screen: Screen) -> None:
            many = [process(id_, f"p{id_:04}") for id_ in range(1000)]
            screen.client.told.say(begun(*many))
            await screen.shows("1000 processes")
            drawn: list[int] = []
            draw = screen.app.pane.sync
            screen.app.pane.sync = lambda: (drawn.append(1), draw())  # type: ignore[method-assign]
            begun_at = time.monotonic()
            for _ in range(10):
                screen.client.told.say(message(ProcessMetrics(many)))
                screen.say(0, *(f"line {each}" for each in range(2000)))
                await screen.pilot.pause()
            await screen.until(lambda: screen.app.pane.log_lines.added == 20_000, "all the lines")
            frames = (time.monotonic() - begun_at) / 0.1
            self.assertLessEqual(len(drawn), frames + 5)
            await screen.shows("10,000 lines", "line 1999")
            await screen.press("end")
            await screen.shows("p0999")

        await self.drive(work)
