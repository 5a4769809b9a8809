"""What is printed of a run at its end."""

from __future__ import annotations

from collections.abc import Mapping

_HEADLINES = (
    ("damaged", "recordings of which only what is sound was run"),
    ("samples", "samples"),
    ("items", "items"),
    ("reviewed", "reviewed"),
    ("waiting", "waiting for a service"),
    ("lost", "lost"),
    ("duplicates", "duplicates"),
    ("edge_ms_p50", "edge, ms (median)"),
    ("edge_ms_p99", "edge, ms (p99)"),
    ("evidence_bytes_p50", "evidence, bytes an item (median)"),
    ("defects", "defects that came into view"),
    ("defects_missed", "of which missed"),
    ("detector_map50", "detector mAP50"),
    ("verdict_accuracy_n", "escalated items with truth"),
    ("verdict_accuracy", "all slots right: reviewer"),
    ("verdict_accuracy_edge_fused", "all slots right: device, fused"),
    ("verdict_accuracy_detector_only", "all slots right: detector only"),
)
_LIVE_HEADLINES = (
    ("lag_ms_p50", "behind the pace, ms (median)"),
    ("lag_ms_p99", "behind the pace, ms (p99)"),
    ("behind_pace", "frames taken too late"),
    ("would_drop", "frames a live sensor would lose"),
    ("gap_reasons", "frames in gaps, by reason"),
)


def tell(summary: Mapping[str, float | int | str | None]) -> None:
    """Print the headline figures of `summary.json`."""
    from replay.whatif.figures import told

    live = tuple((name, text) for name, text in _LIVE_HEADLINES if name in summary)
    lines = (*_HEADLINES, *live, *told(summary))
    width = max(len(text) for _, text in lines)
    for name, text in lines:
        value = summary.get(name)
        shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        print(f"{text:<{width}}  {shown}")
