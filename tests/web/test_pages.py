"""A directory of the user's own under ``/www/``, over TCP."""

import errno
import os
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from pmdaemon.web.pages import UserPages
from pmdaemon.web.site import build_site

from .wire import Answer, arrivals, exchange, get, guard


class UserPagesTests(TestCase):
    """What of a directory is served."""

    def setUp(self) -> None:
        outside = Path(self.mktemp())
        outside.mkdir()
        (outside / "secret.txt").write_text("secret")
        self.folder = Path(self.mktemp())
        for name, text in (
            ("index.html", "home"),
            ("app.js", "script"),
            ("sub/index.html", "sub home"),
            ("empty/data", "0123456789"),
            (".env", "secret"),
            (".git/config", "secret"),
        ):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        os.mkfifo(self.folder / "pipe")
        (self.folder / "away.txt").symlink_to((outside / "secret.txt").resolve())
        (self.folder / "away").symlink_to(outside.resolve())
        (self.folder / "alias.js").symlink_to("app.js")
        factory = WebSocketServerFactory(reactor=reactor)
        site = build_site(reactor, guard(reactor), arrivals(), factory, str(self.folder))  # type: ignore[arg-type]
        self.port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)

    async def ask(self, target: bytes, *headers: bytes, method: bytes = b"GET") -> Answer:
        raw = get(target, b"Connection: close", *headers, method=method)
        return await exchange(reactor, self.port.getHost().port, raw)

    async def test_files(self) -> None:
        for target, body, kind in (
            (b"/www/", b"home", b"text/html"),
            (b"/www/index.html", b"home", b"text/html"),
            (b"/www/app.js", b"script", b"javascript"),
            (b"/www/alias.js", b"script", b"javascript"),
            (b"/www/sub/", b"sub home", b"text/html"),
            (b"/www/empty/data", b"0123456789", b"application/octet-stream"),
        ):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.body), (200, body), target)
            self.assertIn(kind, answer.headers.getRawHeaders(b"content-type", [b""])[0])
            self.assertEqual(answer.headers.getRawHeaders(b"x-content-type-options"), [b"nosniff"])
            self.assertFalse(answer.headers.hasHeader(b"content-security-policy"))

    async def test_nothing_else(self) -> None:
        for target in (
            b"/www/nothing",
            b"/www/empty/",
            b"/www/.env",
            b"/www/.git/config",
            b"/www/%2eenv",
            b"/www/../guard.py",
            b"/www/sub/../app.js",
            b"/www/%2e%2e/",
            b"/www/..%2f..%2fetc%2fpasswd",
            b"/www//etc/passwd",
            b"/www/%2fetc%2fpasswd",
            b"/www/app.js/more",
            b"/www/app.js/",
            b"/www/app.js%00",
            b"/www/%ff",
            b"/www/" + b"a" * 5000,
            b"/www/away.txt",
            b"/www/away/secret.txt",
            b"/www/away/",
            b"/www/pipe",
        ):
            answer = await self.ask(target)
            self.assertEqual(answer.status, 404, target)
            self.assertEqual(answer.headers.getRawHeaders(b"content-type"), [b"application/json"], target)

    async def test_a_folder_without_slash(self) -> None:
        for target, location in ((b"/www", b"/www/"), (b"/www/sub", b"/www/sub/"), (b"/www/s%75b?q", b"/www/sub/")):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.headers.getRawHeaders(b"location")), (302, [location]))
            self.assertEqual(answer.body, b"")

    async def test_head(self) -> None:
        answer = await self.ask(b"/www/app.js", method=b"HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers.getRawHeaders(b"content-length"), [b"6"])

    async def test_ranges(self) -> None:
        for header, status, body in (
            (b"bytes=2-4", 206, b"234"),
            (b"bytes=7-", 206, b"789"),
            (b"bytes=100-", 416, b""),
            (b"bytes=-99", 200, b"0123456789"),
            (b"bytes=0-0,2-2", 200, b"0123456789"),
            (b"bytes=4-2", 200, b"0123456789"),
            (b"\xff", 200, b"0123456789"),
        ):
            answer = await self.ask(b"/www/empty/data", b"Range: " + header)
            self.assertEqual((answer.status, answer.body), (status, body), header)

    async def test_unchanged(self) -> None:
        answer = await self.ask(b"/www/app.js")
        [changed] = answer.headers.getRawHeaders(b"last-modified", [])
        self.assertEqual((await self.ask(b"/www/app.js", b"If-Modified-Since: " + changed)).status, 304)

    async def test_conditions_that_are_none(self) -> None:
        for value in (b";", b"x", b"\xff", b"Sun, 99 Foo 0000 00:00:00 GMT", b"Mon, 01 Jan 1900 00:00:00 GMT"):
            self.assertEqual((await self.ask(b"/www/app.js", b"If-Modified-Since: " + value)).status, 200, value)

    async def test_a_file_that_may_not_be_read(self) -> None:
        def refuse(page: UserPages) -> None:
            raise PermissionError(errno.EACCES, "denied")

        self.patch(UserPages, "openForReading", refuse)
        answer = await self.ask(b"/www/app.js")
        self.assertEqual(answer.status, 403)
        self.assertIn(b'"PERMISSION_DENIED"', answer.body)
