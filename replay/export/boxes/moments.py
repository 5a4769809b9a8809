"""What a data set calls the moments that a run's samples are of, and how large its pictures are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.recording.base import NamedReader, RecordingReader
from fusion.task import Task
from fusion.types import Image, Modality
from replay.results.records import ItemResult, RecordingResults, SampleResult

_MS = 1e-6


@dataclass(frozen=True, slots=True)
class Moments:
    """Names by time, ascending; empty where the recording has none."""

    times_ns: Sequence[int]
    names: Sequence[str]

    @classmethod
    def of(cls, reader: RecordingReader) -> Moments:
        """Those of an open recording."""
        found = sorted(reader.names().items()) if isinstance(reader, NamedReader) else []
        return cls([time for time, _ in found], [name for _, name in found])

    def nearest(self, time_ns: int, within_ns: int = 0) -> str | None:
        """The name of the moment closest to `time_ns`; None where none is within `within_ns`."""
        if not self.times_ns:
            return None
        index = int(np.argmin(np.abs(np.asarray(self.times_ns, np.int64) - time_ns)))
        return self.names[index] if abs(self.times_ns[index] - time_ns) <= within_ns else None


def sensor_time_ns(sample: SampleResult, sensor: str) -> int:
    """When the sample's reading of `sensor` was taken; the sample's own time where it had none."""
    return sample.time_ns - round(sample.ages_ms.get(sensor, 0.0) / _MS)


def first_camera(task: Task) -> str:
    """The camera that boxes are told in; empty for a task without."""
    return next(iter(task.of_modality(Modality.CAMERA)), "")


def picture_sizes(reader: RecordingReader, camera: str) -> Callable[[int], tuple[int, int]]:
    """Width and height of the picture of `camera` at a time, zeros where there is none; they are read if need be."""
    rig = reader.info().rig
    if rig and camera in rig.cameras:
        size = rig.cameras[camera].width, rig.cameras[camera].height
        return lambda _: size
    sizes = dict(_sizes(reader, camera))
    return lambda time_ns: sizes.get(time_ns, (0, 0))


def _sizes(reader: RecordingReader, camera: str) -> Iterator[tuple[int, tuple[int, int]]]:
    for _, reading in reader.readings():
        if reading.sensor == camera and isinstance(reading.payload, Image):
            height, width = reading.payload.pixels.shape[:2]
            yield reading.capture_time_ns, (width, height)


def items_by_sample(one: RecordingResults) -> Mapping[int, list[ItemResult]]:
    """Every item that was detected, by its sample's sequence."""
    found: dict[int, list[ItemResult]] = {sample.sequence: [] for sample in one.samples}
    for item in one.items:
        found.setdefault(item.sequence, []).append(item)
    return found


def tells_truth(one: RecordingResults) -> bool:
    """Whether the recording says what was true."""
    return any(sample.truths is not None for sample in one.samples)
