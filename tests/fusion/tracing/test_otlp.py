"""Spans to a collector that is there, is slow, is away, or was never asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fusion.errors import ConfigError
from fusion.tracing import OFF, Kind, Span, TraceSettings, open_tracer

from ...otlp import collecting
from ...ports import free_address

TRACE = "0af7651916cd43dd8448eb211c80319c"


def spans(count: int) -> list[Span]:
    return [Span(f"s{n}", TRACE, f"{n:016x}", "", 1000 * n, 1000 * n + 5) for n in range(1, count + 1)]


def test_spans_arrive_as_they_were_made():
    child = Span("a", TRACE, "00000000000000aa", "00000000000000bb", 5, 9, {"n": 3, "l": ["x", "y"]}, Kind.SERVER, "oh")
    with collecting() as collector:
        tracer = open_tracer(TraceSettings(endpoint=collector.endpoint), "edge-node", "cart-1")
        tracer.exporter.emit([child, *spans(1)])
        tracer.exporter.close()
        (seen, other) = collector.spans
    assert (seen.service, seen.name, seen.trace, seen.id, seen.parent) == (
        "edge-node",
        "a",
        TRACE,
        child.id,
        child.parent,
    )
    assert (seen.start_ns, seen.end_ns, seen.attributes, seen.error) == (5, 9, {"n": 3, "l": ["x", "y"]}, "oh")
    assert (seen.kind, other.kind, other.parent) == (2, 1, "")
    assert (tracer.exporter.counts.sent, tracer.exporter.counts.dropped) == (2, 0)


@pytest.mark.parametrize("many", [10, 3000])
def test_a_collector_that_is_away_costs_a_counted_drop_and_one_line(many, caplog):
    tracer = open_tracer(TraceSettings(endpoint=f"http://{free_address()}", queue=1000), "edge-node")
    tracer.exporter.emit(spans(many))
    tracer.exporter.close()
    counts = tracer.exporter.counts
    assert (counts.made, counts.sent, counts.dropped) == (many, 0, many)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in told if "takes no spans" in line]) == 1
    assert len([line for line in told if line == f"trace: {many} of {many} spans were dropped"]) == 1
    assert all(record.name.startswith("fusion.") for record in caplog.records if record.levelname == "WARNING")


def test_off_is_the_default_and_imports_nothing():
    assert open_tracer(TraceSettings(), "edge-node") is OFF
    assert not OFF.samples(TRACE)
    script = "import sys, edge_node.daemon, edge_node.compose, cloud_node.server; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_on_without_the_extra_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "fusion.tracing.otlp", raising=False)
    with pytest.raises(ConfigError, match=r"opentelemetry\S* is not installed; install fusion-stack\[trace\]"):
        open_tracer(TraceSettings(endpoint="http://localhost:4318"), "edge-node")
