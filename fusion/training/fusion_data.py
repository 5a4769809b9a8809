"""Cached scenes → training batches: which sensors are there, which rows, what is said, and how it is all shaken.

What a sample is made of is drawn a scene at a time; its tensors are gathered a batch at a time, on whatever device the
tables are, so that an accelerator is not kept waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.items import ITEM_POINTS
from fusion.preparation.rays import GROUND_REACH_M, RAY_DEPTHS
from fusion.training.scene_features import FROM_DETECTOR, FROM_TRUTH, FeatureCache
from fusion.training.shaking import shake
from fusion.training.sounds import Sounds, Utterance, Waves
from fusion.training.utterances import UtteranceBank
from fusion.types import Float32Array

TRAINING_POINTS = 6144
"""Points of a sweep in a training batch."""
_NOT_TABLES = {"pcm", "speech", "truth_count"}
_STRIDE = 16


@dataclass(frozen=True, slots=True)
class Presence:
    """Which sensors a sample has."""

    camera: bool = True
    lidar: bool = True
    speech: bool = True


PATTERNS: Mapping[str, Presence] = {
    "all": Presence(),
    "no speech": Presence(speech=False),
    "no lidar": Presence(lidar=False),
    "no camera": Presence(camera=False),
    "camera only": Presence(lidar=False, speech=False),
    "lidar only": Presence(camera=False, speech=False),
}


@dataclass(frozen=True, slots=True)
class ModalityDropout:
    """How often training goes without a sensor: `spatial` is the share of samples that lack the camera or the LiDAR,
    either as often and never both (UniBEV, Wang et al., 2024), `speech` the share that lacks the microphone.
    """

    spatial: float = 0.5
    speech: float = 0.15

    def drawn(self, given: Presence, rng: np.random.Generator) -> Presence:
        """Of the sensors `given`, those that a sample keeps."""
        draw = rng.random()
        camera = given.camera and draw >= self.spatial / 2
        lidar = given.lidar and (draw < self.spatial / 2 or draw >= self.spatial)
        return Presence(camera, lidar, given.speech and bool(rng.random() >= self.speech))


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One sample before its tensors are made: the scene's `index`, its item `rows`, what is there, `ages` (3,) of
    camera, LiDAR and speech in seconds, and what is said.
    """

    index: int
    rows: NDArray[np.intp]
    presence: Presence
    ages: Float32Array
    speech: Utterance


