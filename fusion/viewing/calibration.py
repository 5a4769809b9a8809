"""Whether a recording tells where its sensors sit: without that nothing can be fused."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fusion.errors import RecordingError
from fusion.geometry import Rig
from fusion.recording.base import RecordingInfo
from fusion.task import Task
from fusion.types import Modality


def check_calibration(
    info: RecordingInfo, task: Task, withheld: Collection[str], named: Callable[[str], str] = str
) -> Rig:
    """The rig. Raises `RecordingError` when a camera or LiDAR of the task that is read has no place in it.

    `named` says what the task calls a sensor of the recording.
    """
    rig = info.rig or Rig({}, {})
    for name, sensor in info.sensors.items():
        known = rig.cameras if sensor.modality is Modality.CAMERA else rig.ego_from_lidar
        mine = task.sensors.get(named(name))
        if mine is None or mine.modality is not sensor.modality or sensor.modality is Modality.SPEECH:
            continue
        if sensor.count and name not in known and named(name) not in withheld:
            raise RecordingError(
                f"{info.path}: no calibration of {sensor.modality} {name!r} in it, and a fusion model needs one; "
                f"convert it with its calibration, or leave the sensor out by --without {named(name)}"
            )
    return rig
