"""How large the pictures are that a detector takes: every side a multiple of a cell of its coarsest map."""

from __future__ import annotations

from fusion.codec import MAX_SIDE
from fusion.errors import ConfigError
from fusion.task import Task
from fusion.training.detection.architectures import STRIDES
from fusion.types import Modality

MULTIPLE = STRIDES[-1]


def input_size(task: Task) -> tuple[int, int]:
    """Width and height of the exported graph's input: the first camera's, each rounded up to a multiple of 32.

    A device fits every picture into that, in its own proportions, and boxes come back in pixels of the picture. Raises
    `ConfigError` for a task that has no camera, or one whose size no detector takes.
    """
    cameras = task.of_modality(Modality.CAMERA)
    if not cameras:
        raise ConfigError(
            f"task {task.name} has no camera, and a detector reads pictures; give it a camera in [sensors]"
        )
    camera = task.sensors[cameras[0]]
    width, height = _rounded_up(camera.width), _rounded_up(camera.height)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ConfigError(
            f"task {task.name}: its camera {cameras[0]} has {camera.width}x{camera.height} pixels; a detector needs a "
            f"width and a height from 1 to {MAX_SIDE}; give them in [sensors.{cameras[0]}]"
        )
    return width, height


def check_image_size(side: int) -> None:
    """Raise `ConfigError` unless training pictures may have this side: the trainer would use another, and measuring
    what was trained would fail.
    """
    if side < 1 or side % MULTIPLE:
        raise ConfigError(f"--image-size {side}: give a multiple of {MULTIPLE}, as {max(MULTIPLE, _rounded_up(side))}")


def _rounded_up(side: int) -> int:
    return -(-side // MULTIPLE) * MULTIPLE
