"""Reviewed items as arrays on disk: what training and evaluation read instead of running the device again.

A cache is a folder: `cache.json` (task, evidence layout), `profile/` (the trunk's codec profile) and
`shard-NNNNN.npz` files, one row an item. Maps and tokens are float16, crops uint8. A row is an item at every rate of
evidence: what a coarser one leaves out is left out on reading, and what it tells otherwise is cached beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusion.codec import FULL, RATES, Profile, Rate, sent_channels
from fusion.errors import InputError
from fusion.json_text import parse_json
from fusion.review.features import ReviewFeatures
from fusion.review.layout import FeatureLayout
from fusion.task import Task
from fusion.types import DeviceOpinion, Evidence, Float32Array

_META = "cache.json"
LEAST = RATES[-1]
"""The rate whose maps and token are cached beside the finest ones; maps of all others have the finest steps."""


@dataclass(frozen=True, slots=True, eq=False)
class CachedItem:
    """One item: its features with crop, and as sent at rate `LEAST`; the right option a slot; the device's opinion."""

    scene: int
    features: ReviewFeatures
    least: ReviewFeatures
    truth: Mapping[str, str]
    class_scores: Mapping[str, float]
    opinion: DeviceOpinion
    evidence_bytes: int
    told_conditions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ItemCache:
    """All items of a cache, N rows.

    Columns: `scene` (N,) int64; `truth` (N, slots) int64 option indices; `maps{l}`, `tokens` (N, T, D) and
    `token_count` (N,), and of rate `LEAST` `least_maps{l}` for the levels that it sends and `least_token` (N, D);
    `opinion` (N, G); `crop` (N, S, S, 3); the detector's scores `class_scores` (N, C) and
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

    def features(self, row: int, *, pixels: bool, maps: bool = True, rate: Rate = FULL) -> ReviewFeatures:
        """One row as the reviewer takes it, sent at a rate, with or without its maps and its crop."""
        rows, rates = np.array([row]), np.array([RATES.index(rate)])
        tokens = self.tokens(rows, rates)[0]
        return ReviewFeatures(
            opinion=self.columns["opinion"][row],
            maps=tuple(self.maps(i, rows, rates)[0] for i in range(len(self.layout.strides))) if maps else None,
            tokens=tokens if len(tokens) else None,
            crop=self.columns["crop"][row] if pixels else None,
        )

    def maps(self, level: int, rows: NDArray[np.int64], rates: NDArray[np.int64]) -> Float32Array:
        """The resampled level (n, side, side, K+1) of `rows`, each as sent at the rate of that place in `RATES`."""
        values = self.columns[f"maps{level}"][rows].astype(np.float32)
        for place in np.unique(rates):
            rate, chosen = RATES[place], np.flatnonzero(rates == place)
            sent = sent_channels(self.layout.channels, rate.layers)[level]
            name = f"least_maps{level}" if rate.step_exponent and sent.any() else f"maps{level}"
            values[chosen] = self.columns[name][rows[chosen]] * np.append(sent, True)  # the gate is always sent
        return values

    def tokens(self, rows: NDArray[np.int64], rates: NDArray[np.int64]) -> list[Float32Array]:
        """The fused tokens (T, D) of each of `rows`, as sent at its rate: the item's own first; T is 0 without any."""
        found = []
        for row, place in zip(rows, rates, strict=True):
            count, columns = int(self.columns["token_count"][row]), self.columns
            whole = RATES[place].scene_tokens or not count
            found.append(columns["tokens"][row, :count] if whole else columns["least_token"][row][None])
        return [values.astype(np.float32) for values in found]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a whole cache into memory. Raises `InputError` when there is none, or it is damaged."""
        try:
            described = parse_json((folder / _META).read_text(encoding="utf-8"))
            task, layout = Task.model_validate(described["task"]), FeatureLayout.model_validate(described["layout"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: not a cache of review items ({str(error).splitlines()[0]})") from None
        shards = {path: _read_shard(path) for path in sorted(folder.glob("shard-*.npz"))}
        shards = {path: columns for path, columns in shards.items() if len(columns["scene"])}
        first = next(iter(shards.values()), {})
        if "least_token" not in first:
            raise InputError(f"{folder}: the cache has no items at all rates; build it again")
        for path, columns in shards.items():
            if {n: v.shape[1:] for n, v in columns.items()} != {n: v.shape[1:] for n, v in first.items()}:
                raise InputError(f"{path}: its columns are not those of the other shards; build it again")
        columns = {name: np.concatenate([shard[name] for shard in shards.values()]) for name in first}
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
    columns["least_token"] = _table([_own_token(item, layout) for item in items], (layout.token_width,), half)
    least = sent_channels(layout.channels, LEAST.layers)
    for level, shape in enumerate(layout.map_shapes):
        columns[f"maps{level}"] = _table([_map(item.features, item, level) for item in items], shape, half)
        if least[level].any():
            columns[f"least_maps{level}"] = _table([_map(item.least, item, level) for item in items], shape, half)
    path = shard_path(folder, index)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.savez(file, **columns)  # type: ignore[arg-type]
    draft.replace(path)


def cached_item(
    scene: int,
    evidence: Evidence,
    features: ReviewFeatures,
    least: ReviewFeatures,
    truth: Mapping[str, str],
    told_conditions: Mapping[str, float] | None = None,
) -> CachedItem:
    """The row of one item; `features` must hold maps and crop, `least` maps, `told_conditions` are the detector's."""
    maps = evidence.maps.byte_size if evidence.maps else 0
    tokens = evidence.tokens.values.nbytes if evidence.tokens else 0
    return CachedItem(
        scene, features, least, truth, evidence.class_scores, evidence.opinion, maps + tokens, told_conditions or {}
    )


def _read_shard(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a shard. Raises `InputError` naming the file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            columns = {name: np.atleast_1d(arrays[name]) for name in arrays.files}
        rows = len(columns["scene"])
    except Exception as error:  # noqa: BLE001 archives, compression and array headers have no root of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a shard of review items ({reason}); build it again") from None
    if short := [name for name, values in columns.items() if len(values) != rows]:
        raise InputError(f"{path}: column {short[0]!r} does not have {rows} rows; build it again")
    return columns


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


def _own_token(item: CachedItem, layout: FeatureLayout) -> NDArray[Any]:
    tokens = item.least.tokens
    return np.zeros(layout.token_width, np.float32) if tokens is None else tokens[0]


def _map(features: ReviewFeatures, item: CachedItem, level: int) -> NDArray[Any]:
    if features.maps is None:
        raise InputError(f"scene {item.scene}: an item without maps cannot be cached")
    return features.maps[level]
