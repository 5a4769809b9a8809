"""Review items with the neck's own vectors instead of codes: what a bottleneck learns from.

A cache is a folder like `fusion.review.item_cache`'s: shards of up to 50 moments, thrown away when they were made by
another trunk or from other moments. For every item it has, a level, the vectors of the open cells of its gate and where
they lie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.codec import Profile, unpack_gates
from fusion.engines import Array, Engine, load_engine
from fusion.errors import InputError
from fusion.perception.detector import DetectorStage
from fusion.review.answers import match_truth, truth_answers
from fusion.review.features import bin_weights, region
from fusion.review.layout import FeatureLayout, layout_for
from fusion.review.opinion import opinion_vector
from fusion.task import Task
from fusion.training.bottleneck.taps import Tap, show_maps
from fusion.training.bundle import GRAPH_NAME
from fusion.training.review_items import Device, ItemRecipe
from fusion.training.review_sources import LabelledMoment, MomentSource
from fusion.types import Evidence, ItemId, SampleId

_META = "cells.json"
_EPOCH = "ce115e0000000000"
_SHARD_MOMENTS = 50


class TappedEngine:
    """The trunk's engine, its neck maps kept of the last picture: `maps` are (C, h, w), finest first."""

    def __init__(self, engine: Engine, taps: Sequence[Tap]) -> None:
        self.name, self.inputs = engine.name, engine.inputs
        self.maps: list[Array] = []
        self._engine = engine
        self._sources = [tap.source for tap in taps]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The trunk's own outputs."""
        outputs = self._engine.run(inputs)
        self.maps = [outputs.pop(source)[0] for source in self._sources]
        return outputs


