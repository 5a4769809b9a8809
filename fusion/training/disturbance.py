"""Scenes as late or badly calibrated sensors show them: `fusion evaluate fusion --disturbed`, and benchmarks.

A late reading shows the world as it was while the cart moved on, and nobody makes up for it; a turned camera looks
elsewhere than its calibration says. The scene is perceived anew, so everything downstream sees what a device would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.perception.detector import DetectorStage
from fusion.perception.detector_variant import detector_precision
from fusion.simulation.sample import SimulatedSample
from fusion.simulation.scene_set import read_scene
from fusion.task import Task
from fusion.training.scene_features import (
    FORMAT,
    FeatureCache,
    SceneReader,
    contents_sha256,
    finished_cache,
    write_cache,
)
from fusion.types import Float64Array

CART_M_S = 1.0
"""The patrol's speed."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """`late_s` seconds that the `late` sensor's readings are old, or `turned_deg` degrees about a random axis that the
    camera's calibration is off.
    """

    late: str = ""
    late_s: float = 0.0
    turned_deg: float = 0.0

    @property
    def name(self) -> str:
        """As tables and folders call it: `lidar-late-200`, `turned-0.5`."""
        return f"{self.late}-late-{round(1000 * self.late_s)}" if self.late else f"turned-{self.turned_deg}"

    @property
    def ages(self) -> tuple[float, float, float]:
        """Seconds that readings of camera, LiDAR and speech are old."""
        return (self.late_s * (self.late == "camera"), self.late_s * (self.late == "lidar"), 0.0)


DISTURBANCES = (
    *(Disturbance(sensor, ms / 1000) for ms in (100, 200, 500) for sensor in ("camera", "lidar")),
    *(Disturbance(turned_deg=degrees) for degrees in (0.5, 1.0, 2.0)),
)


def disturbed(sample: SimulatedSample, how: Disturbance, rng: np.random.Generator) -> SimulatedSample:
    """`sample` seen so; truth stays where things are when the sensor that is not late sees them."""
    rig = sample.rig
    if not how.late:
        turned = {
            name: replace(camera, ego_from_camera=_turned(camera.ego_from_camera, how.turned_deg, rng))
            for name, camera in rig.cameras.items()
        }
        return replace(sample, rig=replace(rig, cameras=turned))
    driven = CART_M_S * how.late_s
    if how.late == "lidar":
        return replace(sample, rig=replace(rig, ego_from_lidar=_further(rig.ego_from_lidar, driven)))
    # The picture is the old one: everything else is where the cart has come nearer to it.
    objects = tuple(
        thing if thing.box3d is None else replace(thing, box3d=replace(thing.box3d, x=thing.box3d.x - driven))
        for thing in sample.truth.objects
    )
    rig = replace(rig, ego_from_lidar=_further(rig.ego_from_lidar, -driven))
    return replace(sample, rig=rig, truth=replace(sample.truth, objects=objects))


def disturbed_cache(
    how: Disturbance, scenes: Path, calm: FeatureCache, out: Path, task: Task, bundle: Path, *, threads: int
) -> FeatureCache:
    """The scenes of `calm`, read from the scene set `scenes` and disturbed, as a feature cache in `out`; one that is
    there already, of the same format, trunk and scenes, is opened.
    """
    profile, stems = Profile.load(bundle), list(calm.stems)
    meta = {
        "format": FORMAT,
        "disturbed": how.name,
        "profile": profile.sha256,
        "stems": stems,
        "scenes_sha256": calm.meta.get("scenes_sha256") or contents_sha256(scenes, stems),
    }
    if (kept := finished_cache(out, meta)) is not None:
        return kept
    engine = load_engine(bundle / "detector.onnx", threads=threads, precision=detector_precision(bundle))
    reader = SceneReader(task, DetectorStage(engine, task, profile), profile)
    numbers = {stem: index for index, stem in enumerate(calm.stems)}

    def read(stem: str) -> SimulatedSample:
        return disturbed(read_scene(scenes, stem), how, np.random.default_rng([37, numbers[stem]]))

    return write_cache(out, stems, read, reader, meta)


def _further(poses: Mapping[str, Float64Array], metres: float) -> dict[str, Float64Array]:
    moved = {name: pose.copy() for name, pose in poses.items()}
    for pose in moved.values():
        pose[0, 3] += metres
    return moved


def _turned(pose: Float64Array, degrees: float, rng: np.random.Generator) -> Float64Array:
    axis = rng.normal(size=3)
    turn, _ = cv2.Rodrigues(np.radians(degrees) * axis / np.linalg.norm(axis))
    result = pose.copy()
    result[:3, :3] = turn @ pose[:3, :3]
    return result
