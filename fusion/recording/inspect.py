"""What a recording holds, told to a person: sensors, rates, gaps, sizes, calibration, and a picture to check it by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fusion.errors import InputError, RecordingError
from fusion.geometry import Rig
from fusion.recording.base import RecordingInfo, RecordingReader, SensorInfo, open_recording
from fusion.recording.part_file import part_file
from fusion.recording.picture import draw_from_above, draw_projection
from fusion.task import Task
from fusion.types import AudioChunk, Image, Modality, PointCloud, Reading

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


def projection_picture(
    path: Path,
    out_png: Path,
    *,
    at_s: float = 0.0,
    camera: str | None = None,
    task: Task | None = None,
    split: str | None = None,
    salvage: bool = False,
) -> str:
    """Write a PNG of the first picture from `at_s` seconds on, with the LiDAR points of its moment drawn into it.

    The picture is of `camera`, or of the calibrated camera that looks most to the front. A recording without cameras
    is shown from above instead. Says in a few words what was drawn. Raises `RecordingError` when there is nothing to
    draw: no LiDAR, no calibration of the two, or a picture of another size than the calibration is for.
    """
    reader = open_recording(path, task, split, salvage=salvage)
    info = reader.info()
    rig = info.rig or Rig({}, {})
    lidars = [name for name, sensor in info.sensors.items() if sensor.modality is Modality.LIDAR and sensor.count]
    cameras = [name for name, sensor in info.sensors.items() if sensor.modality is Modality.CAMERA and sensor.count]
    if lidars and not cameras and camera is None:
        sweep = _sweep_at(reader, lidars[0], at_s)
        place = rig.ego_from_lidar.get(sweep.sensor, np.eye(4))
        drawn, told = draw_from_above(_cloud(sweep), place), f"{sweep.sensor} from above"
    else:
        chosen = _camera(path, rig, cameras, camera)
        picture, sweep = _pair(reader, rig, chosen, at_s)
        assert isinstance(picture.payload, Image)
        place = rig.ego_from_lidar[sweep.sensor]
        try:
            rig.cameras[chosen].check_picture(chosen, picture.payload.pixels)
        except InputError as error:
            raise RecordingError(f"{path}: {error}") from None
        drawn = draw_projection(picture.payload.pixels, _cloud(sweep), rig.cameras[chosen], place)
        told = f"{sweep.sensor} in {chosen}"
    done, png = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    if not done:
        raise RecordingError(f"{out_png}: the picture cannot be encoded")
    with part_file(out_png) as file:
        file.write(png.tobytes())
    return told


def _camera(path: Path, rig: Rig, cameras: Sequence[str], wanted: str | None) -> str:
    """The camera to draw into: `wanted`, or the one that looks most to the front."""
    usable = [name for name in rig.cameras if name in cameras] if rig.ego_from_lidar else []
    if not usable:
        raise RecordingError(f"{path}: no calibrated camera and LiDAR in it, so nothing can be projected")
    if wanted is not None and wanted not in usable:
        raise RecordingError(f"{path}: no calibrated camera '{wanted}' in it; there are: {', '.join(usable)}")
    return wanted or max(usable, key=lambda name: round(rig.cameras[name].ego_from_camera[0, 2], 2))


def _cloud(sweep: Reading) -> PointCloud:
    assert isinstance(sweep.payload, PointCloud)
    return sweep.payload


def _sweep_at(reader: RecordingReader, lidar: str, at_s: float) -> Reading:
    """The first sweep of `lidar` from `at_s` on."""
    start_ns = None
    for _, reading in reader.readings():
        start_ns = reading.capture_time_ns if start_ns is None else start_ns
        if reading.sensor == lidar and reading.capture_time_ns >= start_ns + round(at_s * 1e9):
            return reading
    raise RecordingError(f"{reader.path}: no sweep of {lidar} from second {at_s:g} on")


def _pair(reader: RecordingReader, rig: Rig, camera: str, at_s: float) -> tuple[Reading, Reading]:
    """The first reading of `camera` from `at_s` on and the sweep nearest to it."""
    picture = sweep = start_ns = None
    for _, reading in reader.readings():
        start_ns = reading.capture_time_ns if start_ns is None else start_ns
        if reading.sensor in rig.ego_from_lidar and _nearer(reading, sweep, picture):
            sweep = reading
        if picture is None and reading.sensor == camera and reading.capture_time_ns >= start_ns + round(at_s * 1e9):
            picture = reading
        if picture and sweep and reading.capture_time_ns > picture.capture_time_ns + _PAIRED_NS:
            break
    if picture is None or sweep is None:
        raise RecordingError(f"{reader.path}: no picture of {camera} with a sweep beside it from second {at_s:g} on")
    return picture, sweep


def _nearer(reading: Reading, sweep: Reading | None, picture: Reading | None) -> bool:
    if sweep is None or picture is None:
        return True
    moment = picture.capture_time_ns
    return abs(reading.capture_time_ns - moment) < abs(sweep.capture_time_ns - moment)


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
