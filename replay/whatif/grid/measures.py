"""The figures of one variant of a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fusion.evaluation.proportion import Proportion
from fusion.types import ItemState
from replay.results import answers
from replay.results.records import Fate, ItemResult, Number, RunResults
from replay.whatif.grid.records import GridRow

ARRIVED = frozenset({ItemState.REVIEWED, ItemState.QUARANTINED})
"""Items whose evidence reached the service."""


def row_of(results: RunResults, name: str, about: str, digest: str, about_none: Sequence[str] = ()) -> GridRow:
    """The row of a variant, still beside no other; keys `about_none` are common to all and left out of its settings."""
    summary = results.summary
    fates = Counter(defect.fate for defect in results.defects)
    total, accurate = fates.total(), answers.verdict_accuracy(results.items)
    missed = Proportion.exact(sum(defect.fate.missed for defect in results.defects), total) if total else None
    right = None
    if accurate.reviewer is not None:
        right = Proportion.exact(round(accurate.reviewer * accurate.n), accurate.n)
    sent = sum(map(bytes_sent, results.items))
    seconds = summary.get("seconds")
    figures: dict[str, Number] = {
        "missed_share": missed.value if missed else None,
        **{key: summary.get(key) for key in ("defects", "defects_missed", "defects_dismissed")},
        "bytes_sent": sent,
        "bytes_per_s": round(sent / seconds, 1) if isinstance(seconds, int | float) and seconds else None,
        "evidence_bytes_p50": summary.get("evidence_bytes_p50"),
        "reviews": summary.get("reviewed"),
        **{key: summary.get(key) for key in ("items", "shed", "expired")},
        "verdict_accuracy": right.value if right else None,
        **{key: summary.get(key) for key in ("verdict_accuracy_n", "detector_map50", "edge_ms_p50", "edge_ms_p99")},
    }
    settings = {key: value for key, value in results.settings.items() if key not in about_none}
    return GridRow(name, about, settings, digest, figures, missed, right, _counted(fates))


def bytes_sent(item: ItemResult) -> int:
    """What of an item reached the service: its evidence, and pixels where it asked for them."""
    return item.evidence_bytes + item.crop_bytes if item.state in ARRIVED else 0


def _counted(fates: Mapping[Fate, int]) -> dict[Fate, int]:
    return {fate: fates[fate] for fate in Fate if fates[fate]}
