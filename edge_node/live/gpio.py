"""Triggers by a GPIO line of Linux: `gpio:///dev/gpiochip0/17?edge=rising&debounce_ms=5`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from edge_node.live.drivers import WAIT_S, library, query, shown
from fusion.errors import ConfigError, SensorError

EDGES = ("rising", "falling", "both")
BIASES = ("as-is", "disabled", "pull-up", "pull-down")
MAX_DEBOUNCE_MS = 1_000.0
_HELD = 256
"""Edges that the kernel keeps for a reader that is busy."""


class GpioTrigger:
    """Each edge is a part, at the kernel's time of it."""

    def __init__(self, url: str, now_ns: Callable[[], int], request: Any) -> None:
        self._url, self._now_ns, self._request, self._closed = url, now_ns, request, threading.Event()

    @classmethod
    def open(cls, url: str, now_ns: Callable[[], int]) -> Self:
        """Ask the kernel for the line's edges. Raises `SensorError` where there is no such line, or it is taken."""
        (chip, line), wanted = _place(url), _wanted(url)
        gpiod = library("gpiod", url)
        settings = gpiod.LineSettings(
            edge_detection=gpiod.line.Edge[wanted["edge"].upper()],
            bias=gpiod.line.Bias[wanted["bias"].upper().replace("-", "_")],
            debounce_period=timedelta(milliseconds=float(wanted["debounce_ms"])),
            event_clock=gpiod.line.Clock.MONOTONIC,
        )
        try:
            request = gpiod.request_lines(
                chip, consumer="fusion-stack", config={line: settings}, event_buffer_size=_HELD
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SensorError(f"{shown(url)}: cannot be opened ({reason.lower()})") from None
        return cls(url, now_ns, request)

    def events(self) -> Iterator[int]:
        """See `Trigger`; it is this that lets go of the line."""
        with self._request:
            while not self._closed.is_set():
                for stamp_ns in self._edges():
                    yield self._now_ns() - (time.monotonic_ns() - stamp_ns)

    def close(self) -> None:
        """See `Trigger`."""
        self._closed.set()

    def _edges(self) -> list[int]:
        """When edges were seen, by the kernel's monotonic clock."""
        try:
            if not self._request.wait_edge_events(WAIT_S):
                return []
            return [int(event.timestamp_ns) for event in self._request.read_edge_events()]
        except OSError as error:
            reason = error.strerror or str(error)
            raise SensorError(f"{shown(self._url)}: broke off ({reason.lower()})") from None


def _place(url: str) -> tuple[str, int | str]:
    """The chip's path, and the line's number or name on it."""
    parts = urlsplit(url)
    chip, _, line = unquote(parts.path).rpartition("/")
    if parts.netloc or not chip.strip("/") or not line:
        raise ConfigError(f"{shown(url)}: give gpio:///dev/CHIP/LINE, such as gpio:///dev/gpiochip0/17")
    return chip, int(line) if line.isdecimal() else line


def _wanted(url: str) -> dict[str, str]:
    defaults = {"edge": "rising", "bias": "as-is", "debounce_ms": "0"}
    wanted = defaults | query(url, (*defaults,))
    for key, known in (("edge", EDGES), ("bias", BIASES)):
        if wanted[key] not in known:
            raise ConfigError(f"{shown(url)}: {key} {wanted[key]!r} is not known; known: {', '.join(known)}")
    try:
        right = 0 <= float(wanted["debounce_ms"]) <= MAX_DEBOUNCE_MS
    except ValueError:
        right = False
    if not right:
        raise ConfigError(f"{shown(url)}: debounce_ms {wanted['debounce_ms']!r}: give 0 to {MAX_DEBOUNCE_MS:g}")
    return wanted
