"""What `cloud.toml` may say. Relative paths are taken from the working directory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from cloud_node.console.settings import ConsoleSettings
from fusion.config import LONGEST_S, HostPort, HostPortOrNone, Seconds, Settings, SomeSeconds
from fusion.tracing import TraceSettings
from fusion.wire.channel import ServerTls


class QueueSettings(Settings):
    """How much may wait. Beyond it the service answers RESOURCE_EXHAUSTED with a retry delay."""

    items: int = Field(default=1024, ge=1, description="items waiting for a review, all devices together")
    tokens: int = Field(default=131_072, ge=1, description="their cost in tokens")
    window: int = Field(default=64, ge=1, description="submissions of one device without an answer")
    thin: bool = Field(default=True, description="as it fills, read less of each item before any is refused")


class BatchSettings(Settings):
    """How batches are formed."""

    items: int = Field(default=64, ge=1, description="rows of a batch at most")
    tokens: int = Field(default=8192, ge=1, description="cost of a batch at most; no item may cost more")
    max_delay_ms: float = Field(
        default=4.0, ge=0, le=LONGEST_S, description="how long the oldest item may wait for company"
    )


class ReviewSettings(Settings):
    """What is done with an uncertain answer."""

    confidence_floor: float = Field(default=0.6, ge=0, le=1, description="below it, in any slot, pixels are asked for")
    pixel_timeout_ms: int = Field(default=3000, ge=0, description="how long to wait for them; 0 never asks")
    rationale: Literal["never", "uncertain", "always"] = Field(
        default="never", description="of which verdicts the reviewer writes why, where it can and nothing else waits"
    )
    rationale_tokens: int = Field(default=48, ge=1, le=256, description="of a rationale at most")
    rationale_wait_ms: int = Field(default=5000, ge=0, description="how long a verdict may wait for its rationale")


class CloudSettings(Settings):
    """The whole file."""

    listen: HostPort = Field(default="127.0.0.1:7447", description="HOST:PORT; port 0 takes any")
    reviewers: tuple[str, ...] = Field(
        default=("mini:yard", "mini:pcb"), min_length=1, description="SCHEME:ARGUMENT each; a task may have several"
    )
    ledger: str = Field(
        default="ledger.db",
        min_length=1,
        description="a file for SQLite, postgresql://user:password@host/database, or SCHEME:ARGUMENT of a sink",
    )
    keep_evidence: bool = Field(
        default=True, description="keep what was sent beside the answer, for audit and training"
    )
    metrics: HostPortOrNone = Field(default="", description="HOST:PORT of Prometheus metrics; empty for none")
    warm_up: bool = Field(default=True, description="review made-up items before the first real ones")
    threads: int = Field(default=2, ge=1, description="threads of the model's arithmetic")
    max_streams: int = Field(default=256, ge=1, description="devices connected at once")
    drain_seconds: Seconds = Field(default=20.0, description="how long SIGTERM waits for what is in flight")
    stall_seconds: SomeSeconds = Field(
        default=60.0, description="a batch that takes longer makes the service unhealthy"
    )
    log_level: str = Field(default="warning", pattern="^(debug|info|warning|error)$")
    log_format: str = Field(default="text", pattern="^(text|json)$", description="json is one object a line")
    tls: ServerTls | None = Field(default=None, description="certificate, key, client_ca; without it plain text")
    queue: QueueSettings = QueueSettings()
    batch: BatchSettings = BatchSettings()
    review: ReviewSettings = ReviewSettings()
    trace: TraceSettings = TraceSettings()
    console: ConsoleSettings = ConsoleSettings()

    @model_validator(mode="after")
    def _fits(self) -> CloudSettings:
        if self.queue.tokens < self.batch.tokens:
            raise ValueError(f"queue.tokens {self.queue.tokens} is less than batch.tokens {self.batch.tokens}")
        return self
