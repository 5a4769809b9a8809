"""Which boxes the nuScenes benchmark looks at: within their class's range, with points, outside bicycle racks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fusion.errors import InputError
from fusion.evaluation.matching import pairs_within_groups
from fusion.evaluation.nuscenes_boxes import CLASSES, BikeRacks, NuScenesBoxes
from fusion.types import BoolArray, Float64Array

CLASS_RANGE_M: Mapping[str, float] = {
    "car": 50,
    "truck": 50,
    "bus": 50,
    "trailer": 50,
    "construction_vehicle": 50,
    "pedestrian": 40,
    "motorcycle": 40,
    "bicycle": 40,
    "traffic_cone": 30,
    "barrier": 30,
}
"""Distance from the vehicle, seen from above, that a box must be nearer than."""
_RACKED = [CLASSES.index("motorcycle"), CLASSES.index("bicycle")]


def within_reach(
    truth: NuScenesBoxes,
    predictions: NuScenesBoxes,
    ego_positions: Mapping[str, Float64Array],
    bike_racks: BikeRacks | None,
) -> tuple[NuScenesBoxes, NuScenesBoxes]:
    """`truth` and `predictions` without the boxes that do not count, in the devkit's order of filters.

    Predictions are measured from `ego_positions`, or else from where the truth of their sample says the vehicle is, as
    the devkit overwrites what a submission says of it; only where neither tells do their own `ego_translation` count.
    Truth counts as it tells, and is measured from `ego_positions` where it does not. Raises `InputError` naming a
    sample of which nothing tells.
    """
    reach = np.array([CLASS_RANGE_M[name] for name in CLASSES])
    known = {**_positions(truth), **ego_positions}
    measured = _silent(truth), _silent(predictions) | _located(predictions, known)
    kept = []
    for boxes, rows, whose in ((truth, measured[0], "truth"), (predictions, measured[1], "predictions")):
        near = boxes.where(_distance(boxes, rows, known, whose) < reach[boxes.label])
        near = near.where(near.points != 0)
        kept.append(near if bike_racks is None else near.where(~_in_rack(near, bike_racks)))
    return kept[0], kept[1]


def _positions(truth: NuScenesBoxes) -> dict[str, Float64Array]:
    """Where the vehicle is, by sample token, as the truth's boxes tell."""
    told = truth.where(~_silent(truth))
    samples, first = np.unique(told.sample, return_index=True)
    positions = told.translation[first] - told.ego_translation[first]
    return {truth.samples[sample]: position for sample, position in zip(samples, positions, strict=True)}


def _located(boxes: NuScenesBoxes, positions: Mapping[str, Float64Array]) -> BoolArray:
    """Which boxes (N,) are of samples in which it is known where the vehicle is."""
    known = np.array([token in positions for token in boxes.samples], np.bool_)
    return np.asarray(known[boxes.sample])


def _distance(
    boxes: NuScenesBoxes, measured: BoolArray, positions: Mapping[str, Float64Array], whose: str
) -> Float64Array:
    """Distance (N,) of the boxes from the vehicle, seen from above; of those `measured` (N,) from `positions`."""
    vehicle = np.full((len(boxes.samples), 3), np.nan)
    for sample in np.unique(boxes.sample[measured]):
        token = boxes.samples[sample]
        if token not in positions:
            raise InputError(
                f"sample {token}: neither the {whose} nor the truth tell where the vehicle is ('ego_translation'); "
                "give its position"
            )
        vehicle[sample] = positions[token]
    away = np.where(measured[:, None], boxes.translation - vehicle[boxes.sample], boxes.ego_translation)
    return np.asarray(np.linalg.norm(away[:, :2], axis=1))


def _silent(boxes: NuScenesBoxes) -> BoolArray:
    """Which boxes (N,) do not tell where they are from the vehicle."""
    return np.asarray(np.isnan(boxes.ego_translation).any(axis=1))


def _in_rack(boxes: NuScenesBoxes, racks: BikeRacks) -> BoolArray:
    """Which boxes (N,) are two-wheelers whose centre lies in a rack of their sample, its surface included."""
    place = {token: index for index, token in enumerate(boxes.samples)}
    sample = np.array([place.get(token, -1) for token in racks.samples], np.int64)
    parked = np.flatnonzero(np.isin(boxes.label, _RACKED))
    rack, row = pairs_within_groups(sample, boxes.sample[parked])
    away = boxes.translation[parked[row]] - racks.translation[rack]
    inside = np.einsum("nij,ni->nj", _matrices(racks.rotation)[rack], away)
    half = racks.size[rack][:, [1, 0, 2]] / 2  # a box is as long as its x axis
    racked = np.zeros(len(boxes), np.bool_)
    racked[parked[row[(np.abs(inside) <= half).all(1)]]] = True
    return racked


def _matrices(rotation: Float64Array) -> Float64Array:
    """Rotation matrices (N, 3, 3) of quaternions w, x, y, z (N, 4) of any length."""
    w, x, y, z = (rotation / np.linalg.norm(rotation, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
