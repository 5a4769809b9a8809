"""The headline: a handful of figures, each beside the rival or the budget it must be read against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusion.types import ItemState
from replay.report.ledger_figure import nobody_asked
from replay.report.wording import UNKNOWN, Number, count, duration, figure, interval, share, size
from replay.results.answers import verdict_accuracy
from replay.results.intervals import missed_share
from replay.results.records import Fate, RunResults


@dataclass(frozen=True, slots=True)
class Beside:
    """One bar of a tile: `part` of the tile's width, 0..1."""

    name: str
    figure: str
    part: float
    style: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its name; `tone` is `good`, `bad` or empty."""

    name: str
    figure: str
    words: str
    beside: tuple[Beside, ...] = ()
    tone: str = ""


def tiles(results: RunResults, budget_ms: float) -> list[Tile]:
    """The headline tiles of a run; a figure the summary lacks shows as a dash."""
    told = [_losses(results), _accuracy(results), _bytes(results), _latency(results, budget_ms),
            _missed(results), _items(results), _detector(results), _service(results)]  # fmt: skip
    return [*told, _device(results)] if "edge_rss_mb" in results.summary else told


def _number(results: RunResults, key: str) -> float | None:
    value = results.summary.get(key)
    return float(value) if isinstance(value, int | float) else None


def _items(results: RunResults) -> Tile:
    edge = results.edge_ledger
    reviewed = edge.items.get(ItemState.REVIEWED, 0)
    part = f", {share(reviewed / edge.item_total)}" if edge.item_total else ""
    gaps = f"{count(edge.gaps)} in gaps" if edge.gaps else "no gap"
    return Tile("Items", count(edge.item_total),
                f"in {count(edge.samples)} samples, {gaps}; {count(reviewed)} reviewed{part}")  # fmt: skip


def _losses(results: RunResults) -> Tile:
    waiting = results.edge_ledger.items.get(ItemState.PENDING, 0)
    if waiting and nobody_asked(results):
        return Tile("Waiting", count(waiting), "items to be sent; this run had no service to ask")
    lost, twice = _number(results, "lost"), _number(results, "duplicates")
    cloud = results.cloud_ledger
    waiting = results.waiting
    closed = waiting == results.edge_ledger.items.get(ItemState.PENDING, 0) and (cloud is None or cloud.closed)
    good = lost == 0 and twice == 0 and closed
    ends = f"{count(waiting)} items wait for a service, all others" if waiting else "Every item"
    words = (
        f"{ends} {'have' if waiting else 'has'} exactly one end." if good else "The ledger is not closed, see below."
    )
    if lost is None or twice is None:
        words, good = "The summary does not tell.", False
    return Tile("Lost · twice", f"{count(lost)} · {count(twice)}", words, tone="good" if good else "bad")


def _accuracy(results: RunResults) -> Tile:
    own = verdict_accuracy(results.items)
    three = (
        ("reviewer", "verdict_accuracy", own.reviewer, "reviewer"),
        ("device, fused", "verdict_accuracy_edge_fused", own.device, "device"),
        ("detector only", "verdict_accuracy_detector_only", own.detector, "detector"),
    )
    values = [(name, _told(results.summary.get(key), mine), style) for name, key, mine, style in three]
    beside = tuple(Beside(name, share(value), value, style) for name, value, style in values if value is not None)
    words = (
        f"whole verdict right, on the same {count(own.n)} reviewed items" if own.n else "no reviewed item has a truth"
    )
    return Tile("Verdict accuracy", share(values[0][1]), words, beside)


def _told(value: Number, otherwise: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else otherwise


def _bytes(results: RunResults) -> Tile:
    named = (("evidence", "evidence_bytes_p50", "edge"), ("WebP crop", "webp_crop_bytes_p50", "rival"),
             ("WebP frame", "webp_bytes_p50", "rival"), ("JPEG frame", "jpeg_bytes_p50", "rival"))  # fmt: skip
    values = [(name, _number(results, key), style) for name, key, style in named]
    evidence, jpeg = values[0][1], values[-1][1]
    words = "median of one item"
    if evidence and jpeg:
        words += f"; the JPEG frame is {jpeg / evidence:.0f} times as large" if jpeg >= 2 * evidence else ""
    return Tile("Bytes an item", size(evidence), words, _bars(values, size))


def _latency(results: RunResults, budget_ms: float) -> Tile:
    median, worst = _number(results, "edge_ms_p50"), _number(results, "edge_ms_p99")
    values = [("median", median, "edge"), ("99th percentile", worst, "edge"), ("budget", budget_ms, "rival")]
    engine = _number(results, "engine_ms_p50")
    words = "sample to decision, median" + (f"; engines {duration(engine)}" if engine is not None else "")
    tone = "" if median is None else "good" if median < budget_ms else "bad"
    return Tile("Edge time", duration(median), words, _bars(values, duration), tone)


def _missed(results: RunResults) -> Tile:
    found = missed_share(results.defects)
    if found is None:
        told = any(sample.truths is not None for sample in results.samples)
        return Tile("Defects missed", UNKNOWN, "none came into clear view" if told else "no truth to count them by")
    missed = sum(defect.fate.missed for defect in results.defects)
    sent = sum(defect.fate is Fate.SENT for defect in results.defects)
    apart = f"{share(found.value)}, interval {interval(found.low, found.high)}"
    words = f"of {count(found.n)} that came into clear view; {apart}"
    return Tile("Defects missed", count(missed), words + (f"; {count(sent)} wait for a reviewer" if sent else ""))


def _detector(results: RunResults) -> Tile:
    value = _number(results, "detector_map50")
    words = "mean average precision at IoU 0.5" if value is not None else "no truth to measure it by"
    return Tile("Detector mAP50", UNKNOWN if value is None else f"{value:.3f}", words)


def _service(results: RunResults) -> Tile:
    rate, batch = _number(results, "reviews_per_s"), _number(results, "review_batch_mean")
    words = f"{batch:.1f} items a batch on average" if batch is not None else "batch sizes unknown"
    return Tile("Reviews a second", UNKNOWN if rate is None else f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}", words)


def _device(results: RunResults) -> Tile:
    memory, start = _number(results, "edge_rss_mb"), _number(results, "edge_start_s")
    words = f"resident; ready in {duration(1000 * start)}" if start is not None else "resident"
    return Tile("Edge memory", UNKNOWN if memory is None else figure("_mb", memory), words)


def _bars(values: Sequence[tuple[str, float | None, str]], words: Callable[[float], str]) -> tuple[Beside, ...]:
    most = max((value for _, value, _ in values if value), default=0.0)
    return tuple(
        Beside(name, words(value), value / most if most else 0.0, style)
        for name, value, style in values
        if value is not None
    )
