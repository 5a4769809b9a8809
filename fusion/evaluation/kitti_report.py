"""The KITTI metrics as values, as a table for people and as plain data for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RECALL_POSITIONS = 41


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """One figure of the benchmark, in percent: over 11 (`r11`) and over 40 (`r40`) recall positions.

    `labels` is how many count; both figures are None where the metric has no meaning.
    """

    class_name: str
    difficulty: str
    overlaps: str
    metric: str
    min_overlap: float
    labels: int
    r11: float | None
    r40: float | None

    @property
    def highest_r40(self) -> float:
        """What R40 is for a perfect detector: below 100 with fewer than 41 labels, as a position takes one hit."""
        return 100 * (min(self.labels, RECALL_POSITIONS) - 1) / (RECALL_POSITIONS - 1) if self.labels else 0.0


@dataclass(frozen=True, slots=True)
class KittiMetrics:
    """All figures of a set of frames; `str()` is a markdown table."""

    frames: int
    values: tuple[AveragePrecision, ...]

    def value(
        self, class_name: str, metric: str, difficulty: str = "moderate", overlaps: str = "strict"
    ) -> AveragePrecision:
        """One figure. Raises `KeyError` when there is no such class, metric, difficulty or set of overlaps."""
        wanted = (class_name, metric, difficulty, overlaps)
        for value in self.values:
            if (value.class_name, value.metric, value.difficulty, value.overlaps) == wanted:
                return value
        raise KeyError(wanted)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: `ap[overlaps][protocol][class][metric][difficulty]`, and what it was measured on."""
        ap: dict[str, Any] = {}
        min_overlap: dict[str, Any] = {}
        counted: dict[str, dict[str, int]] = {}
        for value in self.values:
            for protocol, figure in (("R11", value.r11), ("R40", value.r40)):
                place = ap.setdefault(value.overlaps, {}).setdefault(protocol, {}).setdefault(value.class_name, {})
                place.setdefault(value.metric, {})[value.difficulty] = figure
            least = min_overlap.setdefault(value.overlaps, {}).setdefault(value.metric, {})
            least[value.class_name] = value.min_overlap
            counted.setdefault(value.class_name, {})[value.difficulty] = value.labels
        return {
            "format": "kitti",
            "frames": self.frames,
            "unit": "percent",
            "min_overlap": min_overlap,
            "num_valid_gt": counted,
            "ap": ap,
        }

    def __str__(self) -> str:
        levels = list(dict.fromkeys(value.difficulty for value in self.values))
        head = ["class", "metric", "overlap above", *(f"{p} {level}" for p in ("R40", "R11") for level in levels)]
        lines = [f"KITTI object metrics, {self.frames} frames, AP in percent.", ""]
        lines += ["| " + " | ".join(head) + " |", "|---|---|---|" + "--:|" * (2 * len(levels))]
        rows: dict[tuple[str, str, float], list[AveragePrecision]] = {}
        for value in self.values:
            row = rows.setdefault((value.class_name, value.metric, value.min_overlap), [])
            if value.difficulty not in {other.difficulty for other in row}:  # the image's overlap is in both sets
                row.append(value)
        for (class_name, metric, least), row in rows.items():
            figures = [_figure(value.r40) for value in row] + [_figure(value.r11) for value in row]
            lines.append("| " + " | ".join([class_name, metric, f"{least:g}", *figures]) + " |")
        return "\n".join([*lines, "", *self._counts()])

    def _counts(self) -> list[str]:
        counted = {(value.class_name, value.difficulty): value for value in self.values}
        lines = ["Labels that count: " + ", ".join(f"{n} {d} {v.labels}" for (n, d), v in counted.items()) + "."]
        few = {key: value for key, value in counted.items() if 0 < value.labels < RECALL_POSITIONS}
        lines += [
            f"{name} {difficulty}: with {value.labels} labels a perfect detector reaches R40 {value.highest_r40:.1f}; "
            f"the metric needs {RECALL_POSITIONS} to reach 100."
            for (name, difficulty), value in few.items()
        ]
        return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