class SceneSampler:
    """Draws samples of cached scenes and gathers their batches.

    Training draws presence, rows and utterance; evaluation takes the scene as it is, with the detector's rows and the
    given presence. `given` are the sensors there are at all in training. Sounds are by default the scenes' own
    recordings and, in training, mixtures of `bank`. Tables and batches live on `device`.
    """

    def __init__(
        self,
        cache: FeatureCache,
        spec: FusionSpec,
        bank: UtteranceBank | None = None,
        *,
        sounds: Sounds | None = None,
        given: Presence | None = None,
        dropout: ModalityDropout | None = None,
        device: str = "cpu",
    ) -> None:
        self.cache, self.spec, self.device = cache, spec, torch.device(device)
        self._sounds = sounds or Waves(cache, spec, bank)
        self._given, self._dropout = given or Presence(), dropout or ModalityDropout()
        names = [field.name for field in fields(cache.features) if field.name not in _NOT_TABLES]
        self._tables = {name: torch.from_numpy(getattr(cache.features, name)).to(self.device) for name in names}

    def evaluation(self, index: int, presence: Presence, ages: Sequence[float] = (0.0, 0.0, 0.0)) -> Draw:
        """Scene `index` as a device sees it, readings as old as `ages` (camera, LiDAR, speech) says."""
        rows = np.flatnonzero(self.cache.features.row_kind[index] == FROM_DETECTOR)
        speech = self._sounds.recorded(index)
        return Draw(index, rows[: self.spec.queries], presence, np.array(ages, np.float32), speech)

    def training(self, index: int, rng: np.random.Generator) -> Draw:
        """Scene `index` with sensors, rows, ages and an utterance drawn from `rng`."""
        presence = self._dropout.drawn(self._given, rng)
        ages = np.where(rng.random(3) < 0.7, rng.uniform(0, 0.05, 3), rng.uniform(0, 0.5, 3))
        ages[2] = rng.uniform(0, 4.0)
        speech = self._sounds.drawn(index, rng)
        return Draw(index, self._training_rows(index, rng), presence, ages.astype(np.float32), speech)

    def _training_rows(self, index: int, rng: np.random.Generator) -> NDArray[np.intp]:
        kinds = self.cache.features.row_kind[index]
        truth = self.cache.features.row_truth[index]
        rows = np.flatnonzero(kinds == FROM_DETECTOR)
        if rng.random() < 0.4:
            moved = np.flatnonzero(kinds == FROM_TRUTH)
            moved = moved[rng.permutation(len(moved))]
            _, first = np.unique(truth[moved], return_index=True)
            rows = np.concatenate([rows[truth[rows] < 0], moved[first]])
        rows = rng.permutation(rows[rng.random(len(rows)) >= 0.06])
        return rows[: self.spec.queries]

    def gather(self, draws: Sequence[Draw], points: NDArray[np.intp] | None = None) -> dict[str, Tensor]:
        """The batch of `draws`: what `FusionModel` takes, and the truth. `points` are the places of a sweep's points
        that are taken, by default all.
        """
        scene = torch.tensor([draw.index for draw in draws], device=self.device)
        present = torch.tensor([(d.presence.camera, d.presence.lidar) for d in draws], device=self.device)
        heard = torch.tensor([d.presence.speech and d.speech.heard for d in draws], device=self.device)
        batch = self._sounds.tensors([draw.speech for draw in draws], self.device)
        batch |= self._items([draw.rows for draw in draws], scene, present)
        batch |= self._readings(scene, points)
        for name in ("label", "condition", "box3d", "has_box3d", "clear"):
            batch[f"truth_{name}"] = _whole(self._tables[name][scene])
        for name, value, none in (("intent", [d.speech.intent for d in draws], 0), ("asked", _targets(draws), -1)):
            told = torch.tensor(value, device=self.device)
            batch[name] = torch.where(heard, told, torch.full_like(told, none))
        ages = torch.from_numpy(np.stack([draw.ages for draw in draws])).to(self.device)
        there = {"camera": present[:, :1], "lidar": present[:, 1], "speech": heard}
        for column, (name, available) in enumerate(there.items()):
            batch[f"{name}_available"] = available
            batch[f"{name}_age"] = ages[:, column].view(available.shape)
        return batch

    def _items(self, rows: Sequence[NDArray[np.intp]], scene: Tensor, present: Tensor) -> dict[str, Tensor]:
        spec = self.spec
        table = np.full((len(rows), spec.queries), -1)
        for line, own in zip(table, rows, strict=True):
            line[: len(own)] = own
        index = torch.from_numpy(table).to(self.device)
        valid = (index >= 0) & present[:, :1]
        place = (scene[:, None], index.clamp(min=0))
        told = ("condition_scores",) if spec.told_conditions else ()
        batch = {"box_valid": valid}
        for name in ("boxes", "box_rays", "class_scores", "item_place", "item_points", *told):
            values = self._tables[name][place].float()
            batch[name] = torch.where(valid.view(*valid.shape, *[1] * (values.ndim - 2)), values, 0.0)
        batch["item_points"] = batch["item_points"][..., : len(spec.point_scale)]
        unmeasured = valid & ~present[:, 1:]
        guessed = foot_places(self._tables["calibration"][scene], batch["boxes"], spec)
        batch["item_place"] = torch.where(unmeasured[..., None], guessed, batch["item_place"])
        batch["truth_row"] = torch.where(valid, self._tables["row_truth"][place].long(), -1)
        counts = torch.where(valid, self._tables["item_point_count"][place], 0)
        own_points = torch.arange(ITEM_POINTS, device=self.device) < counts[..., None]
        batch["item_points_valid"] = own_points & present[:, 1, None, None]
        return batch

    def _readings(self, scene: Tensor, points: NDArray[np.intp] | None) -> dict[str, Tensor]:
        sweep = self._tables["points"]
        kept = torch.arange(sweep.shape[1]) if points is None else torch.from_numpy(points)
        kept = kept.to(self.device)
        valid = kept < self._tables["point_count"][scene][:, None]
        values = sweep[scene[:, None], kept].float()
        return {
            "p4": self._tables["p4"][scene][:, None],
            "p5": self._tables["p5"][scene][:, None],
            "rays": batch_rays(self._tables["calibration"][scene], self.spec)[:, None],
            "points": torch.where(valid[..., None], values, 0.0),
            "points_valid": valid,
        }


