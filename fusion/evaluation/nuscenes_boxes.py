"""nuScenes detection boxes, and what is known about the samples they are in, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusion.types import BoolArray, Float64Array

CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)
ATTRIBUTES = (
    "",
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)
"""What a box may be doing; the first says that it is not told."""


@dataclass(frozen=True, slots=True, eq=False)
class NuScenesBoxes:
    """N boxes of some samples, in the global frame (metres).

    `samples` are the tokens of all samples, those without boxes too; `sample` (N,) indices into them, ascending;
    `label` (N,) indices into `CLASSES`; `attribute` (N,) indices into `ATTRIBUTES`; `translation` (N, 3) of the centre;
    `size` (N, 3) width, length, height; `rotation` (N, 4) quaternions w, x, y, z; `velocity` (N, 2) in m/s, NaN where
    unknown; `ego_translation` (N, 3) from the vehicle to the centre along the global axes, NaN where not told; `points`
    (N,) that lie inside, -1 where not told; `score` (N,), NaN where there is none.
    """

    samples: tuple[str, ...]
    sample: NDArray[np.int64]
    label: NDArray[np.int64]
    attribute: NDArray[np.int64]
    translation: Float64Array
    size: Float64Array
    rotation: Float64Array
    velocity: Float64Array
    ego_translation: Float64Array
    points: Float64Array
    score: Float64Array

    def __len__(self) -> int:
        return len(self.sample)

    def where(self, rows: BoolArray | NDArray[np.integer]) -> Self:
        """Those boxes of `rows`, a mask (N,) or indices, among the same samples."""
        columns = [column.name for column in fields(self) if column.name != "samples"]
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True, slots=True, eq=False)
class BikeRacks:
    """R racks, each in one sample: tokens, centres (R, 3), width length height (R, 3), quaternions (R, 4)."""

    samples: tuple[str, ...]
    translation: Float64Array
    size: Float64Array
    rotation: Float64Array
