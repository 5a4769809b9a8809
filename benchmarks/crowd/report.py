"""A run as a row, runs as JSON, and a picture of what waited where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from crowd.simulation import Outcome

HEAD = """\
| load | devices | reviews/s | of capacity | p50, p99, s | late | expired | shed | pending | refusals | recovery, s |
|---|---|---|---|---|---|---|---|---|---|---|"""


def row(outcome: Outcome) -> str:
    """As a row of a Markdown table under `HEAD`."""
    states = [f"{outcome.states.get(state, 0):,}" for state in ("expired", "shed", "pending")]
    cells = [
        f"{outcome.load:.0%}",
        f"{outcome.devices:,}",
        f"{outcome.goodput:,.1f}",
        f"{outcome.goodput / outcome.capacity:.2f}",
        f"{_seconds(outcome.p50_s)}, {_seconds(outcome.p99_s)}",
        f"{outcome.late:,}",
        *states,
        f"{outcome.refusals:,}",
        "outlasts the run" if outcome.recovery_s == float("inf") else _seconds(outcome.recovery_s),
    ]
    return f"| {' | '.join(cells)} |"


def write_json(path: Path, outcomes: Sequence[Outcome]) -> None:
    """All figures of all runs; what outlasts its run is null there too."""
    rows = [asdict(outcome) for outcome in outcomes]
    for one in rows:
        one["recovery_s"] = None if one["recovery_s"] == float("inf") else one["recovery_s"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1, allow_nan=False), encoding="utf-8")


def draw_picture(path: Path, outcomes: Sequence[Outcome], title: str) -> None:
    """Queue in the service and items on devices over time, a line a load."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=72, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for outcome in outcomes:
        times = [moment.s for moment in outcome.moments]
        upper.plot(
            times,
            [moment.before_loop + moment.queue for moment in outcome.moments],
            label=f"{outcome.load:.0%}",
            linewidth=1,
        )
        lower.plot(times, [moment.spools for moment in outcome.moments], linewidth=1)
    for axes, name in ((upper, "waiting in the service"), (lower, "unanswered on devices")):
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", title="load", fontsize=8)
    upper.set_title(title, fontsize=10)
    lower.set_xlabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
