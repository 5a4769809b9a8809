"""Prometheus metrics and the health of the daemon over HTTP. Names begin with `fusion_edge_`; durations are seconds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from edge_node.miss_rate import MissRate
from edge_node.spool import Record, SampleRecord
from edge_node.stamps import StampBook
from edge_node.uplink import LinkState
from fusion.errors import FusionError, UnavailableError
from fusion.http_server import QuietHandler, QuietServer

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """One registry a daemon. `observe` is called for each record, `refresh` by whoever is scraped."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        name = "fusion_edge_"
        self.samples = Counter(name + "samples", "Samples decided on", registry=registry)
        self.slots = Counter(
            name + "slots", "Samples by how they had a sensor", ["sensor", "availability"], registry=registry
        )
        self.items = Counter(name + "items", "Items by what was decided on the device", ["state"], registry=registry)
        self.reasons = Counter(name + "reasons", "Why items were to be sent", ["reason"], registry=registry)
        self.edge = Histogram(name + "decision_seconds", "Decoded sample to decision", buckets=_FAST, registry=registry)
        self.engine = Histogram(name + "engine_seconds", "The engines' part of it", buckets=_FAST, registry=registry)
        self.waiting = Gauge(name + "outbox_items", "Items without an answer", registry=registry)
        self.bytes = Gauge(name + "outbox_bytes", "Their evidence and crops", registry=registry)
        self.gaps = Gauge(name + "gaps", "Frames declared missing", registry=registry)
        self.uplink = Gauge(name + "uplink", "1 for the state the uplink is in", ["state"], registry=registry)
        self.sent = Gauge(name + "sent_items", "Submissions since the start", registry=registry)
        self.sent_bytes = Gauge(name + "sent_bytes", "Their evidence", registry=registry)
        self.verdicts = Gauge(name + "verdicts", "Answers since the start", registry=registry)
        self.offset = Gauge(name + "clock_offset_seconds", "The service's clock minus ours", registry=registry)
        self.offset_error = Gauge(name + "clock_offset_error_seconds", "Its error bar", registry=registry)
        self.missed = Gauge(
            name + "missed_defects_share", "Defects that screening misses, by the lottery", ["bound"], registry=registry
        )
        self.resident = Gauge(name + "resident_bytes", "Resident memory", registry=registry)

    def observe(self, record: Record) -> None:
        """Count one record."""
        if not isinstance(record, SampleRecord):
            return
        self.samples.inc()
        for sensor, (availability, _) in record.slots.items():
            self.slots.labels(sensor, availability.value).inc()
        self.edge.observe(record.timing.edge / 1e9)
        self.engine.observe(record.timing.engine / 1e9)
        for item in record.items:
            self.items.labels(item.state.value).inc()
            for reason in item.reasons if item.blobs else ():
                self.reasons.labels(reason.value).inc()

    def show_missed(self, rate: MissRate) -> None:
        """What the lottery tells, or nothing where it tells nothing."""
        bounds = {"estimate": rate.share, "low": rate.low, "high": rate.high}
        for bound, value in bounds.items():
            if value is not None:
                self.missed.labels(bound).set(value)

    def show_uplink(self, now: LinkState) -> None:
        """Mark the state the uplink is in."""
        for state in LinkState:
            self.uplink.labels(state.value).set(int(state is now))


class StampCollector(Collector):
    """Tells what was wrong with readings' stamps, whenever it is scraped."""

    def __init__(self, book: StampBook) -> None:
        self._book = book

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric there is now."""
        faults = CounterMetricFamily(
            "fusion_edge_stamp_faults", "Readings with a wrong stamp", labels=["sensor", "fault"]
        )
        for sensor, kinds in self._book.told().items():
            for fault, count in kinds.items():
                faults.add_metric([sensor, fault], count)
        yield faults


class MetricsServer:
    """Answers `/metrics` and `/healthz` until `close`.

    `refresh` brings the gauges up to date; `health` tells whether the daemon works, and details of it.
    """

    def __init__(
        self,
        listen: str,
        metrics: Metrics,
        refresh: Callable[[], None],
        health: Callable[[], tuple[bool, dict[str, Any]]],
    ) -> None:
        class Handler(QuietHandler):
            def get(self) -> None:
                if self.path == "/metrics":
                    try:
                        refresh()
                    except (TimeoutError, FusionError) as error:
                        self.answer(503, "text/plain", f"the spool does not answer: {error}\n".encode())
                        return
                    self.answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path == "/healthz":
                    healthy, details = health()
                    body = json.dumps({"healthy": healthy, **details}).encode()
                    self.answer(200 if healthy else 503, "application/json", body)
                else:
                    self.answer(404, "text/plain", b"/metrics or /healthz\n")

        host, _, port = listen.rpartition(":")
        try:
            self._server = QuietServer((host.strip("[]"), int(port)), Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise UnavailableError(
                f"metrics.listen: cannot listen on {listen}: {reason}; choose another address"
            ) from None
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
