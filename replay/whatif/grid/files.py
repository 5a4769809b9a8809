"""`grid.json` and `grid.csv`: what a grid came to, for programs.

    {"format": 1, "task", "recordings": [name], "seconds", "base": name, "figures": {figure: what it is},
     "variants": [{"name", "about", "settings": {key: value}, "folder", "results_sha256", "figures": {figure: number},
                   "missed": {"part", "of", "low", "high"}, "right": the same, "fates": {fate: defects},
                   "differences": {figure: {"value", "low", "high", "p", "clear", "n", "unit"}}, "pareto", "sentence"}]}

A difference is the variant less the base, the mean over `n` pairs of `unit`. The CSV has a row a variant, with
`FIGURE_low` and `FIGURE_high` of the two shares, and `FIGURE_difference`, `…_low`, `…_high`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.evaluation.proportion import Proportion
from replay.running.folder import write_json
from replay.whatif.grid.records import FIGURES, Difference, Grid, GridRow
from replay.whatif.grid.wording import sentence

FORMAT = 1
JSON_NAME, CSV_NAME = "grid.json", "grid.csv"


def write_grid(grid: Grid, out: Path) -> list[Path]:
    """Write both files; where they are. Raises `InputError` naming one that cannot be written."""
    write_json(out / JSON_NAME, as_json(grid))
    write_text(out / CSV_NAME, as_csv(grid))
    return [out / JSON_NAME, out / CSV_NAME]


def write_text(path: Path, text: str) -> None:
    """Write a text file. Raises `InputError` naming it."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def as_json(grid: Grid) -> dict[str, Any]:
    """The content of `grid.json`."""
    return {
        "format": FORMAT,
        "task": grid.task,
        "recordings": list(grid.recordings),
        "seconds": grid.seconds,
        "base": grid.base.name,
        "figures": dict(FIGURES),
        "variants": [_row(row, grid.base) for row in grid.rows],
    }


def _row(row: GridRow, base: GridRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "about": row.about,
        "settings": dict(row.settings),
        "folder": row.name,
        "results_sha256": row.digest,
        "figures": dict(row.figures),
        "missed": asdict(row.missed) if row.missed else None,
        "right": asdict(row.right) if row.right else None,
        "fates": {fate.value: number for fate, number in row.fates.items()},
        "differences": {name: _difference(one) for name, one in row.differences.items()},
        "pareto": row.best,
        "sentence": sentence(row, base),
    }


def _difference(one: Difference) -> dict[str, Any]:
    found = one.interval
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return ends | {"p": one.p, "clear": one.clear, "n": one.n, "unit": one.unit}


def as_csv(grid: Grid) -> str:
    """The content of `grid.csv`."""
    rows = [_flat(row) for row in grid.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: GridRow) -> dict[str, Any]:
    settings = " ".join(f"{key}={value}" for key, value in row.settings.items())
    found: dict[str, Any] = {"variant": row.name, "settings": settings, "pareto": int(row.best), **row.figures}
    found |= _ends("missed_share", row.missed) | _ends("verdict_accuracy", row.right)
    for name in ("missed_share", "bytes_sent", "reviews", "verdict_accuracy"):
        one = row.differences.get(name)
        for end in ("value", "low", "high"):
            key = f"{name}_difference" if end == "value" else f"{name}_difference_{end}"
            found[key] = getattr(one.interval, end) if one else None
    return found


def _ends(name: str, of: Proportion | None) -> dict[str, float | None]:
    return {f"{name}_low": of.low if of else None, f"{name}_high": of.high if of else None}
