"""Reviewed items as arrays on disk: what training and evaluation read instead of running the device again.

A cache is a folder: `cache.json` (task, evidence layout), `profile/` (the trunk's codec profile) and
`shard-NNNNN.npz` files, one row an item. Maps and tokens are float16, crops uint8.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.codec import Profile
from fusion.errors import InputError
from fusion.review.features import ReviewFeatures
from fusion.review.layout import FeatureLayout
from fusion.task import Task
from fusion.types import DeviceOpinion, Evidence

_META = "cache.json"


@dataclass(frozen=True, slots=True, eq=False)
class CachedItem:
    """One item: its features with crop, the right option a slot, and what the device said about it."""

    scene: int
    features: ReviewFeatures
    truth: Mapping[str, str]
    class_scores: Mapping[str, float]
    opinion: DeviceOpinion
    evidence_bytes: int
    told_conditions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ItemCache:
    """All items of a cache, N rows.

    Columns: `scene` (N,) int64; `truth` (N, slots) int64 option indices; `maps{l}`, `tokens` (N, T, D) and
    `token_count` (N,); `opinion` (N, G); `crop` (N, S, S, 3); the detector's scores `class_scores` (N, C) and
    `told_conditions` (N, K), zeros where it does not tell them; the fused heads'
    `label_scores` (N, C+1), `condition_scores`, `asked_score` (N,) float32; `evidence_bytes` (N,).
    """

    task: Task
    layout: FeatureLayout
    profile: Profile
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["scene"])

    def take(self, rows: NDArray[Any]) -> ItemCache:
        """The cache of some rows, by index or mask."""
        return ItemCache(self.task, self.layout, self.profile, {k: v[rows] for k, v in self.columns.items()})

    def features(self, row: int, *, pixels: bool) -> ReviewFeatures:
        """One row as the reviewer takes it, with or without its crop."""
        columns, count = self.columns, int(self.columns["token_count"][row])
        return ReviewFeatures(
            opinion=columns["opinion"][row],
            maps=tuple(columns[f"maps{i}"][row].astype(np.float32) for i in range(len(self.layout.strides))),
            tokens=columns["tokens"][row, :count].astype(np.float32) if count else None,
            crop=columns["crop"][row] if pixels else None,
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a whole cache into memory. Raises `InputError` when there is none."""
        try:
            described = json.loads((folder / _META).read_text(encoding="utf-8"))
            task, layout = Task.model_validate(described["task"]), FeatureLayout.model_validate(described["layout"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: not a cache of review items ({str(error).splitlines()[0]})") from None
        shards = sorted(folder.glob("shard-*.npz"))
        parts = [dict(np.load(path, allow_pickle=False)) for path in shards]
        parts = [part for part in parts if len(part["scene"])]
        if not parts:
            raise InputError(f"{folder}: the cache has no items; build it again")
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return cls(task, layout, Profile.load(folder / "profile"), columns)


def begin_cache(
    folder: Path, task: Task, layout: FeatureLayout, profile: Profile, origin: Mapping[str, str] | None = None
) -> None:
    """Make the folder and write what all shards share. Shards of another `origin` (whatever their items were made
    from and by) are thrown away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = {"task": task.model_dump(mode="json"), "layout": layout.model_dump(mode="json")}
    text = json.dumps(described | {"origin": dict(origin or {})}, indent=1) + "\n"
    if (folder / _META).is_file() and (folder / _META).read_text(encoding="utf-8") != text:
        for shard in folder.glob("shard-*.npz"):
            shard.unlink()
    (folder / _META).write_text(text, encoding="utf-8")
    profile.save(folder / "profile")


def shard_path(folder: Path, index: int) -> Path:
    """Where shard `index` is, or will be."""
    return folder / f"shard-{index:05d}.npz"


def write_shard(folder: Path, index: int, items: Sequence[CachedItem], task: Task, layout: FeatureLayout) -> None:
    """Write one shard whole or not at all; it may be empty."""
    options = {slot.name: slot.options.index for slot in task.slots}
    half, single = np.float16, np.float32
    columns: dict[str, NDArray[Any]] = {
        "scene": np.array([item.scene for item in items], np.int64),
        "truth": _table(
            [[index_of(item.truth[name]) for name, index_of in options.items()] for item in items],
            (len(options),),
            np.int64,
        ),
        "opinion": _table([item.features.opinion for item in items], (layout.opinion_width,), single),
        "tokens": _table([_tokens(item, layout) for item in items], (layout.max_tokens, layout.token_width), half),
        "token_count": np.array([_count(item) for item in items], np.int64),
        "crop": _table([_crop(item, layout) for item in items], (layout.crop, layout.crop, 3), np.uint8),
        "class_scores": _scores([item.class_scores for item in items], layout.classes),
        "told_conditions": _scores([item.told_conditions for item in items], layout.conditions),
        "label_scores": _scores([item.opinion.label_scores for item in items], layout.labels),
        "condition_scores": _scores([item.opinion.condition_scores for item in items], layout.conditions),
        "asked_score": np.array([item.opinion.asked_score or 0.0 for item in items], single),
        "evidence_bytes": np.array([item.evidence_bytes for item in items], np.int64),
    }
    for level, shape in enumerate(layout.map_shapes):
        columns[f"maps{level}"] = _table([_map(item, level) for item in items], shape, half)
    path = shard_path(folder, index)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
    draft.replace(path)


def cached_item(
    scene: int,
    evidence: Evidence,
    features: ReviewFeatures,
    truth: Mapping[str, str],
    told_conditions: Mapping[str, float] | None = None,
) -> CachedItem:
    """The row of one item; `features` must hold maps and crop, `told_conditions` are the detector's."""
    maps = evidence.maps.byte_size if evidence.maps else 0
    tokens = evidence.tokens.values.nbytes if evidence.tokens else 0
    return CachedItem(
        scene, features, truth, evidence.class_scores, evidence.opinion, maps + tokens, told_conditions or {}
    )


def _table(rows: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    return np.array(rows, dtype) if rows else np.zeros((0, *shape), dtype)


def _scores(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> NDArray[Any]:
    return _table([[row.get(name, 0.0) for name in names] for row in rows], (len(names),), np.float32)


def _count(item: CachedItem) -> int:
    return 0 if item.features.tokens is None else len(item.features.tokens)


def _tokens(item: CachedItem, layout: FeatureLayout) -> NDArray[Any]:
    padded = np.zeros((layout.max_tokens, layout.token_width), np.float16)
    if item.features.tokens is not None:
        padded[: _count(item)] = item.features.tokens
    return padded


def _crop(item: CachedItem, layout: FeatureLayout) -> NDArray[Any]:
    crop = item.features.crop
    return np.zeros((layout.crop, layout.crop, 3), np.uint8) if crop is None else crop


def _map(item: CachedItem, level: int) -> NDArray[Any]:
    if item.features.maps is None:
        raise InputError(f"scene {item.scene}: an item without maps cannot be cached")
    return item.features.maps[level]
