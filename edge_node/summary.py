"""What a run came to, from the spool's own books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_node.spool import Spool
from fusion.types import ItemState

_DURATIONS = ("source", "edge", "engine", "beside", "evidence", "wait", "commit")
_DURATION_QUERY = (
    "SELECT source_ns, edge_ns, engine_ns, beside_ns, evidence_ns, wait_ns, commit_ns FROM samples "
    "WHERE commit_ns IS NOT NULL"
)
_SIZES = ("evidence_bytes", "maps_bytes", "tokens_bytes", "crop_bytes")
_SIZE_QUERY = "SELECT evidence_bytes, maps_bytes, tokens_bytes, crop_bytes FROM items WHERE evidence_bytes > 0"


def spool_summary(spool: Spool) -> dict[str, Any]:
    """Counts, percentiles of durations in milliseconds (`edge_ms_p50`) and of sizes (`evidence_bytes_p50`)."""
    counts = spool.counts()
    found: dict[str, Any] = {"device": spool.device, "task": spool.task, "epoch": spool.epoch}
    found |= {"samples": counts.samples, "gaps": counts.gaps, "items": counts.item_total}
    found |= {state.value: counts.items.get(state, 0) for state in ItemState}
    reasons = [text.split(",") for (text,) in spool.query("SELECT reasons FROM items WHERE evidence_bytes > 0")]
    found["reasons"] = {name: sum(name in each for each in reasons) for name in sorted({r for e in reasons for r in e})}
    rows = np.array(spool.query(_DURATION_QUERY), np.float64)
    for index, name in enumerate(_DURATIONS):
        found |= _percentiles(f"{name}_ms", rows[:, index] / 1e6 if len(rows) else [], (50, 99))
    sizes = np.array(spool.query(_SIZE_QUERY), np.float64)
    for index, name in enumerate(_SIZES):
        found |= _percentiles(name, sizes[:, index] if len(sizes) else [], (50, 95))
    return found


def _percentiles(name: str, values: Sequence[float] | np.ndarray[Any, Any], wanted: tuple[int, ...]) -> dict[str, Any]:
    """`name_p50` and so on; None where nothing was measured."""
    if not len(values):
        return {f"{name}_p{p}": None for p in wanted}
    return {f"{name}_p{p}": round(float(np.percentile(values, p)), 3) for p in wanted}
