"""Turns of a Velodyne LiDAR made into sweeps."""

from __future__ import annotations

import numpy as np

from fusion.recording.velodyne.models import VelodyneModel
from fusion.recording.velodyne.packets import BLOCKS, DUAL, TURN, since_us, usual_step
from fusion.recording.velodyne.turns import Turn
from fusion.types import Float64Array, PointCloud


def sweep(turn: Turn, model: VelodyneModel) -> PointCloud:
    """Points in the sensor's frame (x forward along the azimuth 0, y left, z up), intensity is reflectivity / 255.

    Offsets are those of each laser's shot from the first of the turn. Of dual returns the last one is taken.
    """
    packets = turn.packets
    dual = packets["mode"] == DUAL
    place = np.arange(BLOCKS)
    start_us = np.where(dual[:, None], place // 2, place) * model.block_us  # (p, 12)
    time_us = packets["time_us"].astype(np.int64)
    start_us = start_us + since_us(time_us, time_us[0])[:, None]
    chosen = ~dual[:, None] | (place % 2 == 0)
    chosen[0, : turn.first] = False
    chosen[-1, turn.end :] = False
    blocks, start_us = packets["blocks"][chosen], start_us[chosen]  # (b,)
    if not len(blocks):
        return PointCloud(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    offsets_us = (start_us - start_us[0])[:, None] + model.delays_us  # (b, 32)
    azimuth = _azimuths(blocks["azimuth"].astype(np.float64), model)
    distance = blocks["returns"]["distance"] * 0.002
    hit = distance > 0
    points = np.empty((np.count_nonzero(hit), 4), np.float32)
    level = distance * np.cos(model.elevation)
    points[:, 0] = (level * np.cos(azimuth))[hit]
    points[:, 1] = (-level * np.sin(azimuth))[hit]
    points[:, 2] = (distance * np.sin(model.elevation) + model.height)[hit]
    points[:, 3] = blocks["returns"]["reflectivity"][hit] / 255
    return PointCloud(points, (offsets_us[hit] * 1e-6).astype(np.float32))


def _azimuths(blocks: Float64Array, model: VelodyneModel) -> Float64Array:
    """(b, 32) radians, clockwise: a block's azimuth (b,) in hundredths of a degree is that of its first return."""
    steps = np.diff(blocks, append=blocks[-1]) % TURN
    step = usual_step(steps)
    steps = np.where((steps > 0) & (steps < 2 * step), steps, step)  # a wider one is a lost packet
    return np.asarray(np.radians((blocks[:, None] + steps[:, None] * model.delays_us / model.block_us) / 100))
