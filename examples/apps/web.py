"""A small web server on PORT: `/` greets, `/health` answers the daemon's health check."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = {"/": "Hello from a child of PMDaemon.\n", "/health": "ok\n"}


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGES.get(self.path, "Nothing here; try / or /health.\n").encode()
        self.send_response(200 if self.path in PAGES else 404)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, template: str, *values: object) -> None:
        print("info", template % values)


def close(*_: object) -> None:
    print("info closing, goodbye")
    sys.exit()


signal.signal(signal.SIGTERM, close)
port = int(os.environ.get("PORT", "8100"))
print(f"info listening on http://localhost:{port}/")
ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
