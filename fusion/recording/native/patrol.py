"""A simulated patrol, written as a native recording while it is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from fusion.errors import InputError, RecordingError
from fusion.geometry import Rig
from fusion.recording.native.writer import RecordingWriter
from fusion.types import AudioChunk, Image, PointCloud, Truth

MICROPHONE = "mic"
JPEG_QUALITY = 78
POINT_GRID_M = 1 / 64
"""Half a step, 8 mm, is well below a LiDAR's range noise; it more than halves a sweep on disk."""


class PatrolSample(Protocol):
    """One moment of a patrol with one camera, one LiDAR and one microphone."""

    @property
    def time_ns(self) -> int:
        """When picture and sweep were taken."""

    @property
    def image(self) -> Image:
        """The picture."""

    @property
    def cloud(self) -> PointCloud:
        """The sweep, in the LiDAR's frame."""

    @property
    def audio(self) -> AudioChunk:
        """The sound that ends at `time_ns` and begins where the last sample's ended."""

    @property
    def rig(self) -> Rig:
        """Where the sensors sit."""

    @property
    def truth(self) -> Truth:
        """What is true at `time_ns`."""


def record_patrol(
    samples: Iterator[PatrolSample],
    out: Path,
    total: int,
    *,
    task_name: str = "yard",
    jpeg_quality: int = JPEG_QUALITY,
    point_grid_m: float = POINT_GRID_M,
) -> None:
    """Write the samples as they come, with a progress bar of `total` frames; the first one's rig holds for all.

    Camera and LiDAR take their names from the rig. Raises `RecordingError` when there is no sample.
    """
    progress = iter(tqdm(samples, total=total, desc=out.name, unit="frame", disable=None))
    first = next(progress, None)
    if first is None:
        raise RecordingError(f"{out}: the patrol has no samples, so no file is made")
    camera, lidar = _only(list(first.rig.cameras), "camera"), _only(list(first.rig.ego_from_lidar), "LiDAR")
    with RecordingWriter(
        out, first.rig, task_name, jpeg_quality=jpeg_quality, point_grid_m=point_grid_m, notes={"source": "simulated"}
    ) as writer:
        sample: PatrolSample | None = first
        while sample is not None:
            _write(writer, sample, camera, lidar)
            sample = next(progress, None)


def _write(writer: RecordingWriter, sample: PatrolSample, camera: str, lidar: str) -> None:
    length_ns = round(len(sample.audio.pcm) * 1e9 / sample.audio.sample_rate_hz)
    if length_ns > sample.time_ns:
        raise InputError(f"the sound of the sample at {sample.time_ns} ns begins {length_ns} ns earlier, before time 0")
    writer.audio(MICROPHONE, sample.time_ns - length_ns, sample.audio)
    writer.lidar(lidar, sample.time_ns, sample.cloud)
    writer.camera(camera, sample.time_ns, sample.image)
    writer.truth(sample.truth)


def _only(names: list[str], what: str) -> str:
    if len(names) != 1:
        raise InputError(f"a patrol has one {what}; its rig has {len(names)}")
    return names[0]
