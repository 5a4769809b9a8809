"""Recordings of road traffic as frames that a bird's-eye-view model learns from: plain arrays, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.geometry import Rig
from fusion.preparation.boxes import BOX3D_SIZE, box3d_vector
from fusion.preparation.ego_motion import EgoMotion
from fusion.preparation.surround import Surround, surround
from fusion.preparation.sweeps import merge_sweeps
from fusion.recording.base import PosedReader, open_recording
from fusion.task import Task
from fusion.training.driving.plan import Entry, PlannedFrame, plan_frames
from fusion.training.driving.spec import FrameSpec
from fusion.types import BoolArray, Float32Array, Float64Array, Image, Modality, Reading, Truth

Frame: TypeAlias = dict[str, NDArray[Any]]
"""One frame, without batch axis; `DrivingFrames` tells the keys."""


class DrivingFrames(Sequence[Frame]):
    """A recording as frames, dictionaries of arrays.

    - `images` (V, 3, H, W) uint8, `rays` (V, N, 48), `image_from_ego` (V, 3, 4), `camera_available` (V,) bool,
      `camera_age` (V,) seconds: as in `Surround`, cameras in the task's order;
    - `points` (P, 5): x y z metres in the ego frame, intensity 0..1, seconds before the frame, at most 0;
      `points_valid` (P,) bool, `lidar_available` () bool, `lidar_age` () seconds of the newest sweep;
    - `truth_label` (T,) int64, an index of `spec.classes`, -1 for padding; `truth_box3d` (T, 8) as `box3d_vector`;
      `truth_velocity` (T, 2) m/s over ground along the ego frame's x and y; `truth_has_velocity` (T,) bool;
      `truth_count` () int64; `has_truth` () bool: False where nobody told what is there.

    All other numbers are float32, all boxes in the ego frame of the frame's time. Truth of labels that are no class
    is left out; of more than T boxes those nearest are kept. `uncompensated` past sweeps and pictures so far were
    taken as if the vehicle stood still, because the recording does not tell how it moved.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        spec: FrameSpec,
        split: str | None = None,
        *,
        every: bool = False,
        quiet: bool = False,
    ) -> None:
        """Open `path` and find its frames; `every` as in `plan_frames`, without a progress bar if `quiet`.

        Raises `RecordingError`, and `InputError` without the task's sensors.
        """
        self.path, self.spec, self.task, self._size = path, spec, task, spec.image_size
        self._reader = open_recording(path, task, split)
        self.info = info = self._reader.info()
        self._rig = info.rig or Rig({}, {})
        self.cameras, lidars = task.of_modality(Modality.CAMERA), task.of_modality(Modality.LIDAR)
        self.lidar = lidars[0] if lidars else None
        self.plan = plan_frames(self._reader, info, task, every=every, quiet=quiet)
        self._motion = EgoMotion()
        if spec.compensate and isinstance(self._reader, PosedReader):
            self._motion = EgoMotion.of((pose.time_ns, pose.map_from_ego) for pose in self._reader.poses())
        self.uncompensated = 0

    def __len__(self) -> int:
        return len(self.plan.frames)

    def __getitem__(self, index: Any) -> Any:
        """The frame `index` as it was, or a list of frames for a slice."""
        if isinstance(index, slice):
            return [self.frame(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self.frame(index % len(self))

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(index) for index in range(len(self)))

    @property
    def lidar_place(self) -> Float64Array:
        """Where the LiDAR sits in the ego frame, (3,) metres; the origin where that is not known."""
        return np.asarray(self._ego_from_lidar[:3, 3])

    def frame(self, index: int, delays_s: Mapping[str, float] | None = None) -> Frame:
        """Frame `index`; a sensor in `delays_s` is heard that many seconds late, with the data it had then.

        A sensor without an earlier reading no older than a second keeps the one it has.
        """
        planned = self.plan.frames[index]
        entries = {name: self._delayed(planned, name, (delays_s or {}).get(name, 0.0)) for name in planned.entries}
        seen = self._surround(planned, entries)
        points, sweep_age = self._points(planned, entries)
        if self.spec.in_view and seen.available.any():
            points = points[_in_view(points, seen.image_from_ego[seen.available])]
        return {
            "images": seen.images,
            "rays": seen.rays,
            "image_from_ego": seen.image_from_ego,
            "camera_available": seen.available,
            "camera_age": seen.age,
            **_points_arrays(points, self.spec.points),
            "lidar_available": np.array(sweep_age is not None),
            "lidar_age": np.array(sweep_age or 0.0, np.float32),
            **_truth_arrays(planned.truth, self.spec),
        }

    def _delayed(self, planned: PlannedFrame, name: str, delay_s: float) -> Entry:
        own = planned.entries[name]
        if delay_s <= 0:
            return own
        latest = planned.time_ns - round(delay_s * 1e9)
        earlier = self.plan.until(name, min(latest, own.time_ns), 1, planned)
        return earlier[0] if earlier else own

    def _surround(self, planned: PlannedFrame, entries: Mapping[str, Entry]) -> Surround:
        pictures, calibrations, moved = {}, {}, {}
        for name in self.cameras:
            entry = entries.get(name)
            if entry is None or entry.sensor not in self._rig.cameras:
                continue
            image = self._load(entry).payload
            assert isinstance(image, Image)
            pictures[name] = (image.pixels, _age_s(planned, entry))
            calibrations[name] = self._rig.cameras[entry.sensor]
            transform = self._motion.moved(planned.time_ns, entry.time_ns)
            if transform is None:
                self.uncompensated += 1
            elif entry.time_ns != planned.time_ns:
                moved[name] = transform
        return surround(self.cameras, calibrations, pictures, self._size, moved)

    def _points(self, planned: PlannedFrame, entries: Mapping[str, Entry]) -> tuple[Float32Array, float | None]:
        """The points (n, 5) in reach, and the age in seconds of the newest sweep, None without one."""
        if self.lidar is None or self.lidar not in entries:
            return np.zeros((0, 5), np.float32), None
        newest = entries[self.lidar]
        past = (
            self.plan.until(self.lidar, newest.time_ns - 1, self.spec.sweeps - 1, planned)
            if self.spec.sweeps > 1
            else ()
        )
        sweeps = [self._load(entry) for entry in (newest, *past)]
        merged = merge_sweeps(sweeps, self._ego_from_lidar, planned.time_ns, self._motion, body=self.spec.body)
        self.uncompensated += merged.uncompensated
        near = (np.abs(merged.points[:, :2]) <= self.spec.reach_m).all(axis=1)
        return merged.points[near], _age_s(planned, newest)

    @property
    def _ego_from_lidar(self) -> Float64Array:
        return self._rig.ego_from_lidar.get(self.lidar or "", np.eye(4))

    def _load(self, entry: Entry) -> Reading:
        cursor, reading = next(self._reader.readings(entry.cursor - 1), (0, None))
        if reading is None or cursor != entry.cursor:
            raise InputError(f"{self._reader.path}: reading {entry.cursor} of {entry.sensor} is gone; was it changed?")
        return reading


def _age_s(planned: PlannedFrame, entry: Entry) -> float:
    return max(0, planned.time_ns - entry.time_ns) / 1e9


def _in_view(points: Float32Array, image_from_ego: Float32Array) -> BoolArray:
    """Which of `points` (n, 5) lie between the left and right edge of one of the pictures (V, 3, 4): (n,)."""
    u, _, d = (
        np.einsum("vij,nj->ivn", image_from_ego[:, :, :3], points[:, :3]) + image_from_ego.transpose(1, 0, 2)[..., 3:]
    )
    return np.asarray(((d > 0) & (u >= 0) & (u < d)).any(axis=0))


def _points_arrays(points: Float32Array, most: int) -> Frame:
    """`points` (n, 5), every n-th when they are more than `most`, padded."""
    if len(points) > most:
        points = points[np.arange(most, dtype=np.int64) * len(points) // most]
    table = np.zeros((most, 5), np.float32)
    table[: len(points)] = points
    return {"points": table, "points_valid": np.arange(most) < len(points)}


def _truth_arrays(truth: Truth | None, spec: FrameSpec) -> Frame:
    objects = [o for o in (truth.objects if truth else ()) if o.box3d is not None and o.label in spec.classes]
    objects.sort(key=lambda o: np.hypot(o.box3d.x, o.box3d.y) if o.box3d else np.inf)
    label = np.full(spec.truths, -1, np.int64)
    boxes, velocity = np.zeros((spec.truths, BOX3D_SIZE), np.float32), np.zeros((spec.truths, 2), np.float32)
    told = np.zeros(spec.truths, np.bool_)
    for row, one in enumerate(objects[: spec.truths]):
        assert one.box3d is not None
        label[row], boxes[row] = spec.classes.index(one.label), box3d_vector(one.box3d)
        told[row] = one.velocity is not None and bool(np.isfinite(one.velocity).all())
        velocity[row] = one.velocity if told[row] else 0.0
    return {
        "truth_label": label,
        "truth_box3d": boxes,
        "truth_velocity": velocity,
        "truth_has_velocity": told,
        "truth_count": np.array(min(len(objects), spec.truths), np.int64),
        "has_truth": np.array(truth is not None),
    }
