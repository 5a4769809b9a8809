"""A recording that a small file describes: the first moments of another one again and again, with rising times.

    {"recording": "yard.mcap", "moments": 10, "gigabytes": 50, "scale": 2}

Pictures are enlarged and kept decoded, as an uncompressed camera gives them, and what the device is handed is counted
in decoded bytes. Every tenth lap its things are new ones, so that defects become more as on a long drive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from fusion.geometry import Rig
from fusion.recording import open_recording
from fusion.recording.base import RecordingInfo, SensorInfo
from fusion.task import Task
from fusion.types import AudioChunk, Box2D, Image, Payload, PointCloud, Reading, Truth, TruthObject

STEP_NS = 100_000_000
LAPS_OF_A_THING = 10


@dataclass
class LoopedReader:
    """See `fusion.recording.base.RecordingReader`."""

    path: Path
    recording: Path
    moments: int
    gigabytes: float
    scale: int

    @staticmethod
    def can_read(path: Path) -> bool:
        """A file called `.looped`."""
        return path.suffix == ".looped"

    @classmethod
    def open(cls, path: Path, task: Task | None, split: str | None, *, salvage: bool) -> Self:
        """Read what `path` describes."""
        del task, split, salvage
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(path, Path(told["recording"]), told["moments"], told["gigabytes"], told["scale"])

    @cached_property
    def lap(self) -> list[Reading]:
        """The readings of one lap."""
        source = open_recording(self.recording)
        found = []
        for _, reading in source.readings():
            if not found:
                first = reading.capture_time_ns
            if reading.capture_time_ns >= first + self.lap_ns:
                break
            found.append(replace(reading, payload=self._enlarged(reading.payload)))
        return found

    @cached_property
    def truths(self) -> list[Truth]:
        """The truths of one lap."""
        ends = self.lap[0].capture_time_ns + self.lap_ns
        return [truth for truth in open_recording(self.recording).truth() if truth.time_ns < ends]

    @property
    def lap_ns(self) -> int:
        """How long a lap is."""
        return self.moments * STEP_NS

    @cached_property
    def laps(self) -> int:
        """How many there are."""
        return max(1, round(self.gigabytes * 1e9 / sum(byte_size(reading.payload) for reading in self.lap)))

    def info(self) -> RecordingInfo:
        """See `RecordingReader`."""
        return self._info

    @cached_property
    def _info(self) -> RecordingInfo:
        source = open_recording(self.recording).info()
        ends = self.lap[-1].capture_time_ns + (self.laps - 1) * self.lap_ns
        sensors = {
            name: SensorInfo(sensor.modality, name, self.laps * self.moments, sensor.first_ns, ends, 10.0, ())
            for name, sensor in source.sensors.items()
        }
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        rig, size = self._rig(source.rig), round(self.gigabytes * 1e9)
        return RecordingInfo(
            self.path, "looped", content, size, source.task, sensors, rig, self.laps * self.moments, {}
        )

    def sizes(self) -> Mapping[str, int]:
        """See `RecordingReader`."""
        return {}

    def readings(self, start_cursor: int = 0) -> Iterator[tuple[int, Reading]]:
        """See `RecordingReader`."""
        cursor = 0
        for lap in range(self.laps):
            for reading in self.lap:
                cursor += 1
                if cursor > start_cursor:
                    yield cursor, replace(reading, capture_time_ns=reading.capture_time_ns + lap * self.lap_ns)

    def truth(self) -> Iterator[Truth]:
        """See `RecordingReader`."""
        for lap in range(self.laps):
            for truth in self.truths:
                things = tuple(self._thing(thing, lap) for thing in truth.objects)
                yield replace(truth, time_ns=truth.time_ns + lap * self.lap_ns, objects=things)

    def _thing(self, thing: TruthObject, lap: int) -> TruthObject:
        box, track = thing.box2d, thing.track + 1000 * (lap // LAPS_OF_A_THING)
        larger = Box2D(*(self.scale * side for side in (box.x1, box.y1, box.x2, box.y2))) if box else None
        return replace(thing, track=track, box2d=larger)

    def _enlarged(self, payload: Payload) -> Payload:
        if not isinstance(payload, Image):
            return payload
        height, width = payload.pixels.shape[:2]
        pixels = cv2.resize(payload.pixels, (width * self.scale, height * self.scale), interpolation=cv2.INTER_LINEAR)
        return Image(np.ascontiguousarray(pixels))

    def _rig(self, rig: Rig | None) -> Rig | None:
        if rig is None:
            return None
        cameras = {}
        for name, camera in rig.cameras.items():
            k = camera.k.copy()
            k[:2] *= self.scale
            larger: dict[str, Any] = {"width": camera.width * self.scale, "height": camera.height * self.scale}
            cameras[name] = replace(camera, k=k, **larger)
        return replace(rig, cameras=cameras)


def byte_size(payload: Payload) -> int:
    """Decoded bytes of a reading."""
    if isinstance(payload, Image):
        return payload.pixels.nbytes
    if isinstance(payload, PointCloud):
        return payload.points.nbytes
    return payload.pcm.nbytes if isinstance(payload, AudioChunk) else 0
