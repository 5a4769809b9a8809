"""What the sensors of a file are called that does not name them."""

from __future__ import annotations

from fusion.task import Task
from fusion.types import Modality

CAMERA = "camera"
MICROPHONE = "microphone"
_NAMES = {Modality.CAMERA: CAMERA, Modality.SPEECH: MICROPHONE}


def sensor_name(task: Task | None, modality: Modality) -> str:
    """The task's only sensor of that modality, else `camera` or `microphone`."""
    known = task.of_modality(modality) if task else ()
    return known[0] if len(known) == 1 else _NAMES[modality]
