"""HTTP beside the service: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever starts and routes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from contextlib import contextmanager
from typing import Protocol, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST

from fusion.errors import UnavailableError
from fusion.http_server import QuietHandler, QuietServer

ANSWER_S = 2.0
"""How long the event loop may take to answer before it counts as dead."""

_T = TypeVar("_T")


class Probed(Protocol):
    """What is asked. `why_...` are empty when all is well; all but `render` are called on the event loop."""

    def why_not_live(self) -> str:
        """What is broken for good, so that only a new start helps."""

    def why_not_ready(self) -> str:
        """Why nothing should be sent here now."""

    def render(self) -> bytes:
        """All metrics, as Prometheus reads them."""


@contextmanager
def probes(address: str, probed: Probed) -> Iterator[int]:
    """Answer HTTP on `address` (HOST:PORT, port 0 for any) and give the port; nothing and 0 when it is empty.

    To be entered on the event loop. Raises `UnavailableError` when the port is in use.
    """
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")
    try:
        server = QuietServer((host.strip("[]"), int(port)), _handler(probed, asyncio.get_running_loop()))
    except (OSError, OverflowError, UnicodeError) as error:
        raise UnavailableError(f"cannot serve metrics on {address}: {error}") from None
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(probed: Probed, loop: asyncio.AbstractEventLoop) -> type[QuietHandler]:
    class Handler(QuietHandler):
        def get(self) -> None:
            if self.path == "/metrics":
                self.answer(200, CONTENT_TYPE_LATEST, _metrics(probed, loop))
            elif self.path == "/livez":
                self._say("live", _reason(probed.why_not_live, loop))
            elif self.path == "/readyz":
                self._say("ready", _reason(probed.why_not_ready, loop))
            else:
                self.answer(404, "text/plain", b"/metrics, /livez or /readyz\n")

        def _say(self, name: str, reason: str) -> None:
            body = json.dumps({name: not reason, "reason": reason}).encode()
            self.answer(503 if reason else 200, "application/json", body)

    return Handler


def _reason(why: Callable[[], str], loop: asyncio.AbstractEventLoop) -> str:
    try:
        return _on_loop(why, loop)
    except (LateError, RuntimeError):
        return "the event loop does not answer"


def _metrics(probed: Probed, loop: asyncio.AbstractEventLoop) -> bytes:
    """Read on the event loop, between two steps of the pipeline, so that the books add up; else as they stand."""
    try:
        return _on_loop(probed.render, loop)
    except (LateError, RuntimeError):
        return probed.render()


def _on_loop(ask: Callable[[], _T], loop: asyncio.AbstractEventLoop) -> _T:
    answered: Future[_T] = Future()

    def answer() -> None:
        try:
            answered.set_result(ask())
        except Exception as error:  # noqa: BLE001 handed on to whoever asks
            answered.set_exception(error)

    loop.call_soon_threadsafe(answer)
    return answered.result(ANSWER_S)
