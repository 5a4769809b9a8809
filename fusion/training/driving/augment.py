"""Frames of driving recordings as they might also have been: turned, darker, late, with sensors and beams missing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fusion.errors import InputError
from fusion.geometry import rigid, rotation_z
from fusion.preparation.ego_motion import axis_rotation
from fusion.preparation.surround import move_rays
from fusion.training.driving.frames import DrivingFrames, Frame
from fusion.types import BoolArray, Float64Array, UInt8Array

_BEAM_RAD = np.radians(0.5)
"""Returns this close in elevation are taken for those of one beam."""


@dataclass(frozen=True, slots=True)
class AugmentRecipe:
    """How much is changed; shares are probabilities in 0..1.

    The scene is mirrored left to right (`flip`), turned by up to `turn_rad` either way and scaled by 1 ± `scale`.
    `lidar_only` and `camera_only` frames lose the other sensors, of the rest each camera goes by `camera_drop`. A
    sensor is `late` by 0 to `latest_s` seconds. Cameras are said to be off by normal errors of `jitter_rad` about each
    axis and `jitter_m` along each. `beam_drop` of the LiDAR's beams and `point_drop` of its points go. Pictures get a
    gain of 1 ± `gain`, a contrast of 1 ± `contrast`, and colours of 1 ± `tint` a channel.
    """

    flip: float = 0.0
    turn_rad: float = 0.0
    scale: float = 0.0
    lidar_only: float = 0.0
    camera_only: float = 0.0
    camera_drop: float = 0.0
    late: float = 0.0
    latest_s: float = 0.5
    jitter_rad: float = 0.0
    jitter_m: float = 0.0
    beam_drop: float = 0.0
    point_drop: float = 0.0
    gain: float = 0.0
    contrast: float = 0.0
    tint: float = 0.0


def training_recipe() -> AugmentRecipe:
    """What frames are trained with: half of them with all kinds of sensor, a quarter each with one kind alone."""
    return AugmentRecipe(
        flip=0.5,
        turn_rad=np.pi / 8,
        scale=0.1,
        lidar_only=0.25,
        camera_only=0.25,
        camera_drop=0.1,
        late=0.3,
        jitter_rad=np.radians(0.5),
        jitter_m=0.03,
        beam_drop=0.1,
        point_drop=0.05,
        gain=0.3,
        contrast=0.2,
        tint=0.05,
    )


def augmented(frames: DrivingFrames, index: int, rng: np.random.Generator, recipe: AugmentRecipe) -> Frame:
    """Frame `index`, changed as `rng` draws; the same state of `rng` gives the same frame."""
    names = [*frames.cameras, *([frames.lidar] if frames.lidar else [])]
    delays = {name: rng.uniform(0, recipe.latest_s) for name in names if rng.random() < recipe.late}
    frame = frames.frame(index, delays)
    frame = drop_points(frame, rng, recipe, frames.lidar_place)
    frame = drop_sensors(frame, rng, recipe)
    frame = jitter_light(frame, rng, recipe)
    frame = jitter_calibration(frame, rng, recipe)
    flip = rng.random() < recipe.flip
    turn, scale = rng.uniform(-recipe.turn_rad, recipe.turn_rad), 1 + rng.uniform(-recipe.scale, recipe.scale)
    return transform_scene(frame, turn_rad=turn, scale=scale, flip=flip)


def transform_scene(frame: Frame, *, turn_rad: float = 0.0, scale: float = 1.0, flip: bool = False) -> Frame:
    """The frame as if the world were mirrored left to right (`flip`), then turned by `turn_rad` about z, then scaled.

    Points, boxes, velocities, rays and `image_from_ego` change together, so that everything is still seen at the same
    pixel and as far before its camera; pictures do not change. Raises `InputError` for a scale that is not positive.
    """
    if not scale > 0:
        raise InputError(f"a scene scaled by {scale}: give a positive number")
    mirror = np.diag([1.0, -1.0 if flip else 1.0, 1.0])
    linear = scale * rotation_z(turn_rad) @ mirror
    moved = rigid(linear, np.zeros(3))
    back = np.linalg.inv(moved)
    changed = dict(frame)
    changed["points"] = frame["points"].copy()
    changed["points"][:, :3] = frame["points"][:, :3] @ linear.T
    changed["rays"] = move_rays(moved, frame["rays"])
    changed["image_from_ego"] = (frame["image_from_ego"] @ back).astype(np.float32)
    there = frame["truth_label"] >= 0
    boxes = frame["truth_box3d"].astype(np.float64)
    boxes[there, :3] = boxes[there, :3] @ linear.T
    boxes[there, 3:6] += np.log(scale)
    heading = boxes[:, [7, 6]] @ (linear[:2, :2] / scale).T  # cosine, sine
    boxes[:, 6], boxes[:, 7] = heading[:, 1], heading[:, 0]
    changed["truth_box3d"] = boxes.astype(np.float32)
    changed["truth_velocity"] = (frame["truth_velocity"] @ linear[:2, :2].T).astype(np.float32)
    return changed


def drop_sensors(frame: Frame, rng: np.random.Generator, recipe: AugmentRecipe) -> Frame:
    """Take away a whole kind of sensor, or single cameras; a sensor is always left where there was one."""
    cameras, lidar = frame["camera_available"], bool(frame["lidar_available"])
    kind, dropped = rng.random(), rng.random(len(cameras)) < recipe.camera_drop
    if kind < recipe.lidar_only and lidar:
        return _without_cameras(frame, cameras)
    if recipe.lidar_only <= kind < recipe.lidar_only + recipe.camera_only and cameras.any():
        frame, lidar = _without_lidar(frame), False
    if lidar or (cameras & ~dropped).any():
        return _without_cameras(frame, cameras & dropped)
    return frame


def jitter_calibration(frame: Frame, rng: np.random.Generator, recipe: AugmentRecipe) -> Frame:
    """Tell each camera's place a little wrong, about its own centre: rays and `image_from_ego`, nothing else."""
    rays, projections = frame["rays"].copy(), frame["image_from_ego"].copy()
    turns = rng.normal(0, 1, (len(rays), 3)) * recipe.jitter_rad
    shifts = rng.normal(0, 1, (len(rays), 3)) * recipe.jitter_m
    for row in np.flatnonzero(frame["camera_available"]):
        told = projections[row].astype(np.float64)
        centre = -np.linalg.solve(told[:, :3], told[:, 3])
        turn = axis_rotation(turns[row])
        error = rigid(turn, centre - turn @ centre + shifts[row])
        rays[row] = move_rays(error, rays[row])
        projections[row] = told @ np.linalg.inv(error)
    return {**frame, "rays": rays, "image_from_ego": projections}


