"""The tables of `docs/results.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OURS_BEGINS = "(g)"


def inside_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a rival and level."""
    lines = [
        "| load | server | in time/s | p50, p99 ms | late | expired | refused | no answer | least device / median |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: level_order(row["level"])):
        ms = f"{number(row['p50_ms'])}, {number(row['p99_ms'])}"
        ends = [row["late"], row["expired"], row["refused"], row["silent"] + row["failed"]]
        share = "-" if row["fairness"] is None else f"{row['fairness']:.2f}"
        cells = [row["level"], row["rival"], f"{row['goodput_s']:.1f}", ms, *map(str, ends), share]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def users_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line a way."""
    first = rows[0]["rate_s"]
    lines = ["| way | reviews/s | by (a) | p50, p99 ms |", "|---|---|---|---|"]
    for row in rows:
        ms = f"{number(row['p50_ms'])}, {number(row['p99_ms'])}"
        lines.append(f"| {row['way']} | {row['rate_s']:.1f} | {row['rate_s'] / first:.1f} | {ms} |")
    return "\n".join(lines)


def against_best(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By level, our goodput over the best rival's, and both p99 (the best by goodput)."""
    told = []
    for level in dict.fromkeys(row["level"] for row in rows):
        ours = [row for row in rows if row["level"] == level and row["rival"].startswith(OURS_BEGINS)]
        others = [row for row in rows if row["level"] == level and not row["rival"].startswith(OURS_BEGINS)]
        if not ours or not others:
            continue
        best = max(others, key=lambda row: row["goodput_s"])
        ratio = ours[0]["goodput_s"] / best["goodput_s"] if best["goodput_s"] else float("inf")
        told.append({
            "level": level, "best": best["rival"], "ratio": round(ratio, 3),
            "p99_ms": ours[0]["p99_ms"], "best_p99_ms": best["p99_ms"],
        })  # fmt: skip
    return told


def level_order(level: str) -> tuple[float, str]:
    """By percent, an even load first."""
    return float(level.split(maxsplit=1)[0]), level


def number(value: float | None) -> str:
    """Whole milliseconds."""
    return "-" if value is None else f"{value:.0f}"
