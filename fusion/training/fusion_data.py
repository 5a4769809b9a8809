"""Cached scenes → training samples: which sensors are there, which rows, what is said, and how it is all shaken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.geometry import CameraCalibration, rotation_y, rotation_z
from fusion.preparation.fusion_spec import FusionSpec
from fusion.preparation.items import ITEM_POINTS
from fusion.preparation.rays import cell_rays
from fusion.training.scene_features import FROM_DETECTOR, FROM_TRUTH, FeatureCache
from fusion.training.utterances import UtteranceBank, spoken_words
from fusion.types import Float32Array

IGNORED = -100
_BATCH_POINTS = 6144


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


class SceneSampler:
    """Makes the tensors of one scene, without a batch axis.

    Training draws presence, rows, utterance (from `bank`, if there is one) and noise from `rng`; evaluation takes the
    scene as it is, with the detector's rows and the given presence.
    """

    def __init__(self, cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank | None = None) -> None:
        self.cache, self.spec, self.bank = cache, spec, bank
        self._by_phrase = bank.by_phrase() if bank else {}
        self._others = bank.others() if bank else []

    def evaluation(self, index: int, presence: Presence) -> dict[str, NDArray[np.generic]]:
        """Scene `index` as a device sees it."""
        rng = np.random.default_rng([17, index])
        kinds = self.cache.features.row_kind[index]
        rows = np.flatnonzero(kinds == FROM_DETECTOR)
        speech = self._recorded_speech(index)
        return self._sample(index, rows[: self.spec.queries], presence, speech, np.zeros(3, np.float32), rng)

    def training(self, index: int, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
        """Scene `index`, shaken."""
        draw = rng.random()
        camera, lidar = draw >= 0.25, draw < 0.25 or draw >= 0.5
        presence = Presence(camera, lidar, bool(rng.random() >= 0.15))
        ages = np.where(rng.random(3) < 0.7, rng.uniform(0, 0.05, 3), rng.uniform(0, 0.5, 3))
        ages[2] = rng.uniform(0, 4.0)
        speech = self._new_speech(index, rng) if self.bank and rng.random() < 0.8 else self._recorded_speech(index)
        sample = self._sample(index, self._training_rows(index, rng), presence, speech, ages.astype(np.float32), rng)
        _shake(sample, rng)
        return sample

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

    def _new_speech(self, index: int, rng: np.random.Generator) -> _Speech:
        assert self.bank is not None
        fitting = [(text, target) for text, target in self.cache.phrases[index] if text in self._by_phrase]
        draw = rng.random()
        if draw < 0.7 and fitting:
            text, target = fitting[int(rng.integers(len(fitting)))]
            chosen = self._by_phrase[text]
            number: int | None = chosen[int(rng.integers(len(chosen)))]
        else:
            target = -1
            number = self._others[int(rng.integers(len(self._others)))] if draw < 0.88 else None
        sound = self.bank.mix(number, rng).sound
        if number is None:
            return _Speech(sound, bool(rng.random() < 0.5), "", 0, -1)
        command = self.bank.commands[number]
        return _Speech(sound, True, command.text, self.spec.intents.index(command.intent), target)

    def _recorded_speech(self, index: int) -> _Speech:
        features = self.cache.features
        sound = features.pcm[index].astype(np.float32) / 32768
        asked = np.flatnonzero(features.asked[index])
        target = int(asked[0]) if len(asked) else -1
        heard = bool(features.speech[index])
        return _Speech(sound, heard, self.cache.transcripts[index], int(features.intent[index]), target)

    def _sample(
        self,
        index: int,
        rows: NDArray[np.intp],
        presence: Presence,
        speech: _Speech,
        ages: Float32Array,
        rng: np.random.Generator,
    ) -> dict[str, NDArray[np.generic]]:
        features, spec = self.cache.features, self.spec
        heard = presence.speech and speech.heard
        count = spec.queries
        kept = rows if presence.camera else rows[:0]
        sample: dict[str, NDArray[np.generic]] = {
            "p4": features.p4[index][None],
            "p5": features.p5[index][None],
            "rays": cell_rays(_calibration(features.calibration[index], spec)),
            "pcm": speech.sound,
            "box_valid": np.arange(count) < len(kept),
            "truth_row": _filled(features.row_truth[index][kept], count, -1),
            "intent": np.array(speech.intent if heard else 0, np.int64),
            "words": spoken_words(speech.text, spec.words),
            "asked": np.array(speech.target if heard else -1, np.int64),
        }
        told = ("condition_scores",) if spec.told_conditions else ()
        for name in ("boxes", "box_rays", "class_scores", "item_place", "item_points", *told):
            sample[name] = _filled(np.asarray(getattr(features, name)[index][kept], np.float32), count, 0)
        sample["item_points"] = sample["item_points"][..., : len(spec.point_scale)]
        counts: NDArray[np.uint8] = _filled(features.item_point_count[index][kept], count, 0)
        sample["item_points_valid"] = (np.arange(ITEM_POINTS) < counts[:, None]) & presence.lidar
        sample["points"], sample["points_valid"] = _some_points(
            features.points[index], int(features.point_count[index]), rng
        )
        for name in ("label", "condition", "box3d", "has_box3d", "clear"):
            sample[f"truth_{name}"] = np.asarray(getattr(features, name)[index])
        there = (presence.camera, presence.lidar, heard)
        for name, available, age in zip(("camera", "lidar", "speech"), there, ages, strict=True):
            sensors = (1,) if name == "camera" else ()
            sample[f"{name}_available"] = np.full(sensors, available)
            sample[f"{name}_age"] = np.full(sensors, age, np.float32)
        return sample


@dataclass(frozen=True, slots=True, eq=False)
class _Speech:
    """What a sample hears: `target` is the truth index of the object asked for, -1 for none."""

    sound: Float32Array
    heard: bool
    text: str
    intent: int
    target: int


def batches(
    sampler: SceneSampler, order: Sequence[int] | NDArray[np.intp], size: int, seed: Sequence[int]
) -> Iterator[dict[str, Tensor]]:
    """Shaken training batches over the scenes in `order`; a short rest is left out. The same seed, the same batches."""
    for start in range(0, len(order) - size + 1, size):
        rng = np.random.default_rng([*seed, start])
        yield collate([sampler.training(int(i), rng) for i in order[start : start + size]])


def collate(samples: Sequence[Mapping[str, NDArray[np.generic]]]) -> dict[str, Tensor]:
    """Samples stacked on a new first axis."""
    batch = {name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in samples[0]}
    return {name: value.long() if value.dtype == torch.int16 else value for name, value in batch.items()}


def _calibration(flat: NDArray[np.float64], spec: FusionSpec) -> CameraCalibration:
    return CameraCalibration(
        spec.image_width, spec.image_height, flat[:9].reshape(3, 3), np.zeros(0), flat[9:].reshape(4, 4)
    )


def _filled(values: NDArray[Any], length: int, fill: float) -> NDArray[Any]:
    table = np.full((length, *values.shape[1:]), fill, values.dtype)
    table[: len(values)] = values
    return table


def _some_points(
    points: NDArray[np.float16], count: int, rng: np.random.Generator
) -> tuple[Float32Array, NDArray[np.bool_]]:
    kept = np.asarray(points[:count], np.float32)
    if count > _BATCH_POINTS:
        kept = kept[rng.choice(count, _BATCH_POINTS, replace=False, shuffle=False)]
    table = np.zeros((_BATCH_POINTS, 4), np.float32)
    table[: len(kept)] = kept
    return table, np.arange(_BATCH_POINTS) < len(kept)


def _shake(sample: dict[str, NDArray[np.generic]], rng: np.random.Generator) -> None:
    """Calibration jitter, motion of a stale sweep, range noise, dropped points, detector noise."""
    turn = rotation_z(rng.normal(0, 0.006)) @ rotation_y(rng.normal(0, 0.006))
    for name in ("rays", "box_rays"):
        rays = np.asarray(sample[name], np.float64).reshape(-1, 3) @ turn.T
        sample[name] = rays.astype(np.float32).reshape(sample[name].shape)
    points = np.asarray(sample["points"], np.float32)
    points[:, :3] += rng.normal(0, 0.01, (len(points), 3)).astype(np.float32)
    points[:, 0] += np.float32(rng.normal(0, 0.5) * float(sample["lidar_age"]))
    sample["points"] = points
    valid = np.asarray(sample["item_points_valid"], np.bool_)
    sample["item_points_valid"] = valid & (rng.random(valid.shape) >= rng.choice([0.0, 0.1, 0.4]))
    own = np.asarray(sample["item_points"], np.float32)
    noise = rng.normal(0, 0.006, (*own.shape[:-1], 3)).astype(np.float32)
    own[..., :3] += noise
    if own.shape[-1] > 6:
        own[..., 6] += noise[..., 0]
    own[..., 3] *= np.float32(rng.uniform(0.8, 1.2))
    sample["item_points"] = own
    scores = np.asarray(sample["class_scores"], np.float32)
    if rng.random() < 0.3:
        scores = scores * rng.uniform(0.5, 1.0, (len(scores), 1)).astype(np.float32)
    sample["class_scores"] = scores * np.asarray(sample["box_valid"], np.float32)[:, None]
