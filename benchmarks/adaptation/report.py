"""The table of `benchmarks/adapters.py`, from what every run left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusion.evaluation.bootstrap import mean_interval

FULL = "full tuning"


def summary(runs: Sequence[Mapping[str, Any]], right: Mapping[tuple[str, int], np.ndarray], scenes: np.ndarray,
            before: float) -> dict[str, Any]:  # fmt: skip
    """A method's figures over its seeds; `right` has (items, slots) bool of every method and seed.

    Kept is the method's accuracy over full tuning's of the same seed; its interval is a bootstrap over scenes of the
    mean over seeds.
    """
    table = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        own = [run for run in runs if run["method"] == method]
        seeds = [run["seed"] for run in own]
        slots = np.mean([right[method, seed].mean(1) for seed in seeds], 0)
        whole = np.mean([right[method, seed].all(1) for seed in seeds], 0)
        both = [seed for seed in seeds if (FULL, seed) in right]
        interval = mean_interval(slots, scenes)
        table[method] = {
            "seeds": len(seeds),
            "learning_rate": own[0]["learning_rate"],
            "trainable": own[0]["trainable"],
            "share": own[0]["trainable"] / own[0]["parameters"],
            "answers": [interval.value, interval.low, interval.high],
            "answers_by_seed": [float(right[method, seed].mean()) for seed in seeds],
            "verdicts": float(whole.mean()),
            "verdicts_by_seed": [float(right[method, seed].all(1).mean()) for seed in seeds],
            "kept": _kept([(right[method, s].mean(1), right[FULL, s].mean(1)) for s in both], scenes),
            "kept_verdicts": _kept([(right[method, s].all(1), right[FULL, s].all(1)) for s in both], scenes),
            "old_task": float(np.mean([run["old_task"] for run in own])),
            "forgotten": float(before - np.mean([run["old_task"] for run in own])),
            "nll": float(np.mean([run["validation"]["nll"] for run in own])),
            "seconds": float(np.mean([run["seconds"] for run in own])),
        }
    return table


def markdown(told: Mapping[str, Any]) -> str:
    """Both tables for people."""
    columns = ["method", "trainable", "of the reviewer", "seeds", "answers right [95 %]", "kept of full tuning [95 %]"]
    columns += ["verdicts right", "kept [95 %]", f"old task right (before: {told['old_task_before']:.3f})"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for method, row in told["methods"].items():
        cells = [method, f"{row['trainable']:,}", f"{row['share']:.2%}", str(row["seeds"]), _interval(row["answers"])]
        cells += [_shares(row["kept"]), f"{row['verdicts']:.3f}", _shares(row["kept_verdicts"])]
        lines.append(f"| {' | '.join([*cells, format(row['old_task'], '.3f')])} |")
    if "latency" in told:
        lines += ["", "| form | median ms | p99 ms | median ratio | p99 ratio | ratio within a round [95 %] |",
                  "|---|---|---|---|---|---|"]  # fmt: skip
        for form, row in told["latency"].items():
            lines.append(
                f"| {form} | {row['median_ms']:.1f} | {row['p99_ms']:.1f} | {row['median_ratio']:.3f} | "
                f"{row['p99_ratio']:.3f} | {_interval(row['paired'])} |"
            )
    return "\n".join(lines) + "\n"


def _kept(pairs: Sequence[tuple[np.ndarray, np.ndarray]], scenes: np.ndarray) -> list[float]:
    if not pairs:
        return []
    own, full = (np.mean([pair[side] for pair in pairs], 0).astype(np.float64) for side in (0, 1))
    _, place = np.unique(scenes, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=values) for values in (own, full)], 1)
    rng = np.random.default_rng(0)
    drawn = sums[rng.integers(0, len(sums), (2000, len(sums)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return [float(own.mean() / full.mean()), float(low), float(high)]


def _interval(value: Sequence[float]) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def _shares(value: Sequence[float]) -> str:
    return f"{value[0]:.1%} [{value[1]:.1%}, {value[2]:.1%}]" if value else "full tuning was not run"
