"""What was measured, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_node.bench.measuring import Measured
from edge_node.spool import Timing

_PARTS: Mapping[str, tuple[str, Callable[[Timing], int]]] = {
    "decision": ("decoded sample to decision", lambda timing: timing.edge),
    "engine": ("  in the engines' calls", lambda timing: timing.engine),
    "beside": ("  beside them", lambda timing: timing.beside),
    "decode": ("reading and decoding, a sample", lambda timing: timing.source),
    "evidence": ("coding evidence, a sample", lambda timing: timing.evidence),
}


def summary(found: Measured, power: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """Figures by name; durations in milliseconds, None for what was not measured. `setting` is what was run."""
    told: dict[str, Any] = {**setting, "samples": len(found.timings), "gaps": found.gaps}
    told |= {"items": found.items, "sent": found.sent}
    for name, (_, part) in _PARTS.items():
        told |= _percentiles(f"{name}_ms", [part(timing) for timing in found.timings])
    told |= _percentiles("commit_ms", found.commits_ns)
    told |= {
        "samples_per_s": round(found.samples_per_s, 2),
        "cpu_share": round(found.cpu_share, 3),
        "resident_mib": round(found.resident_mib, 1),
        "resident_peak_mib": round(found.peak_mib, 1),
    }
    return told | dict(power)


def table(told: Mapping[str, Any], why_no_power: str) -> str:
    """`summary` for a person."""
    lines = [f"{'ms':<34} {'p50':>8} {'p99':>8}"]
    lines += [_row(words, told, f"{name}_ms") for name, (words, _) in _PARTS.items()]
    lines.append(_row("committing a batch to the spool", told, "commit_ms"))
    joules = told.get("joules_per_sample")
    energy = f"not measured: {why_no_power}" if joules is None else f"{joules:.3f} J by {told.get('power_source')}"
    lines += [
        "",
        f"{'samples/s, all in one thread':<34} {told['samples_per_s']:8.2f}",
        f"{'processor':<34} {told['cpu_share'] * 100:7.0f}%  of one core",
        f"{'resident memory, at most':<34} {told['resident_peak_mib']:8.0f} MiB",
        f"{'energy a sample':<34} {energy}",
        f"{'samples, items, sent':<34} {told['samples']}, {told['items']}, {told['sent']}",
    ]
    return "\n".join(lines)


def _row(words: str, told: Mapping[str, Any], name: str) -> str:
    p50, p99 = told[f"{name}_p50"], told[f"{name}_p99"]
    return f"{words:<34} {'-':>8} {'-':>8}" if p50 is None else f"{words:<34} {p50:8.2f} {p99:8.2f}"


def _percentiles(name: str, durations_ns: Sequence[int]) -> dict[str, float | None]:
    if not durations_ns:
        return {f"{name}_p50": None, f"{name}_p99": None}
    p50, p99 = np.percentile(np.array(durations_ns) / 1e6, (50, 99))
    return {f"{name}_p50": round(float(p50), 3), f"{name}_p99": round(float(p99), 3)}
