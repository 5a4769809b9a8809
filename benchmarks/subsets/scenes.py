"""The test scenes as late and badly calibrated sensors show them, and what frozen ears hear."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from fusion.task import Task
from fusion.training.scene_features import FeatureCache, open_cache
from fusion.training.sounds import heard_sounds, pooled_utterances, recorded_sounds, said_in
from subsets.arms import CART_M_S, CASES
from subsets.files import save_heard


def prepare(arguments: argparse.Namespace) -> None:
    """Everything arms and measuring need besides the cached features."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.utterances import load_bank

    task, out = Task.load("yard"), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    model = load_fusion(arguments.bundle)
    bank = load_bank(arguments.runs / "yard" / "utterances.npz", task)
    test = open_cache(arguments.test)
    if not (out / "pool.safetensors").is_file():
        save_heard(out / "pool", pooled_utterances(model.speech, bank, count=arguments.pool))
    said, sounds = said_in(test, model.spec.intents), recorded_sounds(test)
    if not (out / "recorded.safetensors").is_file():
        save_heard(out / "recorded", heard_sounds(model.speech, sounds, said))
    if not (out / "noisy.safetensors").is_file():
        rng = np.random.default_rng(31)
        noise = [bank.mix(None, rng).sound for _ in sounds]
        loud = [_at_zero_db(s, n) for s, n in zip(sounds, noise, strict=True)]
        save_heard(out / "noisy", heard_sounds(model.speech, loud, said))
    for name in dict.fromkeys(case.scenes for case in CASES.values()):
        if name != "as-is":
            _disturbed_cache(name, arguments)


def _at_zero_db(sound: Any, noise: Any) -> Any:
    """`noise` as strong as `sound` put over it."""
    level = np.sqrt(np.mean(sound**2) / max(float(np.mean(noise**2)), 1e-12))
    return np.clip(sound + noise * np.float32(level), -1, 1).astype(np.float32)


def _disturbed_cache(name: str, arguments: argparse.Namespace) -> FeatureCache:
    """The test scenes with a late or turned sensor, perceived anew."""
    from fusion.codec import Profile
    from fusion.engines import load_engine
    from fusion.perception.detector import DetectorStage
    from fusion.simulation.scene_set import read_scene
    from fusion.training.scene_features import META_NAME, SceneReader, write_cache

    folder = arguments.out / f"features-{name}"
    if (folder / META_NAME).is_file():
        return open_cache(folder)
    task, test = Task.load("yard"), open_cache(arguments.test)
    profile = Profile.load(arguments.bundle)
    engine = load_engine(arguments.bundle / "detector.onnx", backend="auto", threads=arguments.threads)
    reader = SceneReader(task, DetectorStage(engine, task, profile), profile)
    numbers = {stem: index for index, stem in enumerate(test.stems)}

    def read(stem: str) -> Any:
        return disturbed(read_scene(arguments.scenes, stem), name, np.random.default_rng([37, numbers[stem]]))

    return write_cache(folder, list(test.stems), read, reader, {"disturbed": name, "profile": profile.sha256})


def disturbed(sample: Any, name: str, rng: np.random.Generator) -> Any:
    """`sample` as seen with a sensor that is late, the cart moving on at `CART_M_S`, or whose calibration is off by a
    random turn.
    """
    kind, _, amount = name.rpartition("-")
    rig = sample.rig
    if kind == "turned":
        cameras = {
            key: replace(c, ego_from_camera=_turned(c.ego_from_camera, float(amount), rng))
            for key, c in rig.cameras.items()
        }
        return replace(sample, rig=replace(rig, cameras=cameras))
    moved = np.array([CART_M_S * float(amount) / 1000, 0.0, 0.0])
    if kind == "lidar-late":
        return replace(sample, rig=replace(rig, ego_from_lidar=_shifted(rig.ego_from_lidar, moved)))
    objects = tuple(
        t if t.box3d is None else replace(t, box3d=replace(t.box3d, x=t.box3d.x - moved[0]))
        for t in sample.truth.objects
    )
    rig = replace(rig, ego_from_lidar=_shifted(rig.ego_from_lidar, -moved))
    return replace(sample, rig=rig, truth=replace(sample.truth, objects=objects))


def _shifted(poses: Mapping[str, Any], by: Any) -> dict[str, Any]:
    result = {}
    for key, pose in poses.items():
        result[key] = pose.copy()
        result[key][:3, 3] += by
    return result


def _turned(pose: Any, degrees: float, rng: np.random.Generator) -> Any:
    import cv2

    axis = rng.normal(size=3)
    turn, _ = cv2.Rodrigues(np.radians(degrees) * axis / np.linalg.norm(axis))
    result = pose.copy()
    result[:3, :3] = turn @ pose[:3, :3]
    return result
