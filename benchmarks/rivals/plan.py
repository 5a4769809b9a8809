"""What the load-generating process is asked to do, and what it tells; both cross as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fusion.config import Settings


class Plan(Settings):
    """A run against one server.

    `protocol` is our gRPC stream, or HTTP to the URL `address`: the evidence as a body of `bytes`, or within `json`.
    `pattern` is open-loop arrivals (`poisson`: `rate_s` of all devices together; `periodic`: of each device), or
    `closed`: `window` items are always unanswered, for the most a server can do. `blobs` is a file of serialised
    evidence, a hexadecimal line each, which devices send in turn under ids of their own.
    """

    protocol: Literal["stream", "bytes", "json"]
    address: str
    blobs: str
    devices: int = Field(ge=1)
    seconds: float = Field(gt=0)
    pattern: Literal["poisson", "periodic", "closed"] = "poisson"
    rate_s: float = 0.0
    window: int = 0
    hot_share: float = Field(default=0.0, ge=0, lt=1)
    deadline_s: float | None = None
    margin_s: float = Field(default=0.0, ge=0)
    grace_s: float = Field(default=1.0, ge=0)
    warm_s: float = Field(default=0.0, ge=0)
    seed: int = 0


class Told(Settings):
    """What came of it. A row of `fates` has a device, a sequence, due and told seconds (None) and an `End`.

    `lag_ms` is the worst delay of a sending behind its due moment: large, it says that the generator was the limit.
    """

    epoch: str
    fates: tuple[tuple[int, int, float, float | None, str], ...]
    lag_ms: float
