"""What a recording shows at the moments a report asks for, read in one forward pass with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from fusion.geometry import CameraCalibration, Rig, apply
from fusion.recording.base import RecordingReader
from fusion.task import Task
from fusion.types import Float32Array, Image, Modality, PointCloud, Reading, Truth

NEAR_NS = 60_000_000
"""A reading or truth this far from the asked moment is still that moment's."""
_LONG_AGO_NS = -(1 << 62)
_Timed = TypeVar("_Timed")


@dataclass(frozen=True, slots=True, eq=False)
class FrameView:
    """One moment of a recording.

    `points` (N, 4) float32: x, y, z in metres in the ego frame, intensity 0..1; None without a LiDAR.
    `calibration` belongs to `camera`, the sensor `image` is of.
    """

    time_ns: int
    camera: str
    image: Image | None
    points: Float32Array | None = None
    truth: Truth | None = None
    calibration: CameraCalibration | None = None

    @property
    def transcript(self) -> str:
        """What was said in the utterance still in effect; empty when nobody spoke, or without truth."""
        return self.truth.transcript if self.truth else ""


@dataclass(slots=True)
class _Track(Generic[_Timed]):
    """The last few values of one stream, around the moment asked for."""

    recent: deque[tuple[int, _Timed]] = field(default_factory=deque)

    def add(self, time_ns: int, value: _Timed) -> None:
        self.recent.append((time_ns, value))

    def nearest(self, time_ns: int) -> _Timed | None:
        """The value closest to `time_ns`, None if none is near; older ones are let go."""
        while self.recent and self.recent[0][0] < time_ns - NEAR_NS:
            self.recent.popleft()
        near = [(abs(at - time_ns), index) for index, (at, _) in enumerate(self.recent) if at - time_ns <= NEAR_NS]
        return self.recent[min(near)[1]][1] if near else None


class FrameIndex:
    """Looks up a recording by sample time.

    Ask in rising order: each stream then moves forward once, holding a fraction of a second. A step back
    starts over. Only the task's first camera and its LiDARs are kept.
    """

    def __init__(self, reader: RecordingReader, task: Task) -> None:
        self._reader = reader
        self._rig: Rig | None = reader.info().rig
        self._camera = next(iter(task.of_modality(Modality.CAMERA)), "")
        self._lidars = task.of_modality(Modality.LIDAR)
        self._asked_ns = _LONG_AGO_NS
        self._start()

    def __call__(self, time_ns: int) -> FrameView | None:
        """The view at `time_ns`; None when the recording holds nothing near it."""
        if time_ns < self._asked_ns:
            self._start()
        self._asked_ns = time_ns
        self._read_to(time_ns + NEAR_NS)
        picture = self._streams[self._camera].nearest(time_ns) if self._camera else None
        image = picture.payload if picture and isinstance(picture.payload, Image) else None
        points, truth = self._points(time_ns), self._truths.nearest(time_ns)
        if image is None and points is None and truth is None:
            return None
        calibration = self._rig.cameras.get(self._camera) if self._rig else None
        return FrameView(time_ns, self._camera, image, points, truth, calibration)

    def _start(self) -> None:
        self._streams: dict[str, _Track[Reading]] = {name: _Track() for name in (self._camera, *self._lidars) if name}
        self._truths: _Track[Truth] = _Track()
        self._readings = self._relevant()
        self._truth_source: Iterator[Truth] = self._reader.truth()
        self._read_ns = self._truth_ns = _LONG_AGO_NS

    def _relevant(self) -> Iterator[Reading]:
        return (reading for _, reading in self._reader.readings() if reading.sensor in self._streams)

    def _read_to(self, until_ns: int) -> None:
        while self._read_ns <= until_ns:
            reading = next(self._readings, None)
            if reading is None:
                break
            self._read_ns = reading.capture_time_ns
            if self._read_ns >= self._asked_ns - NEAR_NS:
                self._streams[reading.sensor].add(self._read_ns, reading)
        while self._truth_ns <= until_ns:
            truth = next(self._truth_source, None)
            if truth is None:
                break
            self._truth_ns = truth.time_ns
            if self._truth_ns >= self._asked_ns - NEAR_NS:
                self._truths.add(self._truth_ns, truth)

    def _points(self, time_ns: int) -> Float32Array | None:
        sweeps = []
        for name in self._lidars:
            reading = self._streams[name].nearest(time_ns)
            if reading and isinstance(reading.payload, PointCloud):
                sweeps.append(self._in_ego(name, reading.payload.points))
        return np.concatenate(sweeps) if sweeps else None

    def _in_ego(self, lidar: str, points: Float32Array) -> Float32Array:
        transform = self._rig.ego_from_lidar.get(lidar) if self._rig else None
        if transform is None:
            return points
        moved = points.copy()
        moved[:, :3] = apply(transform, points[:, :3].astype(np.float64))
        return moved
