"""What became of spans, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from fusion.tracing.tracer import SpanCounts


class SpanCollector(Collector):
    """Tells `counts` whenever it is scraped; names begin with `prefix`."""

    def __init__(self, prefix: str, counts: SpanCounts) -> None:
        self._name, self._counts = prefix + "trace_spans", counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric there is now."""
        spans = CounterMetricFamily(self._name, "Spans by what became of them; the rest waits", labels=["end"])
        spans.add_metric(["sent"], self._counts.sent)
        spans.add_metric(["dropped"], self._counts.dropped)
        yield spans
