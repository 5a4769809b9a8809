"""One trace an item, from its reading on the device to the answer it got: ids, spans and their way to a collector.

Both nodes make spans after the fact, from the times they measure anyway. Without `trace.endpoint` nothing here is done,
and `opentelemetry` is not even imported (`otlp` alone knows it).
"""

from fusion.tracing.identity import TraceContext, root_span_id, span_id, submit_span_id, trace_id
from fusion.tracing.settings import TraceSettings
from fusion.tracing.span import Kind, Span
from fusion.tracing.tracer import OFF, Exporter, SpanCounts, Tracer, open_tracer

__all__ = [
    "OFF",
    "Exporter",
    "Kind",
    "Span",
    "SpanCounts",
    "TraceContext",
    "TraceSettings",
    "Tracer",
    "open_tracer",
    "root_span_id",
    "span_id",
    "submit_span_id",
    "trace_id",
]
