"""What the simulator hands out, and the rule that says what to do about an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fusion.geometry import Rig
from fusion.types import AudioChunk, Image, PointCloud, Truth


class Split(StrEnum):
    """Where a sample belongs. `TEST` parameters occur in no other; `VAL` is drawn like `TRAIN` from other seeds."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedSample:
    """One moment of the yard.

    `image` is (384, 640, 3) RGB of camera `front`; `cloud` is in the frame of LiDAR `roof`, beams without
    a return left out; `audio` is 16 kHz and ends at `time_ns`: 3.0 s for a scene, the 100 ms since the
    previous frame for a patrol. `truth` is in the ego frame. `notes` tell lighting, weather, nuisance
    controls and, by track, the sensor an object's condition can be told from.
    """

    time_ns: int
    image: Image
    cloud: PointCloud
    audio: AudioChunk
    rig: Rig
    truth: Truth
    notes: Mapping[str, object]


_BY_CONDITION = {"leaking": "contain", "dented": "repair", "broken": "repair", "toppled": "upright"}


def action_for(label: str, condition: str, asked: bool) -> str:
    """What should be done about an object: an option of the slot `action` of the task `yard`."""
    if condition == "obstructing":
        return "stop" if label == "person" else "clear"
    if condition in _BY_CONDITION:
        return _BY_CONDITION[condition]
    return "report" if asked else "none"
