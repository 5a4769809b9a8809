"""What people see of an item beside its picture: the LiDAR points around it, and what was said."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.codec.points import encode_points
from fusion.codec.sound import SAMPLE_RATES_HZ, encode_sound
from fusion.errors import InputError
from fusion.geometry import CameraCalibration, Rig, apply
from fusion.preparation.speech import speech_span
from fusion.types import (
    AudioChunk,
    BoolArray,
    Box2D,
    Box3D,
    Float64Array,
    Image,
    PointCloud,
    PointCrop,
    Sample,
    SensorSlot,
    SoundClip,
)

AROUND_M = 1.0
"""How far beyond an item's 3-D box points are kept, on every side."""

RANGE_M = 60.0
"""How far away points in an item's view are kept where it has no 3-D box."""

PAUSE_S = 0.25
"""How much of the sound before and after what was said is kept."""

_FINEST_VOXEL_M = 0.02
_FARTHEST_VOXEL = 1 << 20
_MARGIN = 0.25


def crop_points(
    sample: Sample, box3d: Box3D | None, camera: str, frame_box: Box2D, most: int = 2048
) -> PointCrop | None:
    """At most `most` points of the sample's sweeps around `box3d`, or in the view of `frame_box` (pixels of `camera`'s
    frame) where there is no such box or nothing in it; None without a rig, a sweep or a point there. A picture of
    another size than `camera` is calibrated for has no view.
    """
    if sample.rig is None:
        return None
    points = ego_points(sample, sample.rig)
    focus, near = np.zeros(3), np.zeros(len(points), np.bool_)
    if box3d is not None:
        focus, near = np.array([box3d.x, box3d.y, box3d.z]), around(points, box3d)
    if not near.any() and (calibration := sample.rig.cameras.get(camera)) is not None:
        picture = _payload(sample.slots[camera]) if camera in sample.slots else None
        if not isinstance(picture, Image) or calibration.fits(picture.pixels):
            focus, near = calibration.ego_from_camera[:3, 3], in_view(points, calibration, frame_box)
    if not near.any():
        return None
    try:
        return encode_points(thin(points[near], focus, most))
    except InputError:  # too far apart for its steps: a box that is no object's
        return None


def clip_sound(sample: Sample, seconds: float = 3.0) -> SoundClip | None:
    """What was said in the last `seconds` up to the sample, with a little of what was around it; None for nothing."""
    for slot in sample.slots.values():
        chunk = _payload(slot)
        if not isinstance(chunk, AudioChunk) or slot.reading is None:
            continue
        rate = chunk.sample_rate_hz
        cut = max(0, len(chunk.pcm) - round(seconds * rate))
        spoken = speech_span(chunk.pcm[cut:], rate) if SAMPLE_RATES_HZ[0] <= rate <= SAMPLE_RATES_HZ[1] else None
        if spoken is not None:
            pause = round(PAUSE_S * rate)
            first, last = max(cut, cut + spoken[0] - pause), cut + spoken[1] + pause
            return encode_sound(chunk.pcm[first:last], rate, slot.reading.capture_time_ns + round(first * 1e9 / rate))
    return None


def ego_points(sample: Sample, rig: Rig) -> Float64Array:
    """The finite points (N, 3) of all sweeps in the ego frame."""
    found = [np.zeros((0, 3))]
    for name, slot in sample.slots.items():
        cloud, transform = _payload(slot), rig.ego_from_lidar.get(name)
        if isinstance(cloud, PointCloud) and transform is not None:
            found.append(apply(transform, cloud.points[:, :3].astype(np.float64)))
    points = np.concatenate(found)
    return points[np.isfinite(points).all(1)]


def around(points: Float64Array, box: Box3D, margin_m: float = AROUND_M) -> BoolArray:
    """Which of `points` (N, 3) lie in `box` or at most `margin_m` beside, above or below it."""
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    x, y, z = (points - [box.x, box.y, box.z]).T
    along, across = c * x + s * y, c * y - s * x
    half = np.array([box.length, box.width, box.height]) / 2 + margin_m
    return np.asarray((np.abs(along) <= half[0]) & (np.abs(across) <= half[1]) & (np.abs(z) <= half[2]))


def in_view(points: Float64Array, camera: CameraCalibration, box: Box2D, range_m: float = RANGE_M) -> BoolArray:
    """Which of `points` (N, 3) are seen in `box` (pixels) or a quarter of its size beside it, within `range_m`."""
    pixels, seen = camera.project(points)
    x, y = (box.x2 - box.x1) * _MARGIN, (box.y2 - box.y1) * _MARGIN
    low, high = [box.x1 - x, box.y1 - y], [box.x2 + x, box.y2 + y]
    distance = np.linalg.norm(points - camera.ego_from_camera[:3, 3], axis=1)
    return np.asarray(seen & (pixels >= low).all(1) & (pixels <= high).all(1) & (distance <= range_m))


def thin(points: Float64Array, focus: Float64Array, most: int) -> Float64Array:
    """At most `most` of `points` (N, 3): of each voxel the one nearest to `focus`, in voxels as fine as that allows."""
    order = np.argsort(np.linalg.norm(points - focus, axis=1), kind="stable")
    points, voxel_m = points[order], _FINEST_VOXEL_M
    while len(points) > most:
        _, first = np.unique(_voxels(points, voxel_m), return_index=True)
        points = points[np.sort(first)]
        voxel_m *= max(1.2, np.sqrt(len(points) / most))  # on a surface, points go with the square of it
    return points


def _voxels(points: Float64Array, size_m: float) -> NDArray[np.int64]:
    """The number (N,) of the voxel of each of `points` (N, 3); beyond 2^20 sizes from the origin all share one."""
    x, y, z = np.clip(np.floor(points / size_m), -_FARTHEST_VOXEL, _FARTHEST_VOXEL - 1).astype(np.int64).T
    side = 2 * _FARTHEST_VOXEL
    return np.asarray((x * side + y) * side + z)


def _payload(slot: SensorSlot) -> object:
    return slot.reading.payload if slot.reading else None
