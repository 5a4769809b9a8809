"""What the HTTP doors of both nodes share: short answers, and no log of who asked."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class QuietServer(ThreadingHTTPServer):
    """A thread a request; a scraper that went away is nobody's concern."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""
        del request, client_address


class QuietHandler(BaseHTTPRequestHandler):
    """Base of handlers of GET that answer with a whole body."""

    def get(self) -> None:
        """Answer for `path`."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """As http.server calls it."""
        self.get()

    def answer(self, status: int, kind: str, body: bytes) -> None:
        """Send `body`, of the content type `kind`."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 http.server's own name
        """Say nothing."""
        del format, args