def batches(
    sampler: SceneSampler, order: Sequence[int] | NDArray[np.intp], size: int, seed: Sequence[int]
) -> Iterator[dict[str, Tensor]]:
    """Shaken training batches over the scenes in `order`; a short rest is left out. The same seed, the same batches."""
    stored = sampler.cache.features.points.shape[1]
    for start in range(0, len(order) - size + 1, size):
        rng = np.random.default_rng([*seed, start])
        draws = [sampler.training(int(i), rng) for i in order[start : start + size]]
        points = np.sort(rng.permutation(stored)[:TRAINING_POINTS])
        batch = sampler.gather(draws, points)
        shake(batch, torch.Generator(sampler.device).manual_seed(int(rng.integers(2**62))))
        yield batch


def batch_rays(calibration: Tensor, spec: FusionSpec) -> Tensor:
    """`fusion.preparation.rays.cell_rays` of many cameras without distortion: `calibration` (B, 25) float64, the 3x3
    intrinsics and the 4x4 `ego_from_camera`, → (B, cells, 48) float32 metres in the ego frame.
    """
    rows, columns = spec.camera_map
    device = calibration.device
    v, u = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    pixels = (torch.stack([u.flatten(), v.flatten()], 1) + 0.5) * _STRIDE
    directions, origin = _directions(calibration, pixels.double().expand(len(calibration), -1, -1))
    depths = torch.from_numpy(RAY_DEPTHS).to(device)
    points = origin[:, None, None] + directions[:, :, None] * depths[:, None]  # (B, N, 16, 3)
    rays: Tensor = points.flatten(2).float()
    return rays


def foot_places(calibration: Tensor, boxes: Tensor, spec: FusionSpec) -> Tensor:
    """Where the feet of `boxes` (B, Q, 4), centre and size in 0..1, meet the ground: `fusion.preparation.rays.
    ground_points` of many cameras, (B, Q, 3) float32 metres in the ego frame. What a device without LiDAR knows of an
    item's place.
    """
    size = boxes.new_tensor([spec.image_width, spec.image_height])
    pixels = torch.stack([boxes[..., 0], boxes[..., 1] + boxes[..., 3] / 2], -1) * size
    directions, origin = _directions(calibration, pixels.double())
    falling = directions[..., 2] < -1e-3
    length = -origin[:, None, 2] / torch.where(falling, directions[..., 2], -1.0)
    length = torch.where(falling, length, GROUND_REACH_M).clamp(0.0, GROUND_REACH_M)
    places = origin[:, None] + directions * length[..., None]
    return (places * places.new_tensor([1.0, 1.0, 0.0])).float()


def _directions(calibration: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Unit directions (B, N, 3) of `pixels` (B, N, 2) and the camera's place (B, 3), in the ego frame."""
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)
    k, pose = calibration[:, :9].view(-1, 3, 3), calibration[:, 9:].view(-1, 4, 4)
    directions = homogeneous @ torch.linalg.inv(k).mT @ pose[:, :3, :3].mT
    return directions / directions.norm(dim=-1, keepdim=True), pose[:, :3, 3]


def _whole(values: Tensor) -> Tensor:
    return values.long() if values.dtype == torch.int16 else values


def _targets(draws: Sequence[Draw]) -> list[int]:
    return [draw.speech.target for draw in draws]
