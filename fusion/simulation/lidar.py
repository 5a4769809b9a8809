"""The LiDAR: 32 rings of 512 beams, with the faults of a real one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fusion.simulation.ground import Ground
from fusion.simulation.light import Lighting
from fusion.simulation.rig import COLUMNS, LIDAR_DOWN_RAD, LIDAR_HALF_AZIMUTH_RAD, LIDAR_RANGE_M, LIDAR_UP_RAD, RINGS
from fusion.simulation.world import GROUND, SKY, Hits, World
from fusion.types import Float32Array, Float64Array, PointCloud

_RANGE_NOISE_M = 0.012
_DIVERGENCE_RAD = 0.0022
_POSITION_STEP = 256.0
_INTENSITY_STEP = 64.0


def sweep(
    world: World, ground: Ground, lighting: Lighting, yard_from_lidar: Float64Array, rng: np.random.Generator
) -> PointCloud:
    """One sweep from a LiDAR at `yard_from_lidar` (4, 4), ring by ring; beams without a return are left out.

    Positions are multiples of 1/256 m, intensities of 1/64. A beam has a width: where its two halves meet
    different things, it now and then reports a range between them.
    """
    beams = _beams()
    turn, origin = yard_from_lidar[:3, :3].T.astype(np.float32), yard_from_lidar[:3, 3].astype(np.float32)
    directions = beams @ turn
    hits = world.cast(origin, directions)
    spread = beams + rng.normal(0, _DIVERGENCE_RAD, beams.shape).astype(np.float32)
    other = world.cast(origin, spread @ turn).distance
    with np.errstate(invalid="ignore"):
        split = (np.abs(other - hits.distance) > 0.25) & (rng.random(len(beams)) < 0.35)
    share = rng.random(len(beams), np.float32)
    nearer, farther = np.minimum(hits.distance, other), np.maximum(hits.distance, other)
    gap = np.where(np.isfinite(farther), farther - np.where(np.isfinite(nearer), nearer, 0), 9.0)
    mixed = np.where(gap < 4.0, nearer + share * np.minimum(gap, 4.0), nearer)
    distance = np.where(split, mixed, hits.distance)
    intensity, lost = _strength(world, ground, lighting, hits, origin, directions)
    kept = np.isfinite(distance) & (distance < LIDAR_RANGE_M) & (rng.random(len(beams)) > lost)
    distance = distance + rng.normal(0, _RANGE_NOISE_M, len(beams)).astype(np.float32)
    if lighting.rain:
        drops = rng.random(len(beams)) < 0.004
        distance = np.where(drops, rng.uniform(0.8, 8.0, len(beams)), distance)
        intensity, kept = np.where(drops, 0.05, intensity), kept | drops
    intensity = np.clip(intensity * (1 + rng.normal(0, 0.06, len(beams))), 0, 1)
    points = np.empty((len(beams), 4), np.float32)
    points[:, :3] = np.round(beams * np.nan_to_num(distance, posinf=0.0)[:, None] * _POSITION_STEP) / _POSITION_STEP
    points[:, 3] = np.round(intensity * _INTENSITY_STEP) / _INTENSITY_STEP
    return PointCloud(points[kept])


@lru_cache(maxsize=1)
def _beams() -> Float32Array:
    """Unit directions (16384, 3), from the top ring down, each from left to right."""
    elevation, azimuth = np.meshgrid(
        np.linspace(LIDAR_UP_RAD, LIDAR_DOWN_RAD, RINGS),
        np.linspace(LIDAR_HALF_AZIMUTH_RAD, -LIDAR_HALF_AZIMUTH_RAD, COLUMNS),
        indexing="ij",
    )
    level = np.cos(elevation)
    beams = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=2)
    return np.asarray(beams.reshape(-1, 3), np.float32)


def _strength(
    world: World, ground: Ground, lighting: Lighting, hits: Hits, origin: Float32Array, directions: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """Intensity of each beam's echo, 0..1, and the chance (n,) that it is lost."""
    rows = np.flatnonzero(hits.owner != SKY)
    solid = rows[hits.owner[rows] >= 0]
    reflectivity = np.zeros(len(directions), np.float32)
    cosine = np.full(len(directions), 0.0, np.float32)
    cosine[rows] = np.abs(directions[rows, 2])
    cosine[solid] = -np.einsum("ij,ij->i", world.normals(hits, solid, directions), directions[solid])
    parts, owners = world.parts(hits, solid), hits.owner[solid]
    for index in np.unique(owners):
        mine = owners == index
        reflectivity[solid[mine]] = world.things[int(index)].paint.reflectivity[parts[mine]]
    floor = np.flatnonzero(hits.owner == GROUND)
    points = origin + directions[floor] * hits.distance[floor, None]
    reflectivity[floor] = (0.18 + 0.5 * float(ground.colour.mean())) * (
        1 - 0.2 * ground.wetness(points[:, 0], points[:, 1])
    )
    reach = np.where(np.isfinite(hits.distance), hits.distance, LIDAR_RANGE_M)
    intensity = reflectivity * (0.35 + 0.65 * np.sqrt(np.clip(cosine, 0, 1))) * np.exp(-reach / 45.0)
    lost = (
        0.008
        + 0.5 * np.clip(0.1 - intensity, 0, 0.1) / 0.1 * np.clip(reach / 20, 0, 1)
        + (0.03 if lighting.rain else 0.0)
    )
    lost[floor] += np.clip(reach[floor] / 30 - 0.35, 0, 0.6)
    return np.asarray(intensity, np.float32), np.asarray(lost, np.float32)
