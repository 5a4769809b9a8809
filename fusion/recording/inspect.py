"""What a recording holds, told to a person: sensors, rates, gaps, sizes, calibration, and a picture to check it by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fusion.errors import RecordingError
from fusion.geometry import Rig, apply
from fusion.recording.base import RecordingInfo, RecordingReader, SensorInfo, open_recording
from fusion.recording.part_file import part_file
from fusion.task import Task
from fusion.types import AudioChunk, Image, PointCloud, Reading, UInt8Array

_NEAR_M, _FAR_M = 2.0, 60.0
_GAPS_SHOWN = 3
_PAIRED_NS = 100_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """`info` with stored bytes and a description of the first reading, by sensor; `str()` is the report."""

    info: RecordingInfo
    sizes: Mapping[str, int]
    firsts: Mapping[str, str]

    def __str__(self) -> str:
        return "\n".join(_report(self))


def inspect_recording(
    path: Path, task: Task | None = None, split: str | None = None, *, salvage: bool = False
) -> Inspection:
    """Read all of `path` once, checking every checksum, and describe it. Raises `RecordingError`."""
    reader = open_recording(path, task, split, salvage=salvage)
    info = reader.info()
    sizes = reader.sizes()
    firsts = {name: _describe(reading) for name, reading in _firsts(reader, info).items()}
    return Inspection(info, sizes, firsts)


def projection_picture(path: Path, out_png: Path, *, at_s: float = 0.0) -> None:
    """Write a PNG of the first picture from `at_s` seconds on, with the LiDAR points of its moment drawn into it.

    Points are coloured by depth, red at 2 m to blue at 60 m and beyond: a check of the calibration by eye. Raises
    `RecordingError` when the recording has no calibrated camera and LiDAR.
    """
    reader = open_recording(path)
    rig = reader.info().rig
    if rig is None or not rig.cameras or not rig.ego_from_lidar:
        raise RecordingError(f"{path}: no calibrated camera and LiDAR in it, so nothing can be projected")
    camera, sweep = _pair(reader, rig, at_s)
    assert isinstance(camera.payload, Image)
    assert isinstance(sweep.payload, PointCloud)
    drawn = _draw(camera.payload.pixels, sweep.payload, rig, camera.sensor, sweep.sensor)
    done, png = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if not done:
        raise RecordingError(f"{out_png}: the picture cannot be encoded")
    with part_file(out_png) as file:
        file.write(png.tobytes())


def _pair(reader: RecordingReader, rig: Rig, at_s: float) -> tuple[Reading, Reading]:
    """The first camera reading from `at_s` on and the sweep nearest to it."""
    camera = sweep = start_ns = None
    for _, reading in reader.readings():
        start_ns = reading.capture_time_ns if start_ns is None else start_ns
        if reading.sensor in rig.ego_from_lidar and _nearer(reading, sweep, camera):
            sweep = reading
        if camera is None and reading.sensor in rig.cameras and reading.capture_time_ns >= start_ns + round(at_s * 1e9):
            camera = reading
        if camera and sweep and reading.capture_time_ns > camera.capture_time_ns + _PAIRED_NS:
            break
    if camera is None or sweep is None:
        raise RecordingError(f"{reader.path}: no picture with a sweep beside it from second {at_s:g} on")
    return camera, sweep


def _nearer(reading: Reading, sweep: Reading | None, camera: Reading | None) -> bool:
    if sweep is None or camera is None:
        return True
    moment = camera.capture_time_ns
    return abs(reading.capture_time_ns - moment) < abs(sweep.capture_time_ns - moment)


def _draw(pixels: UInt8Array, cloud: PointCloud, rig: Rig, camera: str, lidar: str) -> UInt8Array:
    calibration, ego_from_lidar = rig.cameras[camera], rig.ego_from_lidar[lidar]
    ego = apply(ego_from_lidar, np.asarray(cloud.points[:, :3], np.float64))
    places, inside = calibration.project(ego)
    depth = np.linalg.norm(ego - calibration.ego_from_camera[:3, 3], axis=1)
    places, depth = places[inside], depth[inside]
    if not len(places):
        return np.ascontiguousarray(pixels)
    share = 1 - np.log(np.clip(depth, _NEAR_M, _FAR_M) / _NEAR_M) / np.log(_FAR_M / _NEAR_M)
    colours = cv2.applyColorMap(np.round(share * 255).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    drawn = np.ascontiguousarray(pixels)
    drawn = (drawn * 0.6).astype(np.uint8)
    for index in np.argsort(-depth):
        u, v = places[index]
        cv2.circle(drawn, (int(u), int(v)), 1, [int(c) for c in colours[index]], -1)
    return drawn


def _firsts(reader: RecordingReader, info: RecordingInfo) -> dict[str, Reading]:
    wanted = {name for name, sensor in info.sensors.items() if sensor.count}
    found: dict[str, Reading] = {}
    for _, reading in reader.readings() if wanted else ():
        found.setdefault(reading.sensor, reading)
        if found.keys() >= wanted:
            break
    return found


def _describe(reading: Reading) -> str:
    payload = reading.payload
    if isinstance(payload, Image):
        height, width = payload.pixels.shape[:2]
        return f"{width}x{height} {payload.encoding}"
    if isinstance(payload, AudioChunk):
        return f"{payload.sample_rate_hz} Hz, chunks of {len(payload.pcm) / payload.sample_rate_hz * 1e3:.0f} ms"
    return f"{len(payload.points)} points"


def _report(inspection: Inspection) -> Iterator[str]:
    info = inspection.info
    task = f", task {info.task}" if info.task else ""
    yield f"{info.path}: {info.format}, {info.duration_ns / 1e9:.2f} s, {info.byte_size / 1e6:.2f} MB{task}"
    yield f"sha256 {info.content_sha256}"
    if info.damage:
        yield f"DAMAGED: {info.damage}"
    start = min((s.first_ns for s in info.sensors.values() if s.count), default=0)
    for name, sensor in info.sensors.items():
        yield from _sensor_lines(name, sensor, start, inspection)
    if info.truths:
        yield f"truth for {info.truths} moments"
    yield from _calibration_lines(info.rig)
    yield from (f"{key}: {value}" for key, value in sorted(info.notes.items()))
    if info.unread:
        yield f"not read: {', '.join(info.unread)}"


def _sensor_lines(name: str, sensor: SensorInfo, start_ns: int, inspection: Inspection) -> Iterator[str]:
    first, last = ((t - start_ns) / 1e9 for t in (sensor.first_ns, sensor.last_ns))
    megabytes = inspection.sizes.get(name, 0) / 1e6
    yield (
        f"  {name:<16} {sensor.modality:<7} {sensor.count:>6} at {sensor.rate_hz:6.2f} Hz  {first:8.3f}..{last:.3f} s  "
        f"{megabytes:8.2f} MB  {inspection.firsts.get(name, '')}"
    )
    for gap in sensor.gaps[:_GAPS_SHOWN]:
        yield f"    gap of about {gap.missing} readings after {(gap.after_ns - start_ns) / 1e9:.3f} s"
    if len(sensor.gaps) > _GAPS_SHOWN:
        yield f"    and {len(sensor.gaps) - _GAPS_SHOWN} more gaps"


def _calibration_lines(rig: Rig | None) -> Iterator[str]:
    if rig is None:
        yield "no calibration"
        return
    for name, camera in rig.cameras.items():
        x, y, z = camera.ego_from_camera[:3, 3]
        yield (
            f"  {name}: {camera.width}x{camera.height}, fx {camera.k[0, 0]:.1f} fy {camera.k[1, 1]:.1f} "
            f"cx {camera.k[0, 2]:.1f} cy {camera.k[1, 2]:.1f}, {camera.distortion.size} lens terms, "
            f"at ({x:.2f}, {y:.2f}, {z:.2f}) m"
        )
    for name, transform in rig.ego_from_lidar.items():
        x, y, z = transform[:3, 3]
        yield f"  {name}: at ({x:.2f}, {y:.2f}, {z:.2f}) m"
