"""Refusals as HTTP answers: JSON, and nothing of the request in it that was not made harmless."""

# mypy: disallow-untyped-calls=False
# (twisted.web has few annotations)

from typing import Final

import msgspec
from twisted.web import http, resource

from pmdaemon.web.guard import Refusal

__all__ = ["NOT_FOUND", "Refused", "answer", "outright"]

NOT_FOUND: Final = Refusal(404, "NOT_FOUND", "cannot find this page", "the dashboard is at /, the WebSocket at /ws")


def answer(request: http.Request, refusal: Refusal) -> bytes:
    """Set the status and headers that go with ``refusal``; the body to send with them."""
    body = _body(refusal)
    request.setResponseCode(refusal.status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.setHeader(b"cache-control", b"no-store")
    if refusal.status == http.UNAUTHORIZED:
        request.setHeader(b"www-authenticate", b"Bearer")
    return b"" if request.method == b"HEAD" else body


def outright(refusal: Refusal) -> bytes:
    """A whole answer in bytes, to a connection on which nothing has been asked yet and nothing will be."""
    body, reason = _body(refusal), http.RESPONSES.get(refusal.status, b"Refused")
    head = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (refusal.status, reason, len(body)) + body


def _body(refusal: Refusal) -> bytes:
    content = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint}
    return msgspec.json.encode({"error": content}) + b"\n"


class Refused(resource.Resource):
    """Answers every path below it with one refusal."""

    isLeaf = True

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self._refusal = refusal

    def render(self, request: http.Request) -> bytes:
        """Called by Twisted."""
        return answer(request, self._refusal)
