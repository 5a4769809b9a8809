"""The report's histograms: time on the device, bytes on the link, the wait for a verdict, batch sizes."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from replay.report.plots import Mark, Series, counted, histogram
from replay.report.wording import duration, size, tick_duration, tick_size
from replay.results.records import RunResults


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its heading and a sentence that says how to read it."""

    title: str
    words: str
    drawing: Markup


def measurements(results: RunResults, budget_ms: float) -> list[Plot]:
    """The plots there are values for; the first two always."""
    plots = [_device_time(results, budget_ms), _evidence(results)]
    waits = [item.verdict_latency_ms for item in results.items if item.verdict and item.verdict_latency_ms > 0]
    if waits:
        series = [Series("verdict", waits, "reviewer")]
        drawing = histogram("time from evidence to verdict", series, [], duration, tick_duration, log=True)
        plots.append(
            Plot("Evidence to verdict", "From leaving the pipeline to the stored verdict, logarithmic.", drawing)
        )
    if results.batch_sizes:
        drawing = counted("items a batch", results.batch_sizes, "reviewer")
        plots.append(Plot("Batches", "Items the reviewer read in one forward pass.", drawing))
    return plots


def _device_time(results: RunResults, budget_ms: float) -> Plot:
    series = [
        Series("decision", [sample.edge_ms for sample in results.samples], "edge"),
        Series("engine calls", [sample.engine_ms for sample in results.samples], "engine"),
    ]
    drawing = histogram(
        "time on the device a sample", series, [Mark("budget", budget_ms, "budget")], duration, tick_duration
    )
    words = "From the decoded sample to the decision, and the engine calls within it."
    return Plot("Time on the device", words, drawing)


def _evidence(results: RunResults) -> Plot:
    sent = [float(item.evidence_bytes) for item in results.items if item.evidence_bytes]
    marks = []
    for name, key, style in (
        ("evidence", "evidence_bytes_p50", "edge"),
        ("WebP crop", "webp_crop_bytes_p50", "rival"),
        ("WebP frame", "webp_bytes_p50", "rival"),
        ("JPEG frame", "jpeg_bytes_p50", "rival"),
    ):
        value = results.summary.get(key)
        if isinstance(value, int | float) and value > 0:
            marks.append(Mark(name, float(value), style))
    series = [Series("evidence", sent, "edge")]
    drawing = histogram("bytes of evidence an item", series, marks, size, tick_size, log=True)
    return Plot(
        "Bytes of evidence",
        "What one item weighs on the link, with its median and those of pictures, logarithmic.",
        drawing,
    )