@dataclass(frozen=True, slots=True, eq=False)
class CellItems:
    """N items. `columns` have `scene` (N,), `truth` (N, slots), `opinion` (N, G), `class_scores` (N, C) and
    `label_scores` (N, 0), as in `ItemCache`.

    Of level l: `cells[l]` (M, C_l) float16 vectors, item after item; `starts[l]` (N + 1,) where an item's begin;
    `rows[l]` and `bins[l]` (M, side) float16, what each cell weighs in the rows and columns of the resampled map.
    """

    task: Task
    layout: FeatureLayout
    columns: dict[str, NDArray[Any]]
    cells: list[NDArray[np.float16]]
    starts: list[NDArray[np.int64]]
    rows: list[NDArray[np.float16]]
    bins: list[NDArray[np.float16]]

    def __len__(self) -> int:
        return len(self.columns["scene"])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a whole cache. Raises `InputError` when it has no items."""
        described = json.loads((folder / _META).read_text(encoding="utf-8"))
        layout = FeatureLayout.model_validate(described["layout"])
        parts = [dict(np.load(path, allow_pickle=False)) for path in sorted(folder.glob("shard-*.npz"))]
        parts = [part for part in parts if len(part["scene"])]
        if not parts:
            raise InputError(f"{folder}: the detector found no items in these pictures; give more or other pictures")
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        levels = range(len(layout.strides))
        return cls(
            Task.model_validate(described["task"]),
            layout,
            {name: whole[name] for name in ("scene", "truth", "opinion", "class_scores", "label_scores")},
            [whole[f"cells{level}"] for level in levels],
            [np.concatenate([[0], np.cumsum(whole[f"count{level}"])]) for level in levels],
            [whole[f"rows{level}"] for level in levels],
            [whole[f"bins{level}"] for level in levels],
        )


def build_cells(
    out: Path, task: Task, bundle: Path, taps: Sequence[Tap], source: MomentSource, *, threads: int, quiet: bool = False
) -> CellItems:
    """The cache of every item of `source` in `out`; shards of the same trunk are kept. Shows its progress."""
    profile = Profile.load(bundle)
    layout = layout_for(task, profile)
    _begin(out, task, layout, sha256((bundle / GRAPH_NAME).read_bytes()).hexdigest(), source.facts())
    shards = range((len(source) + _SHARD_MOMENTS - 1) // _SHARD_MOMENTS)
    missing = [shard for shard in shards if not _path(out, shard).is_file()]
    if missing:
        with TemporaryDirectory() as scratch:
            show_maps(bundle / GRAPH_NAME, taps, Path(scratch) / GRAPH_NAME)
            engine = TappedEngine(load_engine(Path(scratch) / GRAPH_NAME, backend="onnxruntime", threads=threads), taps)
        recipe = ItemRecipe()
        stage = DetectorStage(engine, task, profile, score_floor=recipe.score_floor)
        device = Device(task, profile, stage, None, layout, recipe)
        maker = _Maker(device, engine, [tap.weight.shape[1] for tap in taps], recipe)
        for shard in tqdm(missing, desc=out.name, unit="shard", disable=quiet):
            last = min((shard + 1) * _SHARD_MOMENTS, len(source))
            _write(_path(out, shard), maker.shard(source, range(shard * _SHARD_MOMENTS, last)))
    return CellItems.load(out)


class _Maker:
    """Runs the device over moments and takes its items apart."""

    def __init__(self, device: Device, engine: TappedEngine, widths: Sequence[int], recipe: ItemRecipe) -> None:
        self.device, self.engine, self.widths, self.recipe = device, engine, widths, recipe

    def shard(self, source: MomentSource, numbers: range) -> dict[str, NDArray[Any]]:
        """The columns of the moments `numbers`."""
        found: list[dict[str, Any]] = []
        for number in numbers:
            found += self.items(source.scene(number), number, source.load(number))
        device = self.device
        columns = {
            "scene": np.array([item["scene"] for item in found], np.int64),
            "truth": _table([item["truth"] for item in found], len(device.task.slots), np.int64),
            "opinion": _table([item["opinion"] for item in found], device.layout.opinion_width, np.float32),
            "class_scores": _table([item["class_scores"] for item in found], len(device.task.classes), np.float32),
            "label_scores": np.zeros((len(found), 0), np.float32),
        }
        for level, width in enumerate(self.widths):
            side = device.layout.map_shapes[level][0]
            columns[f"count{level}"] = np.array([len(item[f"cells{level}"]) for item in found], np.int64)
            for name, wide in (("cells", width), ("rows", side), ("bins", side)):
                parts = [item[f"{name}{level}"] for item in found]
                columns[f"{name}{level}"] = np.concatenate([np.zeros((0, wide), np.float16), *parts])
        return columns

    def items(self, scene: int, number: int, moment: LabelledMoment) -> list[dict[str, Any]]:
        """What is kept of each item of one moment."""
        device, task = self.device, self.device.task
        found, _ = device.look(number, moment)
        sample = SampleId("cells", _EPOCH, number + 1)
        candidates = [(found.placement.from_frame(t.box2d), t) for t in moment.truth if t.box2d is not None]
        kept = []
        for index, detection in enumerate(found.detections[: self.recipe.most]):
            evidence = device.evidence(ItemId(sample, index + 1), found, None, index)
            told = truth_answers(task, match_truth(detection.box, candidates, self.recipe.iou))
            item = {
                "scene": scene,
                "truth": [slot.options.index(told[slot.name]) for slot in task.slots],
                "opinion": opinion_vector(evidence, device.layout),
                "class_scores": detection.class_scores,
            }
            kept.append(item | self._cells(evidence))
        return kept

    def _cells(self, evidence: Evidence) -> dict[str, NDArray[np.float16]]:
        """The open cells' vectors in the last picture, and what they weigh in the item's resampled maps."""
        layout, maps = self.device.layout, evidence.maps
        assert maps is not None
        area = region(evidence.box, layout)
        found: dict[str, NDArray[np.float16]] = {}
        for level, gate in enumerate(unpack_gates(self.device.profile, maps)):
            window, stride, side = maps.windows[level], layout.strides[level], layout.map_shapes[level][0]
            rows = bin_weights(area.y1, area.y2, stride, side, window.y, window.height)
            bins = bin_weights(area.x1, area.x2, stride, side, window.x, window.width)
            ys, xs = np.nonzero(gate)
            found[f"cells{level}"] = _half(self.engine.maps[level][:, window.y + ys, window.x + xs].T)
            found[f"rows{level}"], found[f"bins{level}"] = _half(rows[:, ys].T), _half(bins[:, xs].T)
        return found


def _table(rows: Sequence[Any], width: int, dtype: Any) -> NDArray[Any]:
    return np.array(rows, dtype).reshape(len(rows), width)


def _half(values: Array) -> NDArray[np.float16]:
    return np.ascontiguousarray(values, np.float16)


def _begin(out: Path, task: Task, layout: FeatureLayout, graph: str, moments: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    described = {"task": task.model_dump(mode="json"), "layout": layout.model_dump(mode="json")}
    text = json.dumps(described | {"graph": graph, "moments": moments, "recipe": repr(ItemRecipe())}, indent=1) + "\n"
    if (out / _META).is_file() and (out / _META).read_text(encoding="utf-8") != text:
        for shard in out.glob("shard-*.npz"):
            shard.unlink()
    (out / _META).write_text(text, encoding="utf-8")


def _path(out: Path, shard: int) -> Path:
    return out / f"shard-{shard:05d}.npz"


def _write(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
    draft.replace(path)
