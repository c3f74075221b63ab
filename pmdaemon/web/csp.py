"""The Content-Security-Policy of an example page: what it may run, and whom it may talk to.

Only the inline scripts and styles that are in the page as it was shipped may run, known by their hash: markup that a
script inserts later cannot bring its own, so a process name full of HTML does no harm.
"""

import base64
import hashlib
from collections.abc import Iterable
from html.parser import HTMLParser

__all__ = ["policy"]


def policy(page: str, sockets: Iterable[str]) -> str:
    """The header's value for the HTML text ``page``, which may open WebSockets to the origins ``sockets``."""
    inline = _Inline()
    inline.feed(page.replace("\r\n", "\n").replace("\r", "\n"))  # as a browser reads it before hashing
    inline.close()
    sources = {
        "default-src": ["'none'"],
        "script-src": ["'self'", *inline.hashes["script"]],
        "style-src": ["'self'", *inline.hashes["style"]],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'", *sockets],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{directive} {' '.join(allowed)}" for directive, allowed in sources.items())


class _Inline(HTMLParser):
    """Collects the hashes of a page's inline scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes: dict[str, list[str]] = {"script": [], "style": []}
        self._text: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._text = [] if tag in self.hashes else None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hashes and self._text:
            digest = hashlib.sha256("".join(self._text).encode()).digest()
            self.hashes[tag].append(f"'sha256-{base64.b64encode(digest).decode()}'")
        self._text = None
