"""What both nodes' configurations say of traces."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from fusion.config import MAX_PORT, Settings


def _url_or_none(value: str) -> str:
    try:
        parts = urlsplit(value)
        sound = not value or (parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
    except ValueError:  # of the port, or of half an IPv6 address
        sound = False
    if not sound or any(letter.isspace() for letter in value):
        raise ValueError(f"give http://HOST:PORT or https://HOST:PORT, the port from 1 to {MAX_PORT}")
    return value


class TraceSettings(Settings):
    """Where spans go, by OTLP over HTTP. An empty `endpoint` is off: nothing is made and nothing sent.

    `ratio` is the share of items that are traced, chosen by trace id on the device; the service does what a device that
    traces decided, and decides by its own `ratio` for the others. `queue` spans may wait for the collector; what comes
    beyond them is dropped and counted.
    """

    endpoint: Annotated[str, AfterValidator(_url_or_none)] = Field(
        default="", description="http://HOST:4318; empty is off"
    )
    ratio: float = Field(default=1.0, ge=0, le=1, description="share of items that are traced")
    service: str = Field(default="", max_length=64, description="the node's service.name; empty is the program's name")
    queue: int = Field(default=4096, ge=1, le=1 << 20, description="spans that may wait for the collector")