def drop_points(
    frame: Frame, rng: np.random.Generator, recipe: AugmentRecipe, place: Float64Array | None = None
) -> Frame:
    """Take away whole beams, as seen from the LiDAR's `place` (3,) in the ego frame, and single points."""
    points = frame["points"]
    seen = points[:, :3] - (np.zeros(3) if place is None else place)
    elevation = np.arctan2(seen[:, 2], np.hypot(seen[:, 0], seen[:, 1]))
    beams = np.floor((elevation + np.pi / 2) / _BEAM_RAD).astype(np.int64)
    lost = rng.random(int(np.pi / _BEAM_RAD) + 2) < recipe.beam_drop
    kept = frame["points_valid"] & ~lost[beams] & (rng.random(len(points)) >= recipe.point_drop)
    return {**frame, "points": np.where(kept[:, None], points, np.float32(0)), "points_valid": kept}


def jitter_light(frame: Frame, rng: np.random.Generator, recipe: AugmentRecipe) -> Frame:
    """Change brightness, contrast and colour of each picture that is there."""
    images: UInt8Array = frame["images"].copy()
    count = len(images)
    gain = (1 + rng.uniform(-recipe.gain, recipe.gain, (count, 1))) * (
        1 + rng.uniform(-recipe.tint, recipe.tint, (count, 3))
    )
    contrast = 1 + rng.uniform(-recipe.contrast, recipe.contrast, count)
    levels = np.arange(256.0)
    for row in np.flatnonzero(frame["camera_available"]):
        middle = float(images[row].mean())
        for channel in range(3):
            table = ((levels - middle) * contrast[row] + middle) * gain[row, channel]
            images[row, channel] = cv2.LUT(images[row, channel], table.clip(0, 255).round().astype(np.uint8))
    return {**frame, "images": images}


def _without_cameras(frame: Frame, rows: BoolArray) -> Frame:
    changed = dict(frame)
    for key in ("images", "rays", "image_from_ego", "camera_available", "camera_age"):
        changed[key] = frame[key].copy()
        changed[key][rows] = 0
    return changed


def _without_lidar(frame: Frame) -> Frame:
    gone = {key: np.zeros_like(frame[key]) for key in ("points", "points_valid", "lidar_available", "lidar_age")}
    return {**frame, **gone}
