"""nuScenes files: submissions, serialized `EvalBoxes`, bicycle racks and vehicle positions.

Format: nuscenes-devkit, `eval/detection/README.md` (results format) and `EvalBoxes.serialize`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from fusion.errors import RecordingError
from fusion.evaluation.nuscenes_boxes import ATTRIBUTES, CLASSES, BikeRacks, NuScenesBoxes
from fusion.types import Float64Array


def read_nuscenes_boxes(path: Path) -> NuScenesBoxes:
    """Boxes of a submission (`{"meta": ..., "results": ...}`) or of serialized `EvalBoxes` (sample token to boxes).

    `NaN` is understood. `velocity` may be NaN; `attribute_name`, `num_pts`, `ego_translation` and `detection_score` may
    be missing. Raises `RecordingError` naming the file, and the sample, box and field that is wrong.
    """
    content = _load(path)
    boxes = content.get("results") if {"meta", "results"} & content.keys() else content
    if not isinstance(boxes, dict):
        raise RecordingError(f"{path}: a submission keeps its boxes under 'results', by sample token")
    table = _Table.of(path, boxes)
    return NuScenesBoxes(
        samples=table.tokens,
        sample=np.array(table.sample, np.int64),
        label=table.names("detection_name", CLASSES),
        attribute=table.names("attribute_name", ATTRIBUTES, missing=""),
        translation=table.numbers("translation", 3),
        size=table.numbers("size", 3, positive=True),
        rotation=table.rotations(),
        velocity=table.numbers("velocity", 2, unknown=True),
        ego_translation=table.numbers("ego_translation", 3, missing=[np.nan] * 3, unknown=True),
        points=table.numbers("num_pts", 1, missing=-1)[:, 0],
        score=table.numbers("detection_score", 1, missing=np.nan, unknown=True)[:, 0],
    )


def read_bike_racks(path: Path) -> BikeRacks:
    """Racks by sample token: `{"TOKEN": [{"translation": ..., "size": ..., "rotation": ...}, ...], ...}`.

    Raises `RecordingError` naming the file, and the sample, rack and field that is wrong.
    """
    table = _Table.of(path, _load(path))
    samples = tuple(table.tokens[index] for index in table.sample)
    return BikeRacks(
        samples, table.numbers("translation", 3), table.numbers("size", 3, positive=True), table.rotations()
    )


def read_ego_positions(path: Path) -> dict[str, Float64Array]:
    """Where the vehicle is in each sample, (3,) metres in the global frame: `{"TOKEN": [x, y, z], ...}`.

    Raises `RecordingError` naming the file and the sample.
    """
    positions = {}
    for token, value in _load(path).items():
        position = _as_numbers([value], 3)
        if position is None or not np.isfinite(position).all():
            raise RecordingError(f"{path}: sample {token}: {_short(value)} is no position of three numbers")
        positions[token] = position[0]
    return positions


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}: no valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise RecordingError(f"{path}: holds no object of sample tokens")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one that names something twice would lose the first."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{_short(next(name for name in names if names.count(name) > 1))} is there twice")
    return content


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The boxes of a file in one list, read column by column: quickly where all is well, else to the first mistake."""

    path: Path
    tokens: tuple[str, ...]
    sample: list[int]
    boxes: list[dict[str, Any]]

    @classmethod
    def of(cls, path: Path, content: dict[str, Any]) -> Self:
        table = cls(path, tuple(content), [], [])
        for index, (token, boxes) in enumerate(content.items()):
            if not isinstance(boxes, list):
                raise RecordingError(f"{path}: sample {token}: {_short(boxes)} is no list of boxes")
            for number, box in enumerate(boxes):
                if not isinstance(box, dict):
                    raise RecordingError(f"{path}: sample {token}, box {number}: {_short(box)} is no box")
                if box.get("sample_token", token) != token:
                    other = _short(box["sample_token"])
                    raise RecordingError(f"{path}: sample {token}, box {number}: says that it is of sample {other}")
            table.sample.extend([index] * len(boxes))
            table.boxes.extend(boxes)
        return table

    def numbers(
        self, key: str, width: int, *, missing: object = None, positive: bool = False, unknown: bool = False
    ) -> Float64Array:
        """A column (N, width) of finite numbers, `positive` ones, or with NaN where they may be `unknown`."""

        def good(values: Sequence[object]) -> Float64Array | None:
            array = _as_numbers(values, width)
            if array is None or np.isinf(array).any() or (not unknown and np.isnan(array).any()):
                return None
            return None if positive and (array <= 0).any() else array

        values = [box.get(key, missing) for box in self.boxes]
        column = good(values)
        if column is None:
            row = next(row for row, value in enumerate(values) if good([value]) is None)
            kind = "a number" if width == 1 else f"{width} numbers"
            raise self._mistake(row, key, values[row], kind + (" above 0" if positive else ""))
        return column

    def rotations(self) -> Float64Array:
        """The column of quaternions (N, 4), which need not have length 1."""
        column = self.numbers("rotation", 4)
        flat = np.flatnonzero(~np.any(column, axis=1))
        if flat.size:
            row = int(flat[0])
            raise self._mistake(row, "rotation", self.boxes[row]["rotation"], "a quaternion that turns")
        return column

    def names(self, key: str, known: Sequence[str], *, missing: str | None = None) -> NDArray[np.int64]:
        """A column (N,) of indices into the `known` names."""
        index: dict[object, int] = {name: i for i, name in enumerate(known)}
        column = np.empty(len(self.boxes), np.int64)
        for row, box in enumerate(self.boxes):
            name = box.get(key, missing)
            found = index.get(name) if isinstance(name, str) else None
            if found is None:
                raise self._mistake(row, key, name, "one of " + ", ".join(filter(None, known)))
            column[row] = found
        return column

    def _mistake(self, row: int, key: str, value: object, wanted: str) -> RecordingError:
        sample = self.sample[row]
        number = row - self.sample.index(sample)
        said = f"is {_short(value)}" if key in self.boxes[row] else "is missing"
        return RecordingError(
            f"{self.path}: sample {self.tokens[sample]}, box {number}: '{key}' {said}; {wanted} must be there"
        )


def _as_numbers(values: Sequence[object], width: int) -> Float64Array | None:
    """`values` as (N, width) floats, or None where one is anything else (text, null, true, another length)."""
    if not values:
        return np.zeros((0, width))
    parts: Iterable[Any] = values if width == 1 else chain.from_iterable(cast("Sequence[Iterable[object]]", values))
    try:
        if not set(map(type, parts)) <= {int, float}:
            return None
        array = np.array(values)
    except (TypeError, ValueError, OverflowError):  # not iterable, of several lengths, too large
        return None
    if array.dtype.kind not in "fiu" or array.shape != ((len(values),) if width == 1 else (len(values), width)):
        return None
    return array.astype(np.float64).reshape(len(values), width)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
