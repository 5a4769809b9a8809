"""What was measured of a pass, and the table of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Row:
    """What was measured of one pass: milliseconds, and its floors in milliseconds; gigabytes of memory."""

    name: str
    batch: int
    sensors: str
    median_ms: float
    p99_ms: float
    rounds: int
    floor_ms: float = 0.0
    floor_by_op_ms: float = 0.0
    gigaflop: float = 0.0
    least_gb: float = 0.0
    moved_gb: float = 0.0
    bound: str = ""
    attention: str = ""
    memory_gb: float = 0.0
    note: str = ""

    @property
    def share(self) -> float:
        """Floor by measured time."""
        return self.floor_ms / self.median_ms if self.median_ms else 0.0


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    titles = "pass|batch|sensors|ms p50|p99|n|GFLOP|GB least|GB by op|floor ms|by op ms|bound|share|TFLOP/s|peak GB"
    columns = [*titles.split("|"), "attention", "note"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        rate = row.gigaflop / row.median_ms if row.median_ms else 0.0
        lines.append(
            f"| {row.name} | {row.batch} | {row.sensors} | {row.median_ms:.2f} | {row.p99_ms:.2f} | {row.rounds} "
            f"| {row.gigaflop:.0f} | {row.least_gb:.3f} | {row.moved_gb:.2f} | {row.floor_ms:.3f} "
            f"| {row.floor_by_op_ms:.2f} | {row.bound} | {100 * row.share:.1f} % | {rate:.0f} | {row.memory_gb:.2f} "
            f"| {row.attention} | {row.note} |"
        )
    return "\n".join(lines)


def fill_in(rows: Sequence[Row]) -> None:
    """Give rows that only were timed the floor of the eager pass over the same batch."""
    whole = {row.batch: row for row in rows if row.name == "eager" and row.sensors == "all" and row.gigaflop}
    for row in rows:
        if not row.gigaflop and row.sensors == "all" and not row.name.startswith("·") and whole:
            base = whole.get(row.batch) or whole[max(whole)]
            scale = row.batch / base.batch
            row.gigaflop, row.bound = base.gigaflop * scale, base.bound
            # Beyond the batches counted, parameters are counted once a batch of that size: no matter, where rate binds.
            row.floor_ms = base.floor_ms * scale


def write(path: Path, facts: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """All figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "rows": [asdict(row) | {"share": row.share} for row in rows]}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
