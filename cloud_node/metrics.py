"""What Prometheus may read. Names begin with `fusion_cloud_`; durations are seconds."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fusion.types import KeptLanes

ENDS = ("reviewed", "quarantined", "expired", "shed", "refused", "repeated", "gone")
"""How a submission ends: by its item's final state; `shed` for want of room, `refused` for now for another reason;
`repeated` on a stream that waits for the very item; `gone` when its stream or call ended first."""

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
        self.context = Counter(
            name + "context_lanes", "What came for people beside pictures; refused: unreadable or too much",
            ["lane"], registry=registry,
        )  # fmt: skip
        self.submissions = Counter(name + "submissions", "Submissions received", registry=registry)
        self.ends = Counter(name + "submission_ends", "How submissions ended", ["end"], registry=registry)
        for end in ENDS:
            self.ends.labels(end)
        self.submissions_open = Gauge(name + "submissions_open", "Submissions without an end", registry=registry)
        self.books_open = Gauge(
            name + "books_open", "Received less ended less open submissions; not 0 is a defect", registry=registry
        )
        self.queue_items = Gauge(name + "queue_items", "Items that wait for a review or are in one", registry=registry)
        self.queue_tokens = Gauge(name + "queue_tokens", "Their cost", registry=registry)
        self.rationales = Counter(
            name + "rationales", "Rationales wanted, and what became of them", ["how"], registry=registry
        )
        self.thinned = Counter(
            name + "thinned_items", "Reviews by what was left out for want of time", ["level"], registry=registry
        )
        self.open_items = Gauge(name + "open_items", "Items without an answer", registry=registry)
        self.batch_items = Histogram(name + "batch_items", "Rows a batch", buckets=_SIZES, registry=registry)
        self.batch_tokens = Histogram(name + "batch_tokens", "Cost a batch", buckets=_TOKENS, registry=registry)
        self.review_seconds = Histogram(
            name + "review_seconds", "Preparing and scoring a batch", ["task"], buckets=_FAST, registry=registry
        )
        self.replicas = Gauge(name + "replicas", "Replicas that can score", ["reviewer"], registry=registry)
        self.batches_open = Gauge(name + "batches_open", "Batches being scored", ["reviewer"], registry=registry)
        self.answer_seconds = Histogram(
            name + "answer_seconds", "Receipt to stored answer", buckets=_FAST, registry=registry
        )
        self.commit_seconds = Histogram(name + "commit_seconds", "One ledger commit", buckets=_FAST, registry=registry)
        self.commit_rows = Histogram(name + "commit_rows", "Rows a commit", buckets=_SIZES, registry=registry)
        self.streams = Gauge(name + "streams", "Devices connected", registry=registry)
        self.devices_telling = Gauge(name + "devices_telling", "Of them, how many tell how they are", registry=registry)
        self.device_lag = Gauge(
            name + "device_lag_seconds_max", "The longest wait for an answer that any of them tells", registry=registry
        )
        self.stream_ends = Counter(name + "stream_ends", "Streams by how they ended", ["how"], registry=registry)
        self.healthy = Gauge(name + "healthy", "1 while the pipeline works", registry=registry)

    def count_context(self, asked: KeptLanes, refused: int) -> None:
        """Count what is kept of an answer, and how many of its lanes are not."""
        for lane in ("points", "sound"):
            self.context.labels(lane).inc(getattr(asked, lane) is not None)
        self.context.labels("refused").inc(refused)

    def show_books(self, open_submissions: int) -> None:
        """Compare what was received with what ended and what is open, counted by whoever holds it."""
        self.submissions_open.set(open_submissions)
        self.books_open.set(_total(self.submissions) - _total(self.ends) - open_submissions)

    def render(self) -> bytes:
        """Everything in Prometheus's text form."""
        return generate_latest(self.registry)


def _total(counter: Counter) -> float:
    return sum(one.value for metric in counter.collect() for one in metric.samples if one.name.endswith("_total"))
