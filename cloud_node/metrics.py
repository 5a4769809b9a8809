"""What Prometheus may read. Names begin with `fusion_cloud_`; durations are seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from fusion.errors import UnavailableError

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 65536)


class Metrics:
    """One registry a service, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        name = "fusion_cloud_"
        self.items = Counter(name + "items", "Items with a final state", ["task", "state"], registry=registry)
        self.refusals = Counter(name + "refusals", "Retriable refusals", ["reason"], registry=registry)
        self.repeats = Counter(name + "repeats", "Submissions answered from the ledger", registry=registry)
        self.conflicts = Counter(
            name + "conflicts", "Of those, how many came with other evidence than the stored", registry=registry
        )
        self.pixels = Counter(
            name + "pixel_requests", "Pictures asked for, and what came", ["answer"], registry=registry
        )
        self.queue_items = Gauge(name + "queue_items", "Items that wait for a review or are in one", registry=registry)
        self.queue_tokens = Gauge(name + "queue_tokens", "Their cost", registry=registry)
        self.open_items = Gauge(name + "open_items", "Items without an answer", registry=registry)
        self.batch_items = Histogram(name + "batch_items", "Rows a batch", buckets=_SIZES, registry=registry)
        self.batch_tokens = Histogram(name + "batch_tokens", "Cost a batch", buckets=_TOKENS, registry=registry)
        self.review_seconds = Histogram(
            name + "review_seconds", "Preparing and scoring a batch", ["task"], buckets=_FAST, registry=registry
        )
        self.answer_seconds = Histogram(
            name + "answer_seconds", "Receipt to stored answer", buckets=_FAST, registry=registry
        )
        self.commit_seconds = Histogram(name + "commit_seconds", "One ledger commit", buckets=_FAST, registry=registry)
        self.commit_rows = Histogram(name + "commit_rows", "Rows a commit", buckets=_SIZES, registry=registry)
        self.streams = Gauge(name + "streams", "Devices connected", registry=registry)
        self.stream_ends = Counter(name + "stream_ends", "Streams by how they ended", ["how"], registry=registry)
        self.healthy = Gauge(name + "healthy", "1 while the pipeline works", registry=registry)

    @contextmanager
    def served(self, address: str) -> Iterator[int]:
        """Answer HTTP on `address` (HOST:PORT, port 0 for any) and give the port; nothing and 0 when it is empty.

        Raises `UnavailableError` when the port is in use.
        """
        if not address:
            yield 0
            return
        host, _, port = address.rpartition(":")
        try:
            server, _ = start_http_server(int(port), addr=host, registry=self.registry)
        except (OSError, OverflowError) as error:
            raise UnavailableError(f"cannot serve metrics on {address}: {error}") from None
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
