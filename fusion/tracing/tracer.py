"""Whether spans are made, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fusion.errors import ConfigError
from fusion.tracing.identity import is_sampled
from fusion.tracing.settings import TraceSettings
from fusion.tracing.span import Span


@dataclass(slots=True)
class SpanCounts:
    """What became of spans so far. `dropped` because too many waited, or the collector did not take them."""

    made: int = 0
    sent: int = 0
    dropped: int = 0


class Exporter(Protocol):
    """Takes spans to a collector, in a thread of its own."""

    counts: SpanCounts

    def emit(self, spans: Sequence[Span]) -> None:
        """Have spans sent some time; never waits and never raises. From any thread."""

    def close(self) -> None:
        """Send what waits, for a few seconds at most, and stop."""


@dataclass(slots=True)
class _Nowhere:
    """The exporter of a tracer that is off."""

    counts: SpanCounts = field(default_factory=SpanCounts)

    def emit(self, spans: Sequence[Span]) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing waits."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """`on` says whether to make spans at all; ask it, and `samples`, before any work is done for them."""

    on: bool
    ratio: float
    exporter: Exporter

    def samples(self, trace: str) -> bool:
        """Whether spans of this trace are wanted, where no other host decided."""
        return self.on and is_sampled(trace, self.ratio)


OFF = Tracer(on=False, ratio=0.0, exporter=_Nowhere())


def open_tracer(settings: TraceSettings, service: str, instance: str = "") -> Tracer:
    """The tracer that `settings` ask for, of the program `service`; `instance` tells hosts apart.

    Raises `ConfigError` when it is on and the library is not installed.
    """
    if not settings.endpoint:
        return OFF
    try:
        from fusion.tracing.otlp import OtlpExporter
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"trace.endpoint: {error.name} is not installed; install fusion-stack[trace], or leave the key out"
        ) from None
    exporter = OtlpExporter(settings.endpoint, settings.service or service, instance, settings.queue)
    return Tracer(on=True, ratio=settings.ratio, exporter=exporter)
