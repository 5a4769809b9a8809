"""Readings, and what a sample is made of. Absence is a value, never a zero-filled array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.types.identity import SampleId

if TYPE_CHECKING:
    from fusion.geometry import Rig

UInt8Array: TypeAlias = NDArray[np.uint8]
UInt16Array: TypeAlias = NDArray[np.uint16]
Int8Array: TypeAlias = NDArray[np.int8]
Int16Array: TypeAlias = NDArray[np.int16]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]


class Modality(StrEnum):
    """The kinds of sensor the stack fuses."""

    CAMERA = "camera"
    LIDAR = "lidar"
    SPEECH = "speech"


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A picture. `pixels` (H, W, 3) uint8, RGB; `encoded` holds the bytes it was decoded from, if any."""

    pixels: UInt8Array
    encoded: bytes | None = None
    encoding: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud:
    """A sweep. `points` (N, 4) float32: x, y, z in metres in the sensor's frame, intensity in 0..1.

    Where they are known: `offsets_s` (N,) float32 when each point was measured, in seconds from the reading's
    capture time, negative before it; `labels` (N,) uint16 the dataset's own class number of each point (truth).
    """

    points: Float32Array
    offsets_s: Float32Array | None = None
    labels: UInt16Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """A stretch of sound. `pcm` (n,) int16, mono; the reading's time is that of its first sample."""

    pcm: Int16Array
    sample_rate_hz: int


Payload: TypeAlias = Image | PointCloud | AudioChunk


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One sensor's delivery. `capture_time_ns` is integer nanoseconds of the recording's or device's clock."""

    sensor: str
    modality: Modality
    capture_time_ns: int
    payload: Payload


class Availability(StrEnum):
    """Whether a sensor is there for a sample."""

    PRESENT = "present"
    LATE = "late"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, eq=False)
class SensorSlot:
    """One sensor's part of a sample: a reading with its age, or none at all.

    `age_ns` is sample time minus capture time; it is 0 and meaningless when absent.
    """

    availability: Availability
    age_ns: int = 0
    reading: Reading | None = None

    @classmethod
    def absent(cls) -> SensorSlot:
        """The slot of a sensor that is not there."""
        return cls(Availability.ABSENT)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One time-aligned set of sensor readings.

    `slots` has one entry for every sensor of the task, by sensor name. `rig` says where the sensors
    sit, None when the source has no calibration; `source_cursor` is the source's position after this sample.
    """

    id: SampleId
    time_ns: int
    slots: Mapping[str, SensorSlot]
    rig: Rig | None
    source_cursor: int
