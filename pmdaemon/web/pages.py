"""The pages: the examples that come with the package, and a directory of the user's own."""

# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

import os
import re
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

from twisted.web import http, resource, server, static

from pmdaemon.web import csp
from pmdaemon.web.answer import NOT_FOUND, Refused, answer
from pmdaemon.web.authority import Authority, parse_authority
from pmdaemon.web.guard import Refusal

__all__ = ["ExamplePages", "Redirect", "UserPages"]

FORBIDDEN: Final = Refusal(403, "PERMISSION_DENIED", "cannot read this file", "check the permissions of the file")

TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml; charset=utf-8",
    ".png": "image/png",
    ".ico": "image/x-icon",
}

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What Twisted parses of a conditional or partial request without raising; anything else is ignored, as HTTP allows.
_SOUND: Final = {
    b"range": re.compile(rb"bytes=[0-9]{1,15}-[0-9]{0,15}"),
    b"if-modified-since": re.compile(rb"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"),
}


class Redirect(resource.Resource):
    """Sends the browser to another path of this site, from this path and none below it."""

    isLeaf = True

    def __init__(self, path: bytes) -> None:
        super().__init__()
        self._path = path

    def render(self, request: server.Request) -> bytes:
        """Called by Twisted."""
        if request.postpath:
            return answer(request, NOT_FOUND)
        request.setResponseCode(http.FOUND)
        request.setHeader(b"location", self._path)
        return b""


class ExamplePages(resource.Resource):
    """Serves the files of ``folder``, not of folders in it, with a policy that lets them talk to this daemon only."""

    isLeaf = True

    def __init__(self, folder: Traversable) -> None:
        super().__init__()
        self._folder = folder

    def render(self, request: server.Request) -> bytes:
        """Called by Twisted."""
        name = os.fsdecode(b"/".join(request.postpath or ()))
        content = self._read(name)
        if content is None:
            return answer(request, NOT_FOUND)
        suffix = PurePosixPath(name).suffix
        page = content.decode("utf-8", "replace") if suffix == ".html" else ""
        request.setHeader(b"content-security-policy", csp.policy(page, _sockets(request)))
        request.setHeader(b"content-type", TYPES.get(suffix, "application/octet-stream"))
        request.setHeader(b"content-length", b"%d" % len(content))
        request.setHeader(b"cache-control", b"no-cache")
        return b"" if request.method == b"HEAD" else content

    def _read(self, name: str) -> bytes | None:
        if not _NAME.fullmatch(name):
            return None
        file = self._folder / name
        return file.read_bytes() if file.is_file() else None


class UserPages(static.File):
    """Serves the directory ``path`` as it is: ``index.html`` for a folder, no listings, no names with a leading dot.

    Only regular files are served, and only those that lie in the directory: a symbolic link out of it is not followed.
    """

    # typed by its value, a page, where any resource will do
    childNotFound = Refused(NOT_FOUND)  # type: ignore[assignment]
    forbidden = Refused(FORBIDDEN)  # type: ignore[assignment]

    def __init__(self, path: str, root: str | None = None) -> None:
        super().__init__(path, "application/octet-stream")
        self.indexNames = ["index.html"]
        self._root = os.path.realpath(path) if root is None else root

    def getChild(self, path: bytes, request: server.Request) -> resource.Resource:
        """Called by Twisted for each segment of a path."""
        try:
            name = path.decode("utf-8")
        except UnicodeDecodeError:
            return self.childNotFound
        if name.startswith(".") or not name.isprintable():
            return self.childNotFound
        child = super().getChild(path, request)
        return child if not isinstance(child, UserPages) or child._may_be_served() else self.childNotFound

    def directoryListing(self) -> resource.Resource:
        """Called for a folder without an index."""
        return self.childNotFound

    def createSimilarFile(self, path: str) -> "UserPages":
        """Called for each file or folder found."""
        return UserPages(path, self._root)

    def render_GET(self, request: server.Request) -> bytes | int:
        """Called by Twisted."""
        for name, sound in _SOUND.items():
            if not all(map(sound.fullmatch, request.requestHeaders.getRawHeaders(name, ()))):
                request.requestHeaders.removeHeader(name)
        rendered: bytes | int = super().render_GET(request)
        return rendered

    render_HEAD = render_GET

    def redirect(self, request: server.Request) -> bytes:
        """Called for a folder whose path lacks the final slash."""
        path = b"".join(b"/" + quote(segment, safe="").encode() for segment in request.prepath or ())
        return Redirect(path + b"/").render(request)

    def _may_be_served(self) -> bool:
        real = os.path.realpath(self.path)
        inside = os.path.commonpath((real, self._root)) == self._root
        return inside and (os.path.isfile(real) or os.path.isdir(real))


def _sockets(request: server.Request) -> list[str]:
    """Where a page may open a WebSocket: this daemon, by the names that a page here may have been opened with."""
    scheme, default = ("wss", 443) if request.isSecure() else ("ws", 80)
    asked = parse_authority(request.requestHeaders.getRawHeaders(b"host", [b""])[0]) or Authority("localhost", None)
    # A policy cannot name an IPv6 address; 'self' stands for it.
    hosts = [host for host in dict.fromkeys(("localhost", "127.0.0.1", asked.host)) if not host.startswith("[")]
    return [f"{scheme}://{host}:{asked.port or default}" for host in hosts]
