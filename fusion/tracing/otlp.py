"""Spans to an OpenTelemetry collector by OTLP over HTTP: the one module that knows the library.

The library's batch processor gathers and sends. It drops silently when its queue is full, so what is handed to it is
counted and never more than it holds. A collector that is away costs the spans of that time and one line in the log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fusion.tracing.span import Kind, Span
from fusion.tracing.tracer import SpanCounts

BATCH = 512
DELAY_MS = 1000
TIMEOUT_S = 5.0
"""For one batch, tries again included."""
CLOSE_S = 1.5
"""For what waits at the end, and again for a try that is under way."""
_KINDS = {Kind.INTERNAL: SpanKind.INTERNAL, Kind.CLIENT: SpanKind.CLIENT, Kind.SERVER: SpanKind.SERVER}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("fusion-stack")
_log = logging.getLogger(__name__)


class _Done(Protocol):
    def __call__(self, spans: int, *, taken: bool, news: bool) -> None: ...


class OtlpExporter:
    """Sends spans of `service` to `endpoint` (its path is `/v1/traces` where it has none). Implements `Exporter`."""

    def __init__(self, endpoint: str, service: str, instance: str, queue: int) -> None:
        self.counts = SpanCounts()
        self._most, self._endpoint = queue, endpoint
        self._lock = threading.Lock()
        self._held = 0
        who = {"service.name": service, "service.namespace": "fusion-stack", "service.instance.id": instance}
        self._resource = Resource({key: value for key, value in who.items() if value})
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # each failed batch would be a line of its own
        self._counted = _Counted(OTLPSpanExporter(_traces_url(endpoint), timeout=TIMEOUT_S), self._done)
        self._processor = BatchSpanProcessor(
            self._counted, max_queue_size=queue, schedule_delay_millis=DELAY_MS, max_export_batch_size=min(BATCH, queue)
        )

    def emit(self, spans: Sequence[Span]) -> None:
        """See `Exporter.emit`."""
        for span in spans:
            with self._lock:
                self.counts.made += 1
                room = self._held < self._most
                if room:
                    self._held += 1
                else:
                    self.counts.dropped += 1
            if room:
                self._processor.on_end(_readable(span, self._resource))

    def close(self) -> None:
        """See `Exporter.close`."""
        self._counted.closing = True
        closing = threading.Thread(target=self._processor.shutdown, name="trace-close", daemon=True)
        closing.start()
        closing.join(0.0 if self._counted.fails else CLOSE_S)
        if closing.is_alive():
            self._counted.shutdown()  # ends what it tries again
            closing.join(CLOSE_S)
        with self._lock:
            self.counts.dropped, self._held = self.counts.dropped + self._held, 0
            counts = self.counts
        if counts.dropped:
            _log.warning("trace: %d of %d spans were dropped", counts.dropped, counts.made)

    def _done(self, spans: int, *, taken: bool, news: bool) -> None:
        with self._lock:
            spans = min(spans, self._held)
            self._held -= spans
            if taken:
                self.counts.sent += spans
            else:
                self.counts.dropped += spans
        if news and taken:
            _log.info("trace: %s takes spans; %d were dropped so far", self._endpoint, self.counts.dropped)
        elif news:
            _log.warning("trace: %s takes no spans; they are dropped, all else goes on", self._endpoint)


class _Counted(SpanExporter):
    """Tells `done` what became of each batch, and whether that is news. Once `closing`, one failure is the last try."""

    def __init__(self, exporter: SpanExporter, done: _Done) -> None:
        self.closing = False
        self._exporter = exporter
        self._tell = done
        self._took: bool | None = None

    @property
    def fails(self) -> bool:
        """Whether the collector took nothing the last time."""
        return self._took is False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE if self.closing and self.fails else self._try(spans)
        taken = result is SpanExportResult.SUCCESS
        news, self._took = taken is not self._took, taken
        self._tell(len(spans), taken=taken, news=news)
        return result

    def _try(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            return self._exporter.export(spans)
        except Exception:  # noqa: BLE001 whatever a collector does to the library, it is only spans
            return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _traces_url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(path="/v1/traces")) if parts.path in {"", "/"} else endpoint


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    trace = int(span.trace, 16)
    parent = SpanContext(trace, int(span.parent, 16), is_remote=True, trace_flags=_SAMPLED) if span.parent else None
    return ReadableSpan(
        span.name,
        context=SpanContext(trace, int(span.id, 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=max(span.start_ns, span.end_ns),
        instrumentation_scope=_SCOPE,
    )
