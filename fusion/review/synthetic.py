"""Evidence that no device made, with answers that can be learnt from it: for tests, benchmarks and warm-up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from fusion.codec import FULL, Profile, Rate, encode_maps, item_gate, quantize_tokens
from fusion.review.features import extract_features
from fusion.review.item_cache import LEAST, begin_cache, cached_item, write_shard
from fusion.review.layout import FeatureLayout, layout_for
from fusion.task import Task
from fusion.types import Box2D, Box3D, DeviceOpinion, Evidence, FusedTokens, Int8Array, ItemId, PixelCrop, SampleId

TOKEN_WIDTH, TOKENS = 96, 9
_EPOCH = "0123456789abcdef"
_ITEMS_PER_SCENE = 4


def synthetic_layout(task: Task, profile: Profile) -> FeatureLayout:
    """The layout of `synthetic_evidence`: fused tokens where the task has conditions."""
    fused = bool(task.conditions)
    return layout_for(task, profile, token_width=TOKEN_WIDTH if fused else 0, max_tokens=TOKENS if fused else 0)


def synthetic_evidence(
    task: Task, profile: Profile, seed: int, *, pixels: bool = False, rate: Rate = FULL
) -> tuple[Evidence, dict[str, str]]:
    """One item, sent at a rate, and its right answers. Each slot's answer is written into a lane of its own.

    The first slot is a level shift of a map channel (and the colour of the crop), the second a direction of the
    fused tokens or another channel, the third the asked-for score, the fourth the box's place.
    """
    rng = np.random.default_rng(seed)
    choice = [int(rng.integers(len(slot.options))) for slot in task.slots]
    answers = {slot.name: slot.options[k] for slot, k in zip(task.slots, choice, strict=True)}
    choice += [0] * (3 - len(choice))
    fused = bool(task.conditions)
    place = choice[3] / (len(task.slots[3].options) - 1) if len(choice) > 3 else rng.random()
    x, y = 60 + place * (profile.image_width - 120), rng.uniform(60, profile.image_height - 60)
    half_width, half_height = rng.uniform(15, 50, 2)
    box = Box2D(x - half_width, y - half_height, x + half_width, y + half_height)
    windows, gates = item_gate(profile, box, None)
    evidence = Evidence(
        item=ItemId(SampleId("synthetic", _EPOCH, seed + 1), 1),
        task=task.name,
        time_ns=seed,
        track=1,
        profile=profile.sha256,
        models={},
        box=box,
        image_width=profile.image_width,
        image_height=profile.image_height,
        class_scores=_spread(task.classes, rng),
        opinion=_opinion(task, choice, rng) if fused else DeviceOpinion(),
        reasons=(),
        value=1.0,
        ages_ns=dict.fromkeys(task.sensors, 0) if fused else {},
        maps=encode_maps(
            profile,
            _maps(profile, choice, rng),
            windows,
            gates,
            step_exponent=min(rate.step_exponent, profile.max_step_exponent),
            layers=rate.layers,
        ),
        tokens=_tokens(choice, rng, rate) if fused else None,
        pixels=_crop(choice[0], len(task.slots[0].options), rng) if pixels else None,
    )
    return evidence, answers


def example_evidence(task: Task, profile: Profile, layout: FeatureLayout, seed: int) -> Evidence:
    """An item of `synthetic_evidence` without pixels, its fused tokens as wide and as many as `layout` allows."""
    evidence, _ = synthetic_evidence(task, profile, seed)
    if not layout.token_width or not layout.max_tokens:
        return replace(evidence, tokens=None)
    values = np.random.default_rng(seed).normal(size=(min(TOKENS, layout.max_tokens), layout.token_width))
    return replace(evidence, tokens=quantize_tokens(values.astype(np.float32)))


def write_synthetic_cache(folder: Path, task: Task, profile: Profile, count: int, *, seed: int = 0) -> None:
    """A cache of `count` synthetic items, four a scene."""
    layout = synthetic_layout(task, profile)
    begin_cache(folder, task, layout, profile)
    items = []
    for index in range(count):
        evidence, truth = synthetic_evidence(task, profile, seed + index, pixels=True)
        features = extract_features(evidence, profile, layout)
        least = extract_features(synthetic_evidence(task, profile, seed + index, rate=LEAST)[0], profile, layout)
        items.append(cached_item(index // _ITEMS_PER_SCENE, evidence, features, least, truth))
    write_shard(folder, 0, items, task, layout)


def _maps(profile: Profile, choice: list[int], rng: np.random.Generator) -> list[Int8Array]:
    maps = []
    for index, level in enumerate(profile.levels):
        codes = rng.integers(-2, 3, (level.channels, *profile.map_size(index)))
        codes[choice[0] % level.channels] += 6
        codes[(10 + choice[1]) % level.channels] -= 6
        maps.append(np.clip(codes, -level.clip, level.clip).astype(np.int8))
    return maps


def _tokens(choice: list[int], rng: np.random.Generator, rate: Rate) -> FusedTokens:
    values = rng.normal(size=(TOKENS, TOKEN_WIDTH)).astype(np.float32)
    values[0, choice[1] * 8 : choice[1] * 8 + 8] += 2.0
    return quantize_tokens(values if rate.scene_tokens else values[:1])


def _opinion(task: Task, choice: list[int], rng: np.random.Generator) -> DeviceOpinion:
    asked = float(np.clip(choice[2] * 0.6 + rng.uniform(0, 0.4), 0, 1))
    return DeviceOpinion(
        _spread((*task.classes, "nothing"), rng), _spread(task.conditions, rng), asked, Box3D(4, 1, 0.5, 1, 1, 1, 0.3)
    )


def _spread(names: tuple[str, ...], rng: np.random.Generator) -> dict[str, float]:
    return dict(zip(names, rng.dirichlet(np.ones(len(names))).tolist(), strict=True))


def _crop(choice: int, options: int, rng: np.random.Generator) -> PixelCrop:
    hue = np.full((96, 96, 3), (round(179 * choice / options), 200, 180), np.uint8)
    pixels = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR).astype(np.int16) + rng.integers(-20, 20, (96, 96, 3))
    _, encoded = cv2.imencode(".jpg", np.clip(pixels, 0, 255).astype(np.uint8))
    return PixelCrop(encoded.tobytes(), "jpeg", Box2D(0, 0, 96, 96))
