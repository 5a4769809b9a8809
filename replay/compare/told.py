"""A comparison as text for a terminal, and as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.types import SlotAnswer
from replay.compare.changes import Change, DefectChange, Tally
from replay.compare.comparison import Comparison
from replay.compare.statistics import Difference
from replay.results.records import ItemResult

FORMAT = 1
MAP50 = "detector_map50"
_SHOWN = 12


def lines(found: Comparison) -> Iterator[str]:
    """What a person is told, a line each."""
    pairs = len(found.matching.pairs)
    counts = {one.name: one.count for one in found.presence}
    yield f"{pairs} items in both runs, {counts['gone']} only in the first, {counts['new']} only in the second"
    yield from (f"  {one.words}\n      {one.because}" for one in found.causes)
    for one in found.fields:
        if one.count:
            yield f"  {one.name:<15} differs in {one.count} of {one.total} ({one.allowed} allowed)"
    for change in found.fates:
        yield f"  {fate_words(change)}"
    real = [one for one in found.differences if one.real]
    yield from (f"  {metric_words(one)}" for one in real[:_SHOWN])
    if len(real) > _SHOWN:
        yield f"  and {len(real) - _SHOWN} more metrics of parts"
    if maps := map50(found):
        yield f"  detector mAP50: {maps[0]:.4f} before, {maps[1]:.4f} now"
    yield "nothing is beyond tolerance" if found.agrees else f"beyond tolerance: {len(found.findings)}"
    yield from (f"  {finding}" for finding in found.findings[:_SHOWN])
    if len(found.findings) > _SHOWN:
        yield f"  and {len(found.findings) - _SHOWN} more"


def fate_words(change: DefectChange) -> str:
    """A defect's fates in a sentence."""
    told = change.defect
    was, now = ((one.fate.value if one else "not in view") for one in (change.before, change.after))
    return (
        f"defect {change.recording}/{change.name} ({told.label}, {told.condition or 'defect'}): {was} before, {now} now"
    )


def metric_words(one: Difference) -> str:
    """A metric's difference in a sentence."""
    step = one.interval
    return (
        f"{one.title} ({one.slice.name}): {one.before:.4g} before, {one.after:.4g} now, "
        f"{step.value:+.4g} [{step.low:+.4g}, {step.high:+.4g}]{'' if one.p is None else f', p {one.p:.2g}'}"
    )


def map50(found: Comparison) -> tuple[float, float] | None:
    """The detector's mAP50 of both runs, where both folders tell it."""
    both = found.before.summary.get(MAP50), found.after.summary.get(MAP50)
    return (float(both[0]), float(both[1])) if isinstance(both[0], float) and isinstance(both[1], float) else None


def write_json(found: Comparison, path: Path) -> None:
    """Write all of it, null for what is no finite number. Raises `InputError` when that cannot be done."""
    content = {
        "format": FORMAT,
        "task": found.before.results.task.name,
        "agrees": found.agrees,
        "findings": found.findings,
        "causes": [{**asdict(one), "words": one.words} for one in found.causes],
        "tolerances": found.tolerances.model_dump(mode="json"),
        "matched": len(found.matching.pairs),
        "items": [_tally(one) for one in found.presence],
        "fields": [_tally(one) for one in found.fields],
        "defects": [_tally(one) for one in found.defects],
        "fates": [_fate(one) for one in found.fates],
        "metrics": [_difference(one) for one in found.differences],
        "changes": [_change(one) for one in found.changes],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _finite(value: Any) -> Any:
    """JSON has no word for infinity."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tally(one: Tally) -> dict[str, Any]:
    return {**asdict(one), "beyond": one.beyond}


def _fate(one: DefectChange) -> dict[str, Any]:
    was, now = ((side.fate.value if side else None) for side in (one.before, one.after))
    label, condition = one.defect.label, one.defect.condition
    return {
        "recording": one.recording,
        "name": one.name,
        "label": label,
        "condition": condition,
        "before": was,
        "after": now,
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "metric": one.metric, "by": one.slice.by, "of": one.slice.value, "before": one.before, "after": one.after,
        "difference": one.interval.value, "low": one.interval.low, "high": one.interval.high, "units": one.units,
        "p": one.p, "excludes_zero": one.interval.excludes_zero, "real": one.real, "worse": one.worse,
    }  # fmt: skip


def _change(one: Change) -> dict[str, Any]:
    return {
        "recording": one.recording,
        "time_ns": one.item.time_ns,
        "kinds": one.kinds,
        "turned": one.turned,
        "before": _item(one.before),
        "after": _item(one.after),
        "fields": [asdict(field) for field in one.fields],
    }


def _item(item: ItemResult | None) -> dict[str, Any] | None:
    if item is None:
        return None
    verdict: dict[str, SlotAnswer] = dict(item.verdict)
    return {
        "id": item.id, "track": item.track, "label": item.label, "score": item.score, "state": item.state.value,
        "box": [item.box.x1, item.box.y1, item.box.x2, item.box.y2],
        "verdict": {name: slot.option for name, slot in verdict.items()},
    }  # fmt: skip
