"""What a training frame of a driving recording is: its shapes, and what of the recording goes into it."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.errors import ConfigError
from fusion.preparation.surround import InputSize
from fusion.preparation.sweeps import OwnBody
from fusion.task import Task


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """Shapes of a frame: V cameras of `width` x `height` pixels, P `points` of up to `sweeps` sweeps, T `truths`.

    `lower` as in `InputSize`. Points beyond `reach_m` metres from the ego frame along x or y are left out, and, with
    `in_view`, those to the side of every picture: for data that is labelled only where the camera looks. `body` is
    the own vehicle. `compensate` says whether known motion since a reading is taken out.
    """

    width: int
    height: int
    points: int
    sweeps: int
    truths: int
    classes: tuple[str, ...]
    lower: float = 1.0
    reach_m: float = 60.0
    in_view: bool = False
    body: OwnBody | None = None
    compensate: bool = True

    @property
    def image_size(self) -> InputSize:
        """The input of each camera; raises `InputError` for sizes that cells do not fill."""
        return InputSize(self.width, self.height, self.lower)


def nuscenes_spec(task: Task) -> FrameSpec:
    """Frames of nuScenes as BEVFusion (Liu et al. 2023) has them: small pictures without sky, half a second of sweeps.

    The vehicle is a Renault Zoe, its ego frame under the rear axle.
    """
    body = OwnBody((-0.8, -0.95, 0.0), (3.4, 0.95, 2.0))
    return FrameSpec(704, 256, 65_536, 10, 192, task.classes, body=body)


def kitti_spec(task: Task) -> FrameSpec:
    """Frames of KITTI: one sweep, and only what the camera's labels cover.

    The vehicle is a Volkswagen Passat B6 estate, its ego frame under the LiDAR.
    """
    body = OwnBody((-1.9, -0.95, 0.0), (2.9, 0.95, 1.9))
    return FrameSpec(832, 256, 32_768, 1, 48, task.classes, reach_m=72.0, in_view=True, body=body)


_SPECS = {"kitti": kitti_spec, "nuscenes": nuscenes_spec}


def frame_spec(task: Task) -> FrameSpec:
    """The spec of a task's own name. Raises `ConfigError` for a task that has none."""
    if task.name not in _SPECS:
        raise ConfigError(f"no frames are described for task {task.name}; there are: {', '.join(_SPECS)}")
    return _SPECS[task.name](task)
