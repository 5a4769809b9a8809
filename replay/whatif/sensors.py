"""Readings and calibration as faulty sensors would have given them: a function of seed, recording and position."""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np

from fusion.errors import InputError
from fusion.geometry import Rig, rigid, rotation_y, rotation_z
from fusion.types import AudioChunk, Float64Array, Image, Payload, PointCloud, Reading
from replay.whatif.world import SensorFault, WorldSettings

SPEECH_DBFS = -26.0
"""The nominal level of speech (ITU-T P.56), which a microphone's noise is measured from."""
_JUMP_NS = 5_000_000_000
_Placed = tuple[int, Reading]


def altered(readings: Iterable[_Placed], world: WorldSettings, content: str) -> Iterator[_Placed]:
    """The readings that the device would have been given, in the order in which they would have come.

    `content` stands for the recording. Positions stay those of the recording.
    """
    faults = world.sensors
    if not faults:
        yield from readings
        return
    spoilt = _spoilt(readings, faults, world.seed, zlib.crc32(content.encode()))
    yield from _late(spoilt, {name: round(fault.late_ms * 1e6) for name, fault in faults.items() if fault.late_ms})


def _spoilt(
    readings: Iterable[_Placed], faults: Mapping[str, SensorFault], seed: int, content: int
) -> Iterator[tuple[int, int, Reading]]:
    """(position, when it was captured, reading) of those that are not lost."""
    for cursor, reading in readings:
        fault, stamp = faults.get(reading.sensor), reading.capture_time_ns
        if fault is None:
            yield cursor, stamp, reading
            continue
        drawn = np.random.default_rng([seed, content, zlib.crc32(reading.sensor.encode()), cursor])
        if fault.removed or drawn.random() < fault.drop:
            continue
        shifted = stamp + round(fault.clock_ms * 1e6)
        yield cursor, stamp, replace(reading, capture_time_ns=shifted, payload=spoil(reading.payload, fault, drawn))


def _late(readings: Iterable[tuple[int, int, Reading]], late_ns: Mapping[str, int]) -> Iterator[_Placed]:
    """Hold readings of late sensors back until the stream is so much further; a clock that is set ends all waits."""
    waiting: list[tuple[int, int, Reading]] = []
    now: int | None = None
    for cursor, stamp, reading in readings:
        jumped = now is not None and stamp < now - _JUMP_NS
        now = stamp if now is None or jumped else max(now, stamp)
        while waiting and (jumped or waiting[0][0] <= now):
            _, held, one = heapq.heappop(waiting)
            yield held, one
        if reading.sensor in late_ns:
            heapq.heappush(waiting, (now + late_ns[reading.sensor], cursor, reading))
        else:
            yield cursor, reading
    while waiting:
        _, held, one = heapq.heappop(waiting)
        yield held, one


def spoil(payload: Payload, fault: SensorFault, drawn: np.random.Generator) -> Payload:
    """What the sensor would have delivered in its place."""
    if isinstance(payload, Image):
        return _spoil_image(payload, fault, drawn)
    if isinstance(payload, PointCloud):
        return _spoil_points(payload, fault, drawn)
    return payload if fault.snr_db is None else _spoil_sound(payload, fault.snr_db, drawn)


def _spoil_image(image: Image, fault: SensorFault, drawn: np.random.Generator) -> Image:
    pixels = image.pixels
    if fault.swapped:
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    if fault.blur_px:
        pixels = cv2.GaussianBlur(pixels, (0, 0), fault.blur_px).astype(np.uint8)
    if fault.noise or fault.exposure != 1:
        levels = pixels.astype(np.float32) * fault.exposure
        if fault.noise:
            levels += fault.noise * drawn.standard_normal(pixels.shape, dtype=np.float32)
        pixels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return image if pixels is image.pixels else Image(pixels)


def _spoil_points(cloud: PointCloud, fault: SensorFault, drawn: np.random.Generator) -> PointCloud:
    if fault.range_noise_m:
        ranges = np.linalg.norm(cloud.points[:, :3], axis=1)
        errors = fault.range_noise_m * drawn.standard_normal(len(ranges), dtype=np.float32)
        points = cloud.points.copy()
        points[:, :3] *= (1 + errors / np.maximum(ranges, 1e-3))[:, None]
        cloud = replace(cloud, points=points)
    if fault.drop_points:
        kept = drawn.random(len(cloud.points)) >= fault.drop_points
        offsets, labels = cloud.offsets_s, cloud.labels
        cloud = PointCloud(
            cloud.points[kept],
            None if offsets is None else offsets[kept],
            None if labels is None else labels[kept],
        )
    return cloud


def _spoil_sound(chunk: AudioChunk, snr_db: float, drawn: np.random.Generator) -> AudioChunk:
    rms = 32768 * 10 ** ((SPEECH_DBFS - snr_db) / 20)
    pcm = chunk.pcm + rms * drawn.standard_normal(len(chunk.pcm))
    return replace(chunk, pcm=np.clip(np.rint(pcm), -32768, 32767).astype(np.int16))


def altered_rig(rig: Rig | None, world: WorldSettings) -> Rig | None:
    """The calibration that the device would have been given. Raises `InputError` where there is none to alter."""
    cameras, lidars = (dict(rig.cameras), dict(rig.ego_from_lidar)) if rig else ({}, {})
    for name, fault in world.sensors.items():
        if not fault.miscalibrated:
            continue
        if name in cameras:
            cameras[name] = replace(cameras[name], ego_from_camera=_moved(cameras[name].ego_from_camera, fault))
        elif name in lidars:
            lidars[name] = _moved(lidars[name], fault)
        else:
            raise InputError(f"world.sensors.{name}: the recording has no calibration of it that could be off")
    return Rig(cameras, lidars) if rig else None


def _moved(ego_from_sensor: Float64Array, fault: SensorFault) -> Float64Array:
    roll, pitch, yaw = (math.radians(angle) for angle in fault.turned_deg)
    c, s = math.cos(roll), math.sin(roll)
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float64)
    turn = rotation_z(yaw) @ rotation_y(pitch) @ about_x
    return rigid(turn @ ego_from_sensor[:3, :3], ego_from_sensor[:3, 3] + np.array(fault.moved_m))
